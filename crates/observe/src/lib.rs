//! What the gateway says about itself: counters and histograms for prometheus, and event records.
//!
//! Each worker counts in its own atomics and writes its records into its own buffers; a
//! [`Registry`] adds the counts up when someone asks, and a writer thread puts the records out. No
//! call here waits or allocates in steady state: when the output cannot keep up, records are
//! dropped and counted, mail is not. Nothing here decides anything.

mod admin;
mod collect;
mod histogram;
mod http;
mod log;
mod metrics;
mod tenants;
mod writer;

pub use admin::AdminMetrics;
pub use collect::{Registry, Totals};
pub use http::{HttpMetrics, HttpPort};
pub use log::{EventLog, Record};
pub use metrics::{DeliveryOutcome, PeerFault, ShedCause, WorkerMetrics};
pub use tenants::TENANTS_SHOWN_DEFAULT;
pub use writer::{Form, LogWriter};
