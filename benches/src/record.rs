//! One record of the log: the one of a message that got its 250.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use mail::{MessageId, UnixMillis};
use observe::{Form, LogWriter, Registry};

observe::events! {
    /// A message got its 250.
    struct Accepted<'a> = "accepted" {
        /// Its id.
        message: MessageId,
        /// The client that sent it.
        client: IpAddr,
        /// The proxy in between.
        proxy: Option<IpAddr>,
        /// Its tenant.
        tenant: &'a str,
        /// Its login.
        login: &'a str,
        /// Its sender.
        from: &'a str,
        /// Its recipients.
        recipients: u64,
        /// Its length.
        bytes: u64,
    }
}

/// A worker that records one message after the other.
pub(crate) fn prepare() -> Box<dyn FnMut(usize)> {
    let registry = Registry::new(1, &["smtp"], 1);
    let writer = LogWriter::start(io::sink(), Form::Json, "relay.example", &registry).expect("a thread");
    let mut log = writer.log();
    Box::new(move |key| {
        let _ = &writer;
        let now = UnixMillis(1_795_426_496_789 + key as u64);
        let accepted = Accepted {
            message: MessageId::new(now, 1, key as u32),
            client: Ipv4Addr::new(192, 0, 2, 1).into(),
            proxy: None,
            tenant: "proseware",
            login: "",
            from: "someone@proseware.example",
            recipients: 1,
            bytes: 1100,
        };
        log.record(&accepted, now);
    })
}
