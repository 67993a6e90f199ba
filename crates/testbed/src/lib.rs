//! What tests stand on: a ledger of what was sent, a ledger of what arrived, the checker that
//! compares them, a destination that speaks SMTP by itself, and a running `gatepost` to test.
//!
//! It knows Gatepost only from outside (sockets, the configuration file, signals) and shares no
//! code with it, so that a mistake in the house is not repeated by its judge. It fails by panicking
//! with a sentence: it only ever runs in tests and in the load test.

#![warn(missing_docs)]

pub mod authority;
pub mod client;
pub mod destination;
pub mod dialog;
pub mod dns;
pub mod folder;
pub mod gateway;
pub mod http;
pub mod ledger;
pub mod message;
pub mod net;
pub mod netns;
pub mod observer;
pub mod postfix;
pub mod proseware;
pub mod random;
pub mod scram;
pub mod segment;
pub mod terminal;
pub mod tools;

pub use client::{LedgerClient, LoadOptions};
pub use destination::{Destination, Rules};
pub use dialog::Dialog;
pub use folder::Folder;
pub use gateway::{Configuration, Gateway};
pub use ledger::{Arrival, Ledger, Outcome, Report, Sent};
pub use message::Fingerprint;
pub use observer::Observer;
