"""Sends one message by aiosmtplib, as an application would; exit code 1 tells what stopped it."""

import asyncio
import sys

import aiosmtplib

source, port, login, password, certificate, sender, recipient, file = sys.argv[1:]


async def main():
    protected = login != "-"
    client = aiosmtplib.SMTP(
        hostname="localhost",
        port=int(port),
        local_hostname="client.example",
        source_address=(source, 0),
        start_tls=protected,
        cert_bundle=certificate if protected else None,
        username=login if protected else None,
        password=password if protected else None,
    )
    with open(file, "rb") as message:
        async with client:
            await client.sendmail(sender, [recipient], message.read())


try:
    asyncio.run(main())
except aiosmtplib.SMTPRecipientsRefused as refused:
    for recipient_refused in refused.recipients:
        sys.exit(f"{recipient_refused.code} {recipient_refused.message}")
except aiosmtplib.SMTPResponseException as refused:
    sys.exit(f"{refused.code} {refused.message}")
