use std::fmt;

use mail::{Reason, Reply, Status};

/// How a command ends. Its reply is worded already.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// The reply goes out.
    Said,
    /// The reply goes out, and counts as an error.
    Refused,
    /// The same, after the handler has added its part.
    RefusedFor(Reason),
    /// The reply goes out, and the session ends.
    Last,
    /// Nothing more goes out.
    Silent,
    /// Nothing more goes out; what did counts as an error.
    Error,
}

impl Answer {
    /// `detail`: subject and detail of the enhanced status code.
    pub(super) fn said(reply: &mut Reply, code: u16, detail: (u16, u16), text: fmt::Arguments<'_>) -> Self {
        word(reply, code, detail, text);
        Self::Said
    }

    pub(super) fn refused(
        reply: &mut Reply,
        code: u16,
        detail: (u16, u16),
        text: fmt::Arguments<'_>,
    ) -> Self {
        word(reply, code, detail, text);
        Self::Refused
    }

    pub(super) fn denied(reply: &mut Reply, reason: Reason, text: fmt::Arguments<'_>) -> Self {
        reply.deny(reason, text);
        Self::RefusedFor(reason)
    }

    /// `503`: the right command at the wrong time.
    pub(super) fn out_of_order(reply: &mut Reply, text: &str) -> Self {
        Self::refused(reply, 503, (5, 1), format_args!("{text}"))
    }

    /// `421`: the client has gone too far.
    pub(super) fn last_word(reply: &mut Reply, text: fmt::Arguments<'_>) -> Self {
        word(reply, 421, (7, 0), text);
        Self::Last
    }
}

fn word(reply: &mut Reply, code: u16, (subject, detail): (u16, u16), text: fmt::Arguments<'_>) {
    reply.set(code, Some(Status::new((code / 100) as u8, subject, detail)), text);
}
