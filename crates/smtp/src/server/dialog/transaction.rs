//! MAIL, RCPT, DATA, and the message itself.

use mail::{ForwardPath, Reason, Reply, ReversePath};

use super::state::{Client, State};
use super::{Answer, Dialog};
use crate::data::Scanner;
use crate::server::{Flow, Handler, MailParameters, MessageEnd, Step};

/// A transaction that gathers recipients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    pub(super) client: Client,
    pub(super) accepted: u32,
    pub(super) refused: u32,
}

/// A message that comes in.
#[derive(Debug)]
pub(crate) struct Body {
    client: Client,
    scanner: Scanner,
    /// Handed to the handler so far.
    bytes: u64,
    /// It went past the limit: the handler is given no more of it.
    too_large: bool,
    /// The handler wants no more for now.
    paused: bool,
    /// The final dot has come.
    ended: bool,
}

impl Dialog {
    pub(super) fn mail<H: Handler>(
        &mut self,
        from: ReversePath<'_>,
        parameters: &MailParameters,
        handler: &mut H,
    ) -> Answer {
        let reply = &mut self.reply;
        let client = match &self.state {
            State::Ready(client) => *client,
            State::Envelope(_) => return Answer::out_of_order(reply, "a transaction is under way"),
            _ => return Answer::out_of_order(reply, "say EHLO first"),
        };
        if let (Some(size), Some(limit)) = (parameters.size, self.settings.message_bytes_max)
            && size > limit
        {
            let text = format_args!("the message is larger than the limit: at most {limit} octets");
            return Answer::denied(reply, Reason::MessageTooLarge, text);
        }
        reply.clear();
        if !handler.mail(from, parameters, reply) {
            return Answer::Refused;
        }
        self.state = State::Envelope(Envelope { client, accepted: 0, refused: 0 });
        Answer::said(reply, 250, (1, 0), format_args!("sender ok"))
    }

    pub(super) fn rcpt<H: Handler>(&mut self, to: ForwardPath<'_>, handler: &mut H) -> Answer {
        let State::Envelope(envelope) = self.state else {
            return Answer::out_of_order(&mut self.reply, "say MAIL first");
        };
        self.reply.clear();
        match handler.rcpt(to, &mut self.reply) {
            Step::Accept => self.recipient_accepted(envelope),
            Step::Refuse => {
                self.channel.say(&self.reply);
                self.recipient_refused(envelope)
            }
            Step::Wait => {
                self.state = State::Recipient(envelope);
                Answer::Silent
            }
        }
    }

    /// The answer that a recipient waited for.
    pub(super) fn resume_recipient(&mut self, refusal: Option<&Reply>) -> Answer {
        let State::Recipient(envelope) = self.state else { return Answer::Silent };
        match refusal {
            None => self.recipient_accepted(envelope),
            Some(reply) => {
                self.channel.say(reply);
                self.recipient_refused(envelope)
            }
        }
    }

    fn recipient_accepted(&mut self, envelope: Envelope) -> Answer {
        self.state = State::Envelope(Envelope { accepted: envelope.accepted + 1, ..envelope });
        self.conduct.recipient_taken();
        Answer::said(&mut self.reply, 250, (1, 5), format_args!("recipient ok"))
    }

    /// A refused recipient never takes the others with it, so it is not charged at once: see
    /// [`Dialog::reset`].
    fn recipient_refused(&mut self, envelope: Envelope) -> Answer {
        let refused = envelope.refused + 1;
        self.allowance = self.allowance.saturating_sub(1);
        self.state = State::Envelope(Envelope { refused, ..envelope });
        let limit = self.settings.limits.recipients_max;
        if refused <= limit {
            return Answer::Silent;
        }
        let what = format_args!("too many refused recipients: at most {limit} in a transaction");
        Answer::last_word(&mut self.reply, what)
    }

    pub(super) fn data<H: Handler>(&mut self, handler: &mut H) -> Answer {
        let reply = &mut self.reply;
        let client = match &self.state {
            State::Envelope(Envelope { accepted: 0, .. }) => {
                return Answer::refused(reply, 554, (5, 1), format_args!("no valid recipients"));
            }
            State::Envelope(envelope) => envelope.client,
            _ => return Answer::out_of_order(reply, "say MAIL and RCPT first"),
        };
        reply.clear();
        if !handler.data(reply) {
            return Answer::Refused;
        }
        self.conduct.message_begins();
        self.state = State::Body(Body::new(client));
        reply.set(354, None, format_args!("end with a dot on a line of its own"));
        Answer::Said
    }

    /// Takes a piece of the message; says how much of it was used.
    pub(crate) fn body<H: Handler>(&mut self, input: &[u8], handler: &mut H) -> usize {
        let State::Body(body) = &mut self.state else {
            unreachable!("only a session after 354 reads a message")
        };
        let used = body.take(input, self.settings.message_bytes_max, handler);
        self.conduct.step_by(used);
        let answer = self.message_end(handler);
        self.conclude(answer, handler);
        used
    }

    pub(super) fn resume_body<H: Handler>(&mut self, handler: &mut H) -> Answer {
        if let State::Body(body) = &mut self.state {
            body.paused = false;
        }
        self.message_end(handler)
    }

    /// Ends the message, once it is whole and was taken.
    fn message_end<H: Handler>(&mut self, handler: &mut H) -> Answer {
        let State::Body(body) = &self.state else { return Answer::Silent };
        if !body.ended || body.paused {
            return Answer::Silent;
        }
        let client = body.client;
        self.reply.clear();
        if handler.message_end(body.end(), &mut self.reply) == Step::Wait {
            self.state = State::Deciding(client);
            return Answer::Silent;
        }
        self.channel.say(&self.reply);
        self.message_answered(client, self.reply.is_positive())
    }

    pub(super) fn resume_message(&mut self, reply: &Reply) -> Answer {
        let State::Deciding(client) = self.state else { return Answer::Silent };
        self.channel.say(reply);
        self.message_answered(client, reply.is_positive())
    }

    fn message_answered(&mut self, client: Client, accepted: bool) -> Answer {
        self.state = State::Ready(client);
        self.conduct.step();
        if !accepted {
            return Answer::Error;
        }
        self.conduct.message_taken();
        Answer::Silent
    }
}

impl Body {
    fn new(client: Client) -> Self {
        Self { client, scanner: Scanner::new(), bytes: 0, too_large: false, paused: false, ended: false }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Takes a piece of at most `limit` bytes in all; says how much of it was used.
    fn take<H: Handler>(&mut self, input: &[u8], limit: Option<u64>, handler: &mut H) -> usize {
        let scan = self.scanner.scan(input);
        if scan.held_dot {
            self.hand(b".", limit, handler);
        }
        self.hand(&input[..scan.body_bytes], limit, handler);
        self.ended = scan.ended;
        scan.used
    }

    fn hand<H: Handler>(&mut self, wire: &[u8], limit: Option<u64>, handler: &mut H) {
        self.too_large |= limit.is_some_and(|limit| self.bytes + wire.len() as u64 > limit);
        if wire.is_empty() || self.too_large {
            return;
        }
        self.bytes += wire.len() as u64;
        self.paused |= handler.body(wire) == Flow::Pause;
    }

    fn end(&self) -> MessageEnd {
        if self.scanner.is_spoiled() {
            MessageEnd::BareNewline
        } else if self.too_large {
            MessageEnd::TooLarge
        } else {
            MessageEnd::Whole { bytes: self.bytes }
        }
    }
}
