use std::collections::VecDeque;
use std::fmt;

use mail::{Address, Reply, ReversePath};

use super::reply::{Input, ReplyReader};
use super::transaction::{Awaited, Commands, Offers, Transaction};
use super::{ClientTls, Event, Failure, Phase};
use crate::tls::Tls;

/// Replies whose memory is kept for the next ones.
const SPARE_REPLIES_MAX: usize = 16;

/// A connection to a next hop.
///
/// Call [`Session::poll`] until it gives nothing after each [`Session::receive`] and
/// [`Session::begin`]; then send what is in [`Session::output`].
pub struct Session {
    hostname: Box<str>,
    tls_wanted: ClientTls,
    state: State,
    tls: Option<Box<Tls>>,
    offers: Offers,
    commands: Commands,
    input: Input,
    replies: ReplyReader,
    spare: Vec<Reply>,
    events: VecDeque<Event>,
    output: Vec<u8>,
    steps: u32,
}

/// What is awaited; each state owns only what it needs.
#[derive(Debug)]
enum State {
    Greeting,
    /// The answer to EHLO; `tls_tried`: STARTTLS is not to be said (again).
    Ehlo {
        tls_tried: bool,
    },
    Helo,
    StartTls,
    Handshake,
    Idle,
    Transaction(Transaction),
    /// The body is the caller's to send; then comes the answer to its final dot.
    Body,
    /// The answer to a dot that ends a message that had no recipient.
    LoneDot,
    Reset,
    Quitting,
    Closed,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Session {
    /// A new connection, on which the peer's greeting is awaited. `hostname` is our name in EHLO.
    #[must_use]
    pub fn new(hostname: &str, tls: ClientTls) -> Self {
        Self {
            hostname: hostname.into(),
            tls_wanted: tls,
            state: State::Greeting,
            tls: None,
            offers: Offers::default(),
            commands: Commands::default(),
            input: Input::default(),
            replies: ReplyReader::default(),
            spare: Vec::new(),
            events: VecDeque::new(),
            output: Vec::new(),
            steps: 0,
        }
    }

    /// Takes bytes from the wire.
    pub fn receive(&mut self, wire: &[u8]) {
        if matches!(self.state, State::Closed) {
            return;
        }
        let Some(tls) = &mut self.tls else {
            self.input.bytes.extend_from_slice(wire);
            return self.work();
        };
        let opened = tls.open(wire, &mut self.input.bytes, &mut self.output);
        if matches!(self.state, State::Handshake) && !tls.is_handshaking() {
            self.steps = self.steps.wrapping_add(1);
            self.say_ehlo(true);
        }
        self.work();
        match opened {
            Err(error) => self.fail(Failure::Tls(error)),
            Ok(true) => self.peer_ended(),
            Ok(false) => {}
        }
    }

    /// The peer has ended the connection.
    pub fn peer_ended(&mut self) {
        match self.state {
            State::Quitting => self.state = State::Closed,
            _ => self.fail(Failure::Ended),
        }
    }

    /// What happened since the last call; `None`: nothing more.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Gives a reply's memory back, so that the next one does not allocate.
    pub fn recycle(&mut self, reply: Reply) {
        if self.spare.len() < SPARE_REPLIES_MAX {
            self.spare.push(reply);
        }
    }

    /// Begins a transaction, after [`Event::Ready`]. `size` is that of the body in bytes, as far as
    /// it is known; it and `eight_bit` are declared where the peer offers to hear them.
    ///
    /// # Panics
    /// When the session is not idle, or without a recipient: a bug of the caller.
    pub fn begin<'a>(
        &mut self,
        from: ReversePath<'_>,
        recipients: impl Iterator<Item = Address<'a>>,
        size: Option<u64>,
        eight_bit: bool,
    ) {
        if matches!(self.state, State::Closed) {
            return;
        }
        self.commands.write(from, recipients, size, eight_bit, self.offers);
        self.open_transaction(false);
        if self.offers.pipelining {
            self.say(b"DATA\r\n");
        }
    }

