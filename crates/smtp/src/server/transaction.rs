//! MAIL, RCPT, DATA, and the message itself.

use mail::{ForwardPath, Reason, Reply, ReversePath, Status};

use super::session::Session;
use super::state::{Body, Client, Envelope, State};
use super::{Flow, Handler, MailParameters, MessageEnd, Step};
use crate::data::Scanner;

impl Session {
    pub(super) fn mail<H: Handler>(
        &mut self,
        from: ReversePath<'_>,
        parameters: &MailParameters,
        handler: &mut H,
    ) {
        let client = match &self.state {
            State::Ready(client) => *client,
            State::Envelope(_) => return self.out_of_order("a transaction is under way", handler),
            _ => return self.out_of_order("say EHLO first", handler),
        };
        if let (Some(size), Some(limit)) = (parameters.size, self.settings.message_bytes_max)
            && size > limit
        {
            self.reply.deny(
                Reason::MessageTooLarge,
                format_args!("the message is larger than the limit: at most {limit} octets"),
            );
            return self.refuse_for(Reason::MessageTooLarge, handler);
        }
        self.reply.clear();
        if !handler.mail(from, parameters, &mut self.reply) {
            return self.refuse_command(handler);
        }
        self.state = State::Envelope(Envelope { client, accepted: 0, refused: 0 });
        self.reply.set(250, Some(Status::new(2, 1, 0)), format_args!("sender ok"));
        self.say();
    }

    pub(super) fn rcpt<H: Handler>(&mut self, to: ForwardPath<'_>, handler: &mut H) {
        let State::Envelope(envelope) = self.state else {
            return self.out_of_order("say MAIL first", handler);
        };
        self.reply.clear();
        match handler.rcpt(to, &mut self.reply) {
            Step::Accept => self.recipient_accepted(envelope),
            Step::Refuse => {
                self.say();
                self.recipient_refused(envelope, handler);
            }
            Step::Wait => self.state = State::Recipient(envelope),
        }
    }

    /// The answer that a recipient waited for.
    pub(super) fn resume_recipient<H: Handler>(&mut self, refusal: Option<&Reply>, handler: &mut H) {
        let State::Recipient(envelope) = self.state else { return };
        match refusal {
            None => self.recipient_accepted(envelope),
            Some(reply) => {
                reply.write_to(self.sink());
                self.recipient_refused(envelope, handler);
            }
        }
    }

    fn recipient_accepted(&mut self, envelope: Envelope) {
        self.state = State::Envelope(Envelope { accepted: envelope.accepted + 1, ..envelope });
        self.carries_mail();
        self.reply.set(250, Some(Status::new(2, 1, 5)), format_args!("recipient ok"));
        self.say();
    }

    /// A refused recipient never takes the others with it, so it is not charged at once: see
    /// [`Session::leave_envelope`].
    fn recipient_refused<H: Handler>(&mut self, envelope: Envelope, handler: &mut H) {
        let refused = envelope.refused + 1;
        self.allowance = self.allowance.saturating_sub(1);
        self.state = State::Envelope(Envelope { refused, ..envelope });
        let limit = self.settings.limits.recipients_max;
        if refused > limit {
            let what = format_args!("too many refused recipients: at most {limit} in a transaction");
            self.last_word(handler, what);
        }
    }

    /// Ends a transaction that brought no message. Where all its recipients were refused, each
    /// counts as an error: so looks a search for addresses, or for an open relay.
    pub(super) fn leave_envelope<H: Handler>(&mut self, handler: &mut H) {
        let State::Envelope(Envelope { client, accepted, refused }) = self.state else { return };
        self.state = State::Ready(client);
        if accepted == 0 {
            self.charge_many(refused, handler);
        }
    }

    pub(super) fn data<H: Handler>(&mut self, handler: &mut H) {
        let client = match &self.state {
            State::Envelope(Envelope { accepted: 0, .. }) => {
                self.reply.set(554, Some(Status::new(5, 5, 1)), format_args!("no valid recipients"));
                return self.refuse_command(handler);
            }
            State::Envelope(envelope) => envelope.client,
            _ => return self.out_of_order("say MAIL and RCPT first", handler),
        };
        self.reply.clear();
        if !handler.data(&mut self.reply) {
            return self.refuse_command(handler);
        }
        self.step_bytes = 0;
        self.state = State::Body(Body {
            client,
            scanner: Scanner::new(),
            bytes: 0,
            too_large: false,
            paused: false,
            ended: false,
        });
        self.reply.set(354, None, format_args!("end with a dot on a line of its own"));
        self.say();
    }

    /// A piece of the message; says how much of it was used.
    pub(super) fn body<H: Handler>(&mut self, input: &[u8], handler: &mut H) -> usize {
        let limit = self.settings.message_bytes_max;
        let State::Body(body) = &mut self.state else {
            unreachable!("only a session after 354 reads a message")
        };
        let scan = body.scanner.scan(input);
        if scan.held_dot {
            body.hand(b".", limit, handler);
        }
        body.hand(&input[..scan.body_bytes], limit, handler);
        body.ended = scan.ended;
        let may_end = body.ended && !body.paused;
        self.step_by(scan.used);
        if may_end {
            self.message_end(handler);
        }
        scan.used
    }

    pub(super) fn resume_body<H: Handler>(&mut self, handler: &mut H) {
        let State::Body(body) = &mut self.state else { return };
        body.paused = false;
        if body.ended {
            self.message_end(handler);
        }
    }

    fn message_end<H: Handler>(&mut self, handler: &mut H) {
        let State::Body(body) = &self.state else { return };
        let end = if body.scanner.is_spoiled() {
            MessageEnd::BareNewline
        } else if body.too_large {
            MessageEnd::TooLarge
        } else {
            MessageEnd::Whole { bytes: body.bytes }
        };
        let client = body.client;
        self.reply.clear();
        match handler.message_end(end, &mut self.reply) {
            Step::Wait => self.state = State::Handed(client),
            Step::Accept | Step::Refuse => {
                self.say();
                self.message_answered(client, self.reply.is_positive(), handler);
            }
        }
    }

    pub(super) fn resume_message<H: Handler>(&mut self, reply: &Reply, handler: &mut H) {
        let State::Handed(client) = self.state else { return };
        reply.write_to(self.sink());
        self.message_answered(client, reply.is_positive(), handler);
    }

    fn message_answered<H: Handler>(&mut self, client: Client, accepted: bool, handler: &mut H) {
        self.state = State::Ready(client);
        self.step();
        if accepted {
            self.forgive();
            self.carries_mail();
        } else {
            self.charge(handler);
        }
    }
}

impl Body {
    fn hand<H: Handler>(&mut self, wire: &[u8], limit: Option<u64>, handler: &mut H) {
        self.too_large |= limit.is_some_and(|limit| self.bytes + wire.len() as u64 > limit);
        if wire.is_empty() || self.too_large {
            return;
        }
        self.bytes += wire.len() as u64;
        self.paused |= handler.body(wire) == Flow::Pause;
    }
}
