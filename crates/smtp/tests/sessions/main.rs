//! The sessions in memory: the server with scripted dialogs and with every way to smuggle, the client
//! against scripts and against the server, in cleartext and under TLS.

mod client;
mod dialogs;
mod handler;
mod limits;
mod pair;
mod smuggling;
mod tls;
