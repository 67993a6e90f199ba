//! One connection to a next hop: the session, the transaction it carries, and the state of its I/O.

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use mail::Reply;
use ring::{Instant, SharedBuffer, Socket, TimerKey};
use smtp::client::{Phase as SessionPhase, Session};
use spool::{ReadKey, StoredMessage};

use crate::queue::{JobIx, SiteIx};

/// To open a connection to one address before the next one is tried.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For the greeting (RFC 5321 section 4.5.3.2.1).
const GREETING_TIMEOUT: Duration = Duration::from_secs(300);
/// For MAIL and RCPT (RFC 5321 sections 4.5.3.2.2 and 4.5.3.2.3), EHLO and the handshake.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);
/// For the 354 (RFC 5321 section 4.5.3.2.4).
const DATA_START_TIMEOUT: Duration = Duration::from_secs(120);
/// For each piece of the body (RFC 5321 section 4.5.3.2.5).
const DATA_BLOCK_TIMEOUT: Duration = Duration::from_secs(180);
/// For the answer to the final dot (RFC 5321 section 4.5.3.2.6).
const DATA_END_TIMEOUT: Duration = Duration::from_secs(600);
/// For the answer to QUIT: courtesy only.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);
/// An idle connection waits this long for another message.
pub(crate) const IDLE_KEPT: Duration = Duration::from_secs(5);
/// Connections that one attempt opens to the addresses of a site's next hops before the site has failed: Postfix
/// tries 5 addresses, and with a second try in clear text that is as many.
pub(crate) const ADDRESSES_TRIED_MAX: usize = 10;
/// Messages over one connection; servers that count cut at about this number, and failover is noticed.
pub(crate) const MESSAGES_PER_CONNECTION_MAX: u32 = 1000;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its next hop's addresses are asked for: question number.
    Resolving(u32),
    /// The socket is being connected.
    Connecting,
    /// Greeting, EHLO and STARTTLS.
    Opening,
    /// It may carry a message.
    Idle,
    /// Its message comes from the spool.
    Loading,
    /// A transaction is under way.
    Sending,
    /// QUIT was said.
    Quitting,
}

/// What a connection waits for. Bytes of a reply are none: a peer that says one a minute is as mute as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    phase: Phase,
    messages: u32,
    replies: u32,
    pieces: u32,
}

/// What is left to be sent of a body.
#[derive(Debug)]
pub(crate) enum Body {
    /// Not yet asked for, or all of it sent.
    None,
    /// A piece in memory.
    Piece { buffer: SharedBuffer, range: Range<usize>, then: Then },
    /// The next piece comes from the spool.
    Reading(ReadKey),
}

/// What follows a piece of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing: the final dot was in it.
    End,
    /// The large body, from its start.
    Open,
    /// More of the large body.
    More(ReadKey),
}

/// The answer to one recipient of the transaction.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// None yet.
    Waiting,
    /// Positive: what becomes of the message becomes of the recipient.
    Accepted,
    /// A refusal of its own.
    Refused(Reply),
}

/// A connection from the wish for it until its socket is closed. Its memory serves all its transactions.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) site: SiteIx,
    pub(crate) phase: Phase,
    pub(crate) socket: Option<Socket>,
    pub(crate) session: Session,
    /// The first next hop to be tried, how many were, and the address of the present one.
    pub(crate) first_hop: usize,
    pub(crate) hops_tried: usize,
    pub(crate) address: usize,
    /// Connections that were opened, to whatever address.
    pub(crate) tried: usize,
    /// The present next hop, as it stands in logs and bounces.
    pub(crate) hop_name: Option<Rc<str>>,
    /// Opportunistic TLS has failed with this address: without it, then.
    pub(crate) cleartext: bool,
    pub(crate) sending: bool,
    /// What is being sent is a piece of a body.
    pub(crate) sends_body: bool,
    /// Counts, round and round, pieces of bodies that came from the spool and that went out.
    pub(crate) pieces: u32,
    pub(crate) deadline: Instant,
    /// What the deadline is for.
    pub(crate) awaited: Option<Step>,
    /// The timer that looks at the deadline, and when it fires: never after the deadline.
    pub(crate) timer: Option<(TimerKey, Instant)>,
    /// The buffer that is not with the ring.
    pub(crate) spare: Vec<u8>,
    /// Transactions that were completed.
    pub(crate) messages: u32,
    pub(crate) job: Option<JobIx>,
    pub(crate) message: Option<StoredMessage>,
    pub(crate) answers: Vec<Answer>,
    /// Something was answered in this transaction.
    pub(crate) heard: bool,
    pub(crate) body: Body,
    /// Why the last address could not be used.
    pub(crate) failure: Reply,
}

impl Connection {
    pub(crate) fn new(site: SiteIx, first_hop: usize, session: Session) -> Self {
        Self {
            site,
            phase: Phase::Connecting,
            socket: None,
            session,
            first_hop,
            hops_tried: 0,
            address: 0,
            tried: 0,
            hop_name: None,
            cleartext: false,
            sending: false,
            sends_body: false,
            pieces: 0,
            deadline: Instant(u64::MAX),
            awaited: None,
            timer: None,
            spare: Vec::new(),
            messages: 0,
            job: None,
            message: None,
            answers: Vec::new(),
            heard: false,
            body: Body::None,
            failure: Reply::default(),
        }
    }

    /// The present next hop among `hops` of them.
    pub(crate) fn hop(&self, hops: usize) -> usize {
        (self.first_hop + self.hops_tried) % hops.max(1)
    }

    /// Goes on to the next hop after this one.
    pub(crate) fn next_hop(&mut self) {
        self.hops_tried += 1;
        self.address = 0;
        self.cleartext = false;
    }

    /// Not yet ready for its first message.
    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Resolving(_) | Phase::Connecting | Phase::Opening)
    }

    /// Forgets the transaction; the memory stays.
    pub(crate) fn clear_transaction(&mut self) {
        self.job = None;
        self.message = None;
        self.answers.clear();
        self.heard = false;
        self.body = Body::None;
    }

    /// What is awaited now.
    pub(crate) fn step(&self) -> Step {
        let Self { phase, messages, pieces, .. } = *self;
        Step { phase, messages, replies: self.session.steps(), pieces }
    }

    /// How long what is awaited may take, as a whole.
    pub(crate) fn timeout(&self) -> Duration {
        match self.phase {
            Phase::Resolving(_) | Phase::Connecting => CONNECT_TIMEOUT,
            Phase::Idle => IDLE_KEPT,
            Phase::Quitting => QUIT_TIMEOUT,
            Phase::Loading => DATA_END_TIMEOUT,
            Phase::Opening | Phase::Sending => match self.session.phase() {
                SessionPhase::Greeting => GREETING_TIMEOUT,
                SessionPhase::DataStart => DATA_START_TIMEOUT,
                SessionPhase::Body if self.sending || !matches!(self.body, Body::None) => DATA_BLOCK_TIMEOUT,
                SessionPhase::Body => DATA_END_TIMEOUT,
                SessionPhase::Command | SessionPhase::Idle => COMMAND_TIMEOUT,
                SessionPhase::Quitting | SessionPhase::Closed => QUIT_TIMEOUT,
            },
        }
    }
}
