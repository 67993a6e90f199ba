//! SMTP as pure state machines: bytes in, bytes out, no socket, no clock, no policy.
//!
//! Line and dot framing, commands, SASL exchanges and TLS, for both sides of a connection. Only CRLF
//! ends a line and only CRLF.CRLF a message; every buffer is bounded; a peer that does not keep to
//! the protocol is told so and, past a budget, closed. Nothing here fails for want of the environment.

pub mod client;
mod command;
mod data;
#[cfg(fuzzing)]
pub mod fuzz;
mod line;
pub mod proxy;
mod sasl;
pub mod scram;
pub mod server;
mod tls;
mod xclient;
