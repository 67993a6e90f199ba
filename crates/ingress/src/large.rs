//! Bodies that outgrow memory: pieces go to a file of the spool's as they arrive.

use mail::Reason;
use ring::Ring;
use smtp::server::{Flow, Resume, Step};
use spool::{LargeKey, Refusal};

use crate::connection::Waiting;
use crate::judge::Judge;
use crate::{Context, Ingress};

impl<R: Ring> Judge<'_, '_, R> {
    /// Moves the body gathered so far to the message's file.
    pub(crate) fn spill(&mut self) -> Flow {
        let cx = &mut *self.cx;
        let transaction = &mut self.client.transaction;
        let large = match transaction.large {
            Some(large) => large,
            None => match cx.spool.large_begin(cx.ring, transaction.declared_bytes, self.client.key) {
                Ok(large) => *transaction.large.insert(large),
                Err(refusal) => {
                    transaction.refused = Some(reason_of(refusal));
                    return Flow::Continue;
                }
            },
        };
        let wants_more = cx.spool.large_write(cx.ring, large, &transaction.body);
        transaction.body.clear();
        if wants_more {
            return Flow::Continue;
        }
        self.client.waiting = Waiting::Large;
        Flow::Pause
    }

    /// The last piece is in: the file must be durable before the record that names it.
    pub(crate) fn finish_large(&mut self, large: LargeKey) -> Step {
        let cx = &mut *self.cx;
        let transaction = &mut self.client.transaction;
        cx.spool.large_write(cx.ring, large, &transaction.body);
        transaction.body.clear();
        cx.spool.large_finish(cx.ring, large);
        self.client.waiting = Waiting::Large;
        Step::Wait
    }
}

/// How a body that the spool would not take is answered.
fn reason_of(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::Full | Refusal::Busy => Reason::SpoolFull,
        Refusal::Latched => Reason::SpoolFailed,
    }
}

impl Ingress {
    /// The file of connection `key` takes more.
    pub fn large_progress<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: u32) {
        if let Some(connection) = self.connection(key)
            && connection.client.waiting == Waiting::Large
            && connection.client.transaction.id.is_none()
        {
            connection.client.waiting = Waiting::Nothing;
            self.drive(cx, key, |session, judge| session.resume(Resume::Continue, judge));
        }
    }

    /// The body of connection `key` is durable in its file: the record comes next.
    pub fn large_finished<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: u32) {
        if self.connection(key).is_some() {
            self.store(cx, key);
        }
    }

    /// The body of connection `key` could not be written.
    pub fn large_failed<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: u32, refusal: Refusal) {
        let Some(connection) = self.connection(key) else { return };
        let client = &mut connection.client;
        client.transaction.large = None;
        client.transaction.refused = Some(reason_of(refusal));
        let ended = client.transaction.id.is_some();
        if client.waiting != Waiting::Large {
            if ended {
                client.transaction.clear();
            }
            return;
        }
        client.waiting = Waiting::Nothing;
        if ended {
            self.judge(cx, key, |judge, reply| {
                judge.refuse_for_spool(refusal, reply);
                judge.end_transaction();
            });
            self.resume_message(cx, key);
        } else {
            self.drive(cx, key, |session, judge| session.resume(Resume::Continue, judge));
        }
    }
}
