use std::fmt::{self, Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mail::{UnixMillis, is_unprintable, write_escaped};

use crate::event::{Event, Sink};
use crate::writer::Channel;

/// A buffer that holds this much goes out without waiting for the end of the turn.
const CHUNK_BYTES: usize = 16 << 10;

/// A worker's buffer may grow to this while the output is behind; past it, records are dropped.
pub(crate) const CHUNK_BYTES_MAX: usize = 64 << 10;

/// One thread's event records, as JSON lines.
///
/// Events enter here and nowhere else: what else is to be told of them, a stream say, is told from here.
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

    /// Records `event`, which counts nowhere.
    pub fn record<E: Event<Metrics = ()>>(&mut self, event: &E, now: UnixMillis) {
        self.write(event, now);
    }

    /// Records `event`, and counts it in `metrics`.
    pub fn record_and_count<E: Event>(&mut self, event: &E, metrics: &E::Metrics, now: UnixMillis) {
        event.count(metrics);
        self.write(event, now);
    }

    fn write(&mut self, event: &impl Event, now: UnixMillis) {
        let Some(channel) = &self.channel else { return };
        let start = self.lines.len();
        write_line(&mut self.lines, event, channel.node(), now);
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

    /// The end of a turn: what was recorded goes on its way.
    pub fn flush(&mut self) {
        let Some(channel) = &self.channel else { return };
        if !self.lines.is_empty() && channel.send(&mut self.lines) {
            self.count = 0;
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

/// The record of `event` as the log of `node` has it, with its line break.
#[must_use]
pub fn line(event: &impl Event, node: &str, now: UnixMillis) -> String {
    let mut line = String::new();
    write_line(&mut line, event, &quoted(node), now);
    line
}

/// `text` as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    push_escaped(&mut quoted, text);
    quoted.push('"');
    quoted
}

/// `node` is a JSON string already.
pub(crate) fn write_line<E: Event>(lines: &mut String, event: &E, node: &str, now: UnixMillis) {
    // Writing to a String does not fail.
    let _ = write!(lines, r#"{{"time":"{}""#, now.rfc3339());
    lines.push_str(r#","event":""#);
    lines.push_str(E::ABOUT.name);
    lines.push_str(r#"","node":"#);
    lines.push_str(node);
    event.tell(&mut Json(lines));
    lines.push_str("}\n");
}

/// A record that is being written. Names are the program's own words and stand as they are; values are escaped.
struct Json<'a>(&'a mut String);

impl Json<'_> {
    fn begin(&mut self, name: &str) {
        self.0.push_str(",\"");
        self.0.push_str(name);
        self.0.push_str("\":");
    }
}

impl Sink for Json<'_> {
    fn display(&mut self, name: &'static str, value: impl Display) {
        self.begin(name);
        self.0.push('"');
        // Writing to a String does not fail; a value whose Display does ends early.
        let _ = write!(Escaped(self.0), "{value}");
        self.0.push('"');
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.begin(name);
        let _ = write!(self.0, "{value}");
    }

    fn bool(&mut self, name: &'static str, value: bool) {
        self.begin(name);
        self.0.push_str(if value { "true" } else { "false" });
    }

    fn str(&mut self, name: &'static str, value: &str) {
        self.begin(name);
        self.0.push('"');
        push_escaped(self.0, value);
        self.0.push('"');
    }
}

/// Text on its way into a JSON string (RFC 8259 section 7).
pub(crate) struct Escaped<'a>(pub(crate) &'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        push_escaped(self.0, text);
        Ok(())
    }
}

fn push_escaped(out: &mut String, text: &str) {
    let mut rest = text;
    loop {
        let plain = rest.bytes().position(|byte| !is_plain(byte)).unwrap_or(rest.len());
        out.push_str(&rest[..plain]);
        rest = &rest[plain..];
        let Some(odd) = rest.chars().next() else { return };
        rest = &rest[odd.len_utf8()..];
        match odd {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            odd if is_unprintable(odd) => {
                // Writing to a String does not fail.
                let _ = write_escaped(out, odd);
            }
            odd => out.push(odd),
        }
    }
}

/// ASCII that stands for itself, as nearly all that is logged does.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}
