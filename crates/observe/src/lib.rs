//! What the gateway says about itself: counters and histograms for prometheus, and event records.
//!
//! An event is a type: [`events!`] declares its name, its meaning, its fields and where it counts. The types of a
//! crate stand in that crate; only what several crates record stands here.
//!
//! Each worker counts in its own atomics and writes its records into its own buffers; a
//! [`Registry`] adds the counts up when someone asks, and a writer thread puts the records out. No
//! call here waits or allocates in steady state: when the output cannot keep up, records are
//! dropped and counted, mail is not. Nothing here decides anything.

mod admin;
mod collect;
mod event;
mod events;
mod histogram;
mod http;
mod log;
mod metrics;
mod tenants;
mod value;
mod writer;

pub use admin::AdminMetrics;
pub use collect::{Registry, Totals};
pub use event::{About, Event, Facts, Field, Sink};
pub use events::{Contained, EVENTS};
pub use http::{HttpMetrics, HttpPort};
pub use log::{EventLog, line};
pub use metrics::{DeliveryOutcome, PeerFault, ShedCause, WorkerMetrics};
pub use tenants::TENANTS_SHOWN_DEFAULT;
pub use value::{Kind, Listener, Value, Word};
pub use writer::{Form, LogWriter};
