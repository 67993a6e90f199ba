use std::fmt::{self, Display, Write as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mail::{UnixMillis, is_unprintable, write_escaped};

use crate::writer::Channel;

/// A buffer that holds this much goes out without waiting for the end of the turn.
const CHUNK_BYTES: usize = 16 << 10;

/// A worker's buffer may grow to this while the output is behind; past it, records are dropped.
pub(crate) const CHUNK_BYTES_MAX: usize = 64 << 10;

/// One thread's event records, as JSON lines. Secrets have no way in but by a careless caller:
/// there is no method that takes a credential.
pub struct EventLog {
    /// `None` discards everything: the simulator's log.
    channel: Option<Arc<Channel>>,
    lines: String,
    /// Records in `lines`, so that a chunk that is lost can be counted.
    count: u64,
}

impl EventLog {
    pub(crate) fn new(channel: Arc<Channel>) -> Self {
        Self { channel: Some(channel), lines: String::with_capacity(CHUNK_BYTES_MAX), count: 0 }
    }

    /// A log that is not read.
    #[must_use]
    pub fn discarding() -> Self {
        Self { channel: None, lines: String::new(), count: 0 }
    }

    /// Begins the record of `event` (a stable lower-case word); [`Record::end`] completes it.
    pub fn event(&mut self, event: &str, now: UnixMillis) -> Record<'_> {
        if let Some(channel) = &self.channel {
            let start = self.lines.len();
            // Writing to a String does not fail.
            let _ = write!(self.lines, r#"{{"time":"{}","event":"{event}","node":"#, now.rfc3339());
            self.lines.push_str(channel.node());
            Record { start, log: self, live: true }
        } else {
            Record { start: 0, log: self, live: false }
        }
    }

    /// The end of a turn: what was recorded goes on its way.
    pub fn flush(&mut self) {
        let Some(channel) = &self.channel else { return };
        if !self.lines.is_empty() && channel.send(&mut self.lines) {
            self.count = 0;
        }
    }

    fn end_record(&mut self, start: usize) {
        let Some(channel) = &self.channel else { return };
        self.lines.push_str("}\n");
        if self.lines.len() > CHUNK_BYTES_MAX {
            self.lines.truncate(start);
            channel.lines_dropped().fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.count += 1;
        if self.lines.len() >= CHUNK_BYTES {
            self.flush();
        }
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.flush();
        if let Some(channel) = &self.channel
            && !self.lines.is_empty()
        {
            channel.lines_dropped().fetch_add(self.count, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLog").field("records", &self.count).finish_non_exhaustive()
    }
}

/// A record that is being written. Keys are the program's own words and stand as they are; values are escaped.
#[derive(Debug)]
#[must_use = "a record counts when it is ended"]
pub struct Record<'a> {
    log: &'a mut EventLog,
    start: usize,
    live: bool,
}

impl Record<'_> {
    /// A text.
    pub fn str(self, key: &str, value: &str) -> Self {
        self.display(key, value)
    }

    /// A text, where there is one.
    pub fn maybe_str(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.display(key, value),
            None => self,
        }
    }

    /// Whatever prints as text.
    pub fn display(self, key: &str, value: impl Display) -> Self {
        if self.live {
            let lines = &mut self.log.lines;
            // Writing to a String does not fail; a value whose Display does ends early.
            let _ = write!(lines, r#","{key}":""#);
            let _ = write!(Escaped(lines), "{value}");
            lines.push('"');
        }
        self
    }

    /// An address of a client or a destination.
    pub fn ip(self, key: &str, value: IpAddr) -> Self {
        self.display(key, value)
    }

    /// An address, where there is one.
    pub fn maybe_ip(self, key: &str, value: Option<IpAddr>) -> Self {
        match value {
            Some(value) => self.ip(key, value),
            None => self,
        }
    }

    /// A number.
    pub fn number(self, key: &str, value: u64) -> Self {
        if self.live {
            let _ = write!(self.log.lines, r#","{key}":{value}"#);
        }
        self
    }

    /// Yes or no.
    pub fn bool(self, key: &str, value: bool) -> Self {
        if self.live {
            let _ = write!(self.log.lines, r#","{key}":{value}"#);
        }
        self
    }

    /// The record is complete.
    pub fn end(self) {
        if self.live {
            self.log.end_record(self.start);
        }
    }
}

/// Text on its way into a JSON string (RFC 8259 section 7).
pub(crate) struct Escaped<'a>(pub(crate) &'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        loop {
            let plain = rest.bytes().position(|byte| !is_plain(byte)).unwrap_or(rest.len());
            self.0.push_str(&rest[..plain]);
            rest = &rest[plain..];
            let Some(odd) = rest.chars().next() else { return Ok(()) };
            rest = &rest[odd.len_utf8()..];
            match odd {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\t' => self.0.push_str("\\t"),
                odd if is_unprintable(odd) => write_escaped(self.0, odd)?,
                odd => self.0.push(odd),
            }
        }
    }
}

/// ASCII that stands for itself, as nearly all that is logged does.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}
