use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};

use crossbeam::queue::ArrayQueue;
use serde_json::{Map, Value};

use crate::collect::Registry;
use crate::log::{CHUNK_BYTES_MAX, Escaped, EventLog};

/// Chunks between all logs and the writer: 4 MiB of records, seconds of a busy node.
const CHUNKS_MAX: usize = 64;

/// How records look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line.
    Json,
    /// For a person at a terminal.
    Readable,
}

impl Form {
    /// What suits standard output: readable on a terminal, JSON elsewhere.
    #[must_use]
    pub fn for_stdout() -> Self {
        if io::stdout().is_terminal() { Self::Readable } else { Self::Json }
    }
}

/// The thread that puts records out. Dropping it writes what is left and ends the thread; what is
/// recorded after that is lost.
#[derive(Debug)]
pub struct LogWriter {
    channel: Arc<Channel>,
    thread: Option<JoinHandle<()>>,
}

impl LogWriter {
    /// Starts the thread; `node` is the name that every record carries. Lost records are counted in `registry`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        output: impl Write + Send + 'static,
        form: Form,
        node: &str,
        registry: &Registry,
    ) -> io::Result<Self> {
        let channel = Arc::new(Channel::new(node, registry.lines_dropped()));
        let shared = channel.clone();
        let thread = thread::Builder::new()
            .name("gatepost-log".into())
            .spawn(move || write_all(&shared, output, form))?;
        // Set once, here.
        let _ = channel.writer.set(thread.thread().clone());
        Ok(Self { channel, thread: Some(thread) })
    }

    /// A log for one thread.
    #[must_use]
    pub fn log(&self) -> EventLog {
        EventLog::new(self.channel.clone())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.channel.ending.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A writer that panicked has said so on standard error.
            let _ = thread.join();
        }
    }
}

/// Full chunks one way, empty ones back.
#[derive(Debug)]
pub(crate) struct Channel {
    full: ArrayQueue<String>,
    empty: ArrayQueue<String>,
    writer: OnceLock<Thread>,
    ending: AtomicBool,
    /// The node's name as a JSON string.
    node: Box<str>,
    lines_dropped: Arc<AtomicU64>,
}

impl Channel {
    fn new(node: &str, lines_dropped: Arc<AtomicU64>) -> Self {
        let mut quoted = String::from("\"");
        // Writing to a String does not fail.
        let _ = write!(Escaped(&mut quoted), "{node}");
        quoted.push('"');
        let empty = ArrayQueue::new(CHUNKS_MAX);
        for _ in 0..CHUNKS_MAX {
            empty.push(String::with_capacity(CHUNK_BYTES_MAX)).expect("there are no more chunks than places");
        }
        Self {
            full: ArrayQueue::new(CHUNKS_MAX),
            empty,
            writer: OnceLock::new(),
            ending: AtomicBool::new(false),
            node: quoted.into(),
            lines_dropped,
        }
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    pub(crate) fn lines_dropped(&self) -> &AtomicU64 {
        &self.lines_dropped
    }

    /// Exchanges `lines` for an empty buffer; false, and nothing changed, while the writer holds them all.
    pub(crate) fn send(&self, lines: &mut String) -> bool {
        let Some(empty) = self.empty.pop() else { return false };
        let full = std::mem::replace(lines, empty);
        self.full.push(full).expect("there are no more chunks than places");
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
        true
    }
}

fn write_all(channel: &Channel, mut output: impl Write, form: Form) {
    loop {
        // Before the queue: what was sent before the end is then seen below.
        let ending = channel.ending.load(Ordering::Acquire);
        while let Some(mut lines) = channel.full.pop() {
            let written = match form {
                Form::Json => output.write_all(lines.as_bytes()),
                Form::Readable => {
                    lines.lines().try_for_each(|line| output.write_all(readable(line).as_bytes()))
                }
            };
            if written.is_err() {
                // A log that cannot be written must not stop the mail; the counter tells.
                channel.lines_dropped.fetch_add(lines.lines().count() as u64, Ordering::Relaxed);
            }
            lines.clear();
            channel.empty.push(lines).expect("there are no more chunks than places");
        }
        // The same as above: an output that is gone is not worth dying for.
        let _ = output.flush();
        if ending {
            return;
        }
        // An output that waits by parking may have used up the wake-up that was meant for here.
        if channel.full.is_empty() && !channel.ending.load(Ordering::Acquire) {
            thread::park();
        }
    }
}

/// `12:34:56.789 relay_denied reason=relay_not_permitted client=198.51.100.7`
fn readable(line: &str) -> String {
    let Ok(record) = serde_json::from_str::<Map<String, Value>>(line) else {
        return format!("{line}\n");
    };
    let text = |key| record.get(key).and_then(Value::as_str).unwrap_or_default();
    let time = text("time").split_once('T').map_or("", |(_, time)| time.trim_end_matches('Z'));
    let mut out = format!("{time} {}", text("event"));
    for (key, value) in &record {
        if matches!(key.as_str(), "time" | "event" | "node") {
            continue;
        }
        // Writing to a String does not fail.
        let _ = match value {
            Value::String(plain) if is_plain(plain) => write!(out, " {key}={plain}"),
            // Not serde_json's own escapes: they leave the control characters above U+007E to the terminal.
            Value::String(odd) => write!(out, " {key}=\"")
                .and_then(|()| write!(Escaped(&mut out), "{odd}"))
                .and_then(|()| write!(out, "\"")),
            other => write!(out, " {key}={other}"),
        };
    }
    out.push('\n');
    out
}

/// Needs no quotes, and does nothing to a terminal.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '"')
}

#[cfg(test)]
mod tests;
