//! One connection to a next hop: a value that is in one phase at a time, and owns what that phase needs.
//!
//! ```text
//! Between ──▶ Resolving ──▶ Connecting ──▶ Open: Greeting ──▶ Idle ──▶ Loading ──▶ Sending ──▶ Over
//!    ▲ no address, or one after the other  │                   ▲ └──▶ Quitting                   │
//!    └──────────── this one failed ────────┘                   └─────────────────────────────────┘
//! ```

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use mail::Reply;
use ring::{Instant, Ring, SharedBuffer, Socket, TimerKey};
use scheduler::{ConnectionIx, JobIx, SiteIx};
use smtp::client::{Phase as SessionPhase, Session};
use spool::{ReadKey, StoredContent, StoredMessage};

use crate::Context;

/// To open a connection to one address before the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
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
const IDLE_KEPT: Duration = Duration::from_secs(5);

/// Where a connection stands.
#[derive(Debug)]
pub(crate) enum Phase {
    /// It has no address yet, or this one failed: it waits to be told to try the next one.
    Between,
    /// Its next hop's addresses are asked for: question number.
    Resolving(u32),
    /// The socket is being connected.
    Connecting(Socket),
    /// It is connected.
    Open(Box<Wire>),
}

/// What a connection is about once it is open.
#[derive(Debug)]
pub(crate) enum Task {
    /// Greeting, EHLO and STARTTLS.
    Greeting,
    /// It may carry a message.
    Idle,
    /// The message of this job comes from the spool.
    Loading(JobIx),
    /// A transaction is under way.
    Sending(Transaction),
    /// A transaction is over, and the session will say what follows.
    Over,
    /// QUIT was said.
    Quitting,
}

/// An open connection. Its memory serves all its transactions.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) socket: Socket,
    pub(crate) session: Session,
    pub(crate) task: Task,
    pub(crate) flight: Flight,
    /// The buffer that is not with the ring.
    pub(crate) spare: Vec<u8>,
    /// The answers to the recipients of the transaction.
    pub(crate) answers: Vec<Answer>,
    /// Counts, round and round, pieces of bodies that came from the spool and that went out.
    pub(crate) pieces: u32,
    /// The ring or the clock has ended it. What was received before is heard first: it may hold the answer
    /// that counts.
    pub(crate) end: Option<Reply>,
}

/// What is with the ring on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flight {
    Nothing,
    /// What the session says.
    Words,
    /// A piece of a body.
    Piece,
}

/// One message on its way.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) job: JobIx,
    pub(crate) message: StoredMessage,
    /// Something was answered.
    pub(crate) heard: bool,
    pub(crate) body: Body,
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

/// The way of a connection through the addresses of its site.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The next hops in the order in which they are tried.
    hops: Box<[u16]>,
    /// The present one.
    at: usize,
    /// Its present address.
    pub(crate) address: usize,
    /// Opportunistic TLS has failed with this address: without it, then.
    pub(crate) cleartext: bool,
}

impl Walk {
    pub(crate) fn new(hops: Box<[u16]>) -> Self {
        Self { hops, at: 0, address: 0, cleartext: false }
    }

    /// The present next hop, until all were tried.
    pub(crate) fn hop(&self) -> Option<u16> {
        self.hops.get(self.at).copied()
    }

    /// Goes on to the next hop after this one.
    pub(crate) fn next_hop(&mut self) {
        self.at += 1;
        self.address = 0;
        self.cleartext = false;
    }

    /// Goes on to the next address of this one.
    pub(crate) fn next_address(&mut self) {
        self.address += 1;
        self.cleartext = false;
    }
}

/// What a connection waits for. Bytes of a reply are none: a peer that says one a minute is as mute as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    stage: Stage,
    messages: u32,
    replies: u32,
    pieces: u32,
}

/// A phase without what it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Between,
    Resolving(u32),
    Connecting,
    Greeting,
    Idle,
    Loading,
    Sending,
    Quitting,
}

/// How long what is awaited may take.
#[derive(Debug)]
pub(crate) struct Patience {
    pub(crate) deadline: Instant,
    /// What the deadline is for.
    pub(crate) awaited: Option<Step>,
    /// The timer that looks at the deadline, and when it fires: never after the deadline.
    pub(crate) timer: Option<(TimerKey, Instant)>,
}

/// A connection from the wish for it until its socket is closed.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its number in the schedule.
    pub(crate) number: ConnectionIx,
    pub(crate) site: SiteIx,
    pub(crate) walk: Walk,
    pub(crate) phase: Phase,
    /// The next hop that was tried last, as it stands in logs and bounces.
    pub(crate) hop_name: Option<Rc<str>>,
    /// Why the last address could not be used.
    pub(crate) failure: Reply,
    /// Transactions that were completed.
    pub(crate) messages: u32,
    pub(crate) patience: Patience,
}

impl Connection {
    pub(crate) fn new(number: ConnectionIx, site: SiteIx, walk: Walk) -> Self {
        Self {
            number,
            site,
            walk,
            phase: Phase::Between,
            hop_name: None,
            failure: Reply::default(),
            messages: 0,
            patience: Patience { deadline: Instant(u64::MAX), awaited: None, timer: None },
        }
    }

