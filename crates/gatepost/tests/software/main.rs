//! Relay control with what users have on the other side: the mail programs and libraries that
//! submit, and the servers that stand before a gateway or beside it.

mod clients;
mod dovecot;
mod haproxy;
#[path = "../rows/house.rs"]
#[allow(dead_code, reason = "the rows use what is not used here")]
mod house;
mod probe;
mod sasl;
