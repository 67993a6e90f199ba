"""Sends one message by Python's smtplib, as an application would; exit code 1 tells what stopped it."""

import smtplib
import ssl
import sys

source, port, login, password, certificate, sender, recipient, file = sys.argv[1:]
try:
    with smtplib.SMTP("localhost", int(port), "client.example", source_address=(source, 0)) as client:
        client.ehlo()
        if login != "-":
            client.starttls(context=ssl.create_default_context(cafile=certificate))
            client.login(login, password)
        with open(file, "rb") as message:
            client.sendmail(sender, [recipient], message.read())
except smtplib.SMTPRecipientsRefused as refused:
    for code, text in refused.recipients.values():
        sys.exit(f"{code} {text.decode()}")
except smtplib.SMTPResponseException as refused:
    sys.exit(f"{refused.smtp_code} {refused.smtp_error.decode()}")
