//! One transaction through `smtp`'s session, judged by `policy`: no socket, no file.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use mail::limits::SessionLimits;
use mail::{ForwardPath, Reason, Reply, ReversePath};
use policy::{Facts, Listener, Snapshot};
use smtp::server::{
    Credentials, Flow, Handler, Introduction, MailParameters, MessageEnd, ScramStart, Session, Settings,
    Step, TlsMode, XClient, XClientRights,
};

use crate::{decision, size, table};

/// A client that sends one message after the other on a connection.
pub(crate) fn prepare() -> Box<dyn FnMut(usize)> {
    let source = table::source(size(), 1);
    let mut judge = Judge {
        snapshot: Snapshot::compile(&source).expect("it compiles"),
        listeners: decision::listeners(),
        taken: 0,
    };
    let mut session = Session::new(Arc::new(Settings {
        hostname: "relay.example".into(),
        tls: TlsMode::Off,
        tls_config: None,
        auth_without_tls: false,
        message_bytes_max: None,
        limits: SessionLimits::default(),
    }));
    session.receive(b"EHLO client.example\r\n", &mut judge);
    session.output().clear();
    let domains: Vec<_> = (0..source.tenants.len()).map(table::domain).collect();
    let body = format!(
        "Subject: one\r\n\r\n{}.\r\n",
        "a line of sixty-four octets, as a person writes them.......\r\n".repeat(17)
    );
    Box::new(move |key| {
        let (domain, taken) = (&domains[key % domains.len()], judge.taken);
        session.receive(b"MAIL FROM:<someone@adatum.example>\r\n", &mut judge);
        let recipient = format!("RCPT TO:<{}@{domain}>\r\n", table::recipient(0));
        session.receive(recipient.as_bytes(), &mut judge);
        session.receive(b"DATA\r\n", &mut judge);
        session.receive(black_box(body.as_bytes()), &mut judge);
        assert!(judge.taken == taken + 1, "the message was taken");
        session.output().clear();
    })
}

/// Takes what the policy takes.
struct Judge {
    snapshot: Snapshot,
    listeners: [Listener; 2],
    taken: usize,
}

impl Handler for Judge {
    fn refused(&mut self, _: Reason, _: &mut Reply) {}

    fn proxied(&mut self, _: Option<SocketAddr>, _: &mut Reply) -> bool {
        true
    }

    fn proxy_fault(&mut self, _: smtp::proxy::Fault) {}

    fn xclient_rights(&self) -> XClientRights {
        XClientRights::None
    }

    fn xclient(&mut self, _: &XClient, _: &mut Reply) -> Introduction {
        Introduction::Refused
    }

    fn xclient_refused(&mut self) {}

    fn helo(&mut self, _: &str, _: bool) {}

    fn tls_started(&mut self) {}

    fn offers_scram(&mut self) -> bool {
        false
    }

    fn scram(&mut self, _: &str, _: &mut Reply) -> Option<ScramStart> {
        None
    }

    fn auth(&mut self, _: Credentials<'_>, _: &mut Reply) -> Step {
        Step::Refuse
    }

    fn mail(&mut self, _: ReversePath<'_>, _: &MailParameters, _: &mut Reply) -> bool {
        true
    }

    fn rcpt(&mut self, to: ForwardPath<'_>, _: &mut Reply) -> Step {
        let client = [240, 0, 0, 1].into();
        let listener = &self.listeners[0];
        let facts = Facts { listener, client, tls: true, identity: None, grants: &[] };
        let from = ReversePath::parse("someone@adatum.example").expect("it is a path");
        match decision::decide(&self.snapshot, &facts, from, to) {
            true => Step::Accept,
            false => Step::Refuse,
        }
    }

    fn data(&mut self, _: &mut Reply) -> bool {
        true
    }

    fn body(&mut self, wire: &[u8]) -> Flow {
        black_box(wire);
        Flow::Continue
    }

    fn message_end(&mut self, _: MessageEnd, reply: &mut Reply) -> Step {
        self.taken += 1;
        reply.set(250, None, format_args!("taken"));
        Step::Accept
    }

    fn reset(&mut self) {}
}
