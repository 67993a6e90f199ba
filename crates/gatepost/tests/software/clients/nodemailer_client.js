// Sends one message by nodemailer, as an application would; exit code 1 tells what stopped it.

const fs = require("fs");
const nodemailer = require("nodemailer");

const [source, port, login, password, certificate, from, to, file] = process.argv.slice(2);
const isProtected = login !== "-";
const transport = nodemailer.createTransport({
  host: "localhost",
  port: Number(port),
  name: "client.example",
  localAddress: source,
  ignoreTLS: !isProtected,
  requireTLS: isProtected,
  tls: isProtected ? { ca: fs.readFileSync(certificate) } : undefined,
  auth: isProtected ? { user: login, pass: password } : undefined,
});

transport
  .sendMail({ envelope: { from, to: [to] }, raw: fs.readFileSync(file) })
  .catch((refused) => {
    console.error(refused.rejectedErrors?.map((error) => error.response).join("\n") ?? refused.response ?? refused);
    process.exitCode = 1;
  });