    pub(crate) fn wire(&mut self) -> Option<&mut Wire> {
        if let Phase::Open(wire) = &mut self.phase { Some(wire) } else { None }
    }

    /// Takes the socket, if it has one; what was said over it is forgotten.
    pub(crate) fn take_socket(&mut self) -> Option<Socket> {
        match std::mem::replace(&mut self.phase, Phase::Between) {
            Phase::Between | Phase::Resolving(_) => None,
            Phase::Connecting(socket) => Some(socket),
            Phase::Open(wire) => Some(wire.socket),
        }
    }

    fn stage(&self) -> Stage {
        match &self.phase {
            Phase::Between => Stage::Between,
            Phase::Resolving(question) => Stage::Resolving(*question),
            Phase::Connecting(_) => Stage::Connecting,
            Phase::Open(wire) => match wire.task {
                Task::Greeting => Stage::Greeting,
                Task::Idle => Stage::Idle,
                Task::Loading(_) => Stage::Loading,
                Task::Sending(_) | Task::Over => Stage::Sending,
                Task::Quitting => Stage::Quitting,
            },
        }
    }

    /// What is awaited now.
    pub(crate) fn step(&self) -> Step {
        let (replies, pieces) = match &self.phase {
            Phase::Open(wire) => (wire.session.steps(), wire.pieces),
            Phase::Between | Phase::Resolving(_) | Phase::Connecting(_) => (0, 0),
        };
        Step { stage: self.stage(), messages: self.messages, replies, pieces }
    }

    /// How long what is awaited may take, as a whole.
    pub(crate) fn timeout(&self) -> Duration {
        match &self.phase {
            Phase::Between | Phase::Resolving(_) | Phase::Connecting(_) => CONNECT_TIMEOUT,
            Phase::Open(wire) => wire.timeout(),
        }
    }
}

impl Wire {
    pub(crate) fn new(socket: Socket, session: Session) -> Self {
        Self {
            socket,
            session,
            task: Task::Greeting,
            flight: Flight::Nothing,
            spare: Vec::new(),
            answers: Vec::new(),
            pieces: 0,
            end: None,
        }
    }

    /// The transaction that is under way.
    pub(crate) fn transaction(&mut self) -> Option<&mut Transaction> {
        if let Task::Sending(transaction) = &mut self.task { Some(transaction) } else { None }
    }

    /// Nothing of a body is left to be sent.
    pub(crate) fn is_body_out(&self) -> bool {
        !matches!(&self.task, Task::Sending(transaction) if !matches!(transaction.body, Body::None))
    }

    /// The answer to one recipient of the transaction, by its place there.
    pub(crate) fn answered(&mut self, place: usize, reply: Reply) {
        if let Some(transaction) = self.transaction() {
            transaction.heard = true;
        }
        let Some(answer) = self.answers.get_mut(place) else { return };
        if reply.is_positive() {
            *answer = Answer::Accepted;
            self.session.recycle(reply);
        } else {
            *answer = Answer::Refused(reply);
        }
    }

    /// 354: the body may go.
    pub(crate) fn send_body(&mut self) {
        let Some(transaction) = self.transaction() else { return };
        transaction.heard = true;
        transaction.body = match transaction.message.content() {
            StoredContent::Inline(buffer, range) => Body::Piece { buffer, range, then: Then::End },
            StoredContent::Large { buffer, head, .. } => {
                Body::Piece { buffer, range: head, then: Then::Open }
            }
        };
    }

    /// Nothing more is sent of the body. The spool's last word on the read takes its place in the loads.
    pub(crate) fn abandon_body<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        let Some(transaction) = self.transaction() else { return };
        match std::mem::replace(&mut transaction.body, Body::None) {
            Body::Reading(read) | Body::Piece { then: Then::More(read), .. } => {
                cx.spool.read_abort(cx.ring, read);
            }
            Body::Piece { .. } | Body::None => {}
        }
    }

    /// QUIT was answered.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.task, Task::Quitting) && self.session.phase() == SessionPhase::Closed
    }

    fn timeout(&self) -> Duration {
        match self.task {
            Task::Idle => IDLE_KEPT,
            Task::Quitting => QUIT_TIMEOUT,
            Task::Loading(_) => DATA_END_TIMEOUT,
            Task::Greeting | Task::Sending(_) | Task::Over => match self.session.phase() {
                SessionPhase::Greeting => GREETING_TIMEOUT,
                SessionPhase::DataStart => DATA_START_TIMEOUT,
                SessionPhase::Body if self.flight != Flight::Nothing || !self.is_body_out() => {
                    DATA_BLOCK_TIMEOUT
                }
                SessionPhase::Body => DATA_END_TIMEOUT,
                SessionPhase::Command | SessionPhase::Idle => COMMAND_TIMEOUT,
                SessionPhase::Quitting | SessionPhase::Closed => QUIT_TIMEOUT,
            },
        }
    }
}