    /// Asks, after [`Event::Ready`], whether the peer would take mail from `from` for `recipients`, and
    /// sends none: an [`Event::Recipient`] for each, then [`Event::Ready`] again.
    ///
    /// # Panics
    /// When the session is not idle, or without a recipient: a bug of the caller.
    pub fn verify<'a>(&mut self, from: ReversePath<'_>, recipients: impl Iterator<Item = Address<'a>>) {
        if matches!(self.state, State::Closed) {
            return;
        }
        self.commands.write(from, recipients, None, false, self.offers);
        self.open_transaction(true);
    }

    /// The largest message that the peer says it takes, after [`Event::Ready`]; `None`: it names no limit.
    #[must_use]
    pub fn size_max(&self) -> Option<u64> {
        self.offers.size_max
    }

    /// Whether the peer takes bodies with 8-bit bytes (RFC 6152), after [`Event::Ready`]. One that does not
    /// must not be sent any.
    #[must_use]
    pub fn takes_eight_bit(&self) -> bool {
        self.offers.eight_bit
    }

    /// Whether the connection is unprotected, so that the caller may send the body's bytes itself.
    #[must_use]
    pub fn is_plaintext(&self) -> bool {
        self.tls.is_none()
    }

    /// Protocol and cipher suite, once TLS is up.
    #[must_use]
    pub fn tls_name(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| tls.name()).filter(|name| !name.is_empty())
    }

    /// Puts a piece of the body, in wire form and with its final dot line at the end, into the output.
    pub fn write_body(&mut self, wire: &[u8]) {
        if matches!(self.state, State::Body) {
            self.say(wire);
        }
    }

    /// Takes leave, if the session is idle; else it just ends. Nothing more is to be expected of it.
    pub fn quit(&mut self) {
        if !matches!(self.state, State::Idle) {
            self.state = State::Closed;
            return;
        }
        self.say(b"QUIT\r\n");
        self.state = State::Quitting;
    }

    /// Bytes for the wire, to be taken.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Counts, round and round, what the peer has brought to an end: replies and the handshake. What it has begun
    /// does not count, so that one deadline holds for the whole of each.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Where the session stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Greeting => Phase::Greeting,
            State::Transaction(Transaction { awaited: Awaited::Data, .. }) => Phase::DataStart,
            State::Body => Phase::Body,
            State::Idle => Phase::Idle,
            State::Quitting => Phase::Quitting,
            State::Closed => Phase::Closed,
            State::Ehlo { .. }
            | State::Helo
            | State::StartTls
            | State::Handshake
            | State::Transaction(_)
            | State::LoneDot
            | State::Reset => Phase::Command,
        }
    }
}

// How it works: one reply after the other.
impl Session {
    fn work(&mut self) {
        while !matches!(self.state, State::Closed | State::Handshake) {
            match self.replies.take(&mut self.input, &mut self.spare) {
                Ok(Some(reply)) => self.answered(reply),
                Ok(None) => break,
                Err(what) => self.fail(Failure::Protocol(what)),
            }
        }
        self.input.compact();
    }

    fn answered(&mut self, reply: Reply) {
        self.steps = self.steps.wrapping_add(1);
        if reply.code() == 421 && !matches!(self.state, State::Greeting | State::Quitting) {
            return self.fail(Failure::Closing(reply));
        }
        match self.state {
            State::Greeting if reply.code() == 220 => {
                self.say_ehlo(false);
                self.recycle(reply);
            }
            State::Greeting => self.fail(Failure::Refused(reply)),
            State::Ehlo { tls_tried } => self.ehlo_answered(reply, tls_tried),
            State::Helo if reply.is_positive() => self.ready(reply),
            State::Helo => self.fail(Failure::Refused(reply)),
            State::StartTls => self.start_tls_answered(reply),
            State::Transaction(_) => self.transaction_answered(reply),
            State::Body => {
                self.events.push_back(Event::Done { reply });
                self.state = State::Idle;
                self.events.push_back(Event::Ready);
            }
            State::LoneDot => {
                self.recycle(reply);
                self.reset();
            }
            State::Reset if reply.is_positive() => self.ready(reply),
            State::Reset => self.fail(Failure::Protocol("RSET was refused")),
            State::Quitting => self.state = State::Closed,
            State::Idle => self.fail(Failure::Protocol("a reply that was not asked for")),
            State::Handshake | State::Closed => {}
        }
    }

    fn say_ehlo(&mut self, tls_tried: bool) {
        self.state = State::Ehlo { tls_tried };
        self.say_hello("EHLO");
    }

    fn say_hello(&mut self, verb: &str) {
        let line = format!("{verb} {}\r\n", self.hostname);
        self.say(line.as_bytes());
    }

    fn ehlo_answered(&mut self, reply: Reply, tls_tried: bool) {
        let required = matches!(self.tls_wanted, ClientTls::StartTls { required: true, .. });
        if !reply.is_positive() {
            // "Not now" says nothing of what it knows (RFC 5321 section 3.2): without EHLO it would be
            // taken for a host that has neither TLS nor 8BITMIME.
            if !reply.is_permanent() {
                return self.fail(Failure::Refused(reply));
            }
            if required && self.tls.is_none() {
                return self.fail(Failure::NoTls(Some(reply)));
            }
            self.offers = Offers::default();
            self.state = State::Helo;
            self.say_hello("HELO");
            return;
        }
        self.offers = Offers::read(&reply);
        let wanted = matches!(self.tls_wanted, ClientTls::StartTls { .. }) && !tls_tried;
        if wanted && self.offers.start_tls {
            self.recycle(reply);
            self.state = State::StartTls;
            self.say(b"STARTTLS\r\n");
        } else if wanted && required {
            self.fail(Failure::NoTls(None));
        } else {
            self.ready(reply);
        }
    }

    fn start_tls_answered(&mut self, reply: Reply) {
        let ClientTls::StartTls { config, name, required } = &self.tls_wanted else {
            return self.fail(Failure::Protocol("a reply that was not asked for"));
        };
        if reply.code() != 220 {
            if *required {
                return self.fail(Failure::NoTls(Some(reply)));
            }
            return self.ready(reply);
        }
        if !self.input.is_empty() {
            // An attacker put words into the peer's mouth before TLS (RFC 3207 section 4.2).
            return self.fail(Failure::Protocol("more was said before TLS than its reply"));
        }
        match Tls::connect(config.clone(), name.clone()) {
            Ok(mut tls) => {
                tls.seal(b"", &mut self.output);
                self.tls = Some(Box::new(tls));
                self.state = State::Handshake;
            }
            Err(error) => self.fail(Failure::Tls(error)),
        }
    }

    fn open_transaction(&mut self, verifies: bool) {
        assert!(matches!(self.state, State::Idle), "a transaction begins after Event::Ready");
        assert!(self.commands.recipients > 0, "a transaction has a recipient");
        let pipelined = self.offers.pipelining;
        self.state = State::Transaction(Transaction {
            awaited: Awaited::Mail,
            pipelined,
            verifies,
            mail_refused: false,
            accepted: 0,
        });
        if pipelined {
            let Self { tls, commands, output, .. } = self;
            write(tls, commands.rest(), output);
        } else {
            self.say_next_command();
        }
    }

    fn transaction_answered(&mut self, reply: Reply) {
        let recipients = self.commands.recipients;
        let State::Transaction(transaction) = &mut self.state else { return };
        match transaction.awaited {
            Awaited::Mail => {
                transaction.awaited = Awaited::Recipient(0);
                if reply.is_positive() {
                    self.recycle(reply);
                } else {
                    transaction.mail_refused = true;
                    self.events.push_back(Event::TransactionRefused { reply });
                }
            }
            Awaited::Recipient(index) => {
                transaction.awaited =
                    if index + 1 < recipients { Awaited::Recipient(index + 1) } else { Awaited::Data };
                transaction.accepted += usize::from(reply.is_positive());
                let (verifies, last) = (transaction.verifies, index + 1 == recipients);
                if transaction.mail_refused {
                    self.recycle(reply);
                } else {
                    self.events.push_back(Event::Recipient { index, reply });
                }
                if verifies && last {
                    return self.reset();
                }
            }
            Awaited::Data => return self.data_answered(reply),
        }
        self.go_on_unpipelined();
    }

    /// Without PIPELINING (RFC 2920) each command waits for the answer to the one before.
    fn go_on_unpipelined(&mut self) {
        let State::Transaction(transaction) = &self.state else { return };
        if transaction.pipelined {
            return;
        }
        if transaction.mail_refused {
            self.become_idle();
        } else if transaction.awaited != Awaited::Data {
            self.say_next_command();
        } else if transaction.accepted > 0 {
            self.say(b"DATA\r\n");
        } else {
            self.reset();
        }
    }

    fn data_answered(&mut self, reply: Reply) {
        let State::Transaction(transaction) = &self.state else { return };
        let (mail_refused, accepted) = (transaction.mail_refused, transaction.accepted);
        let go_ahead = reply.code() == 354;
        if go_ahead && accepted > 0 && !mail_refused {
            self.recycle(reply);
            self.state = State::Body;
            self.events.push_back(Event::SendBody);
        } else if go_ahead {
            // It has no recipient, yet the peer wants a message (RFC 2920 section 3.1).
            self.recycle(reply);
            self.state = State::LoneDot;
            self.say(b".\r\n");
        } else if reply.code() / 100 == 2 || reply.code() / 100 == 3 {
            self.fail(Failure::Protocol("DATA was answered with neither 354 nor a refusal"));
        } else if mail_refused {
            self.recycle(reply);
            self.become_idle();
        } else {
            if accepted > 0 {
                self.events.push_back(Event::TransactionRefused { reply });
            } else {
                self.recycle(reply);
            }
            self.reset();
        }
    }

    /// Ends a transaction that the peer may still think is open.
    fn reset(&mut self) {
        self.state = State::Reset;
        self.say(b"RSET\r\n");
    }

    fn ready(&mut self, reply: Reply) {
        self.recycle(reply);
        self.become_idle();
    }

    fn become_idle(&mut self) {
        self.state = State::Idle;
        self.events.push_back(Event::Ready);
    }

    fn fail(&mut self, error: Failure) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Closed;
            self.events.push_back(Event::Failed { error });
        }
    }

    fn say_next_command(&mut self) {
        let Self { tls, commands, output, .. } = self;
        write(tls, commands.next(), output);
    }

    fn say(&mut self, clear: &[u8]) {
        write(&mut self.tls, clear, &mut self.output);
    }
}

fn write(tls: &mut Option<Box<Tls>>, clear: &[u8], output: &mut Vec<u8>) {
    match tls {
        Some(tls) => tls.seal(clear, output),
        None => output.extend_from_slice(clear),
    }
}
