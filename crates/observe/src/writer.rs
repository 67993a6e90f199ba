use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime};

use crossbeam::queue::ArrayQueue;
use mail::is_unprintable;
use serde_json::{Map, Value};

use crate::collect::Registry;
use crate::events::LogRecordsDropped;
use crate::log::{CHUNK_BYTES_MAX, Escaped, EventLog, quoted, write_line};

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

/// At the end, the reader of the log is waited for as long as it takes something within this: a process that was told
/// to end must end, and its reader may be stopped for good.
const STALL_MAX: Duration = Duration::from_secs(2);
/// And so long in all, however slowly it reads.
const ENDING_MAX: Duration = Duration::from_secs(10);
/// Between two looks at whether it takes something.
const ENDING_LOOK: Duration = Duration::from_millis(20);

/// The thread that puts records out. Dropping it writes what is left and ends the thread; what is
/// recorded after that is lost, and what its reader does not take in time.
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
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        let begun = Instant::now();
        let (mut written, mut since) = (self.channel.written(), begun);
        while !thread.is_finished() {
            thread::sleep(ENDING_LOOK);
            let now = Instant::now();
            if self.channel.written() != written {
                (written, since) = (self.channel.written(), now);
            }
            if now - since > STALL_MAX || now - begun > ENDING_MAX {
                // It stays behind, in a write that may never end; the process does not wait for it.
                return;
            }
        }
        // A writer that panicked has said so on standard error.
        let _ = thread.join();
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
    /// Bytes that the output has taken.
    written_bytes: AtomicU64,
}

impl Channel {
    fn new(node: &str, lines_dropped: Arc<AtomicU64>) -> Self {
        let empty = ArrayQueue::new(CHUNKS_MAX);
        for _ in 0..CHUNKS_MAX {
            empty.push(String::with_capacity(CHUNK_BYTES_MAX)).expect("there are no more chunks than places");
        }
        Self {
            full: ArrayQueue::new(CHUNKS_MAX),
            empty,
            writer: OnceLock::new(),
            ending: AtomicBool::new(false),
            node: quoted(node).into(),
            lines_dropped,
            written_bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    fn written(&self) -> u64 {
        self.written_bytes.load(Ordering::Acquire)
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

/// An output that says how much it has taken.
struct Metered<'a, W> {
    output: W,
    written_bytes: &'a AtomicU64,
}

impl<W: Write> Write for Metered<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.written_bytes.fetch_add(written as u64, Ordering::AcqRel);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

fn write_all(channel: &Channel, output: impl Write, form: Form) {
    let mut output = Metered { output, written_bytes: &channel.written_bytes };
    let mut losses = Losses::default();
    loop {
        // Before the queue: what was sent before the end is then seen below.
        let ending = channel.ending.load(Ordering::Acquire);
        while let Some(mut lines) = channel.full.pop() {
            match put(&mut output, form, &lines).and_then(|()| output.flush()) {
                Ok(()) => losses.tell(channel, &mut output, form),
                // A log that cannot be written must not stop the mail; the counter tells.
                Err(error) => {
                    channel.lines_dropped.fetch_add(lines.lines().count() as u64, Ordering::Relaxed);
                    losses.complain(&error);
                }
            }
            lines.clear();
            channel.empty.push(lines).expect("there are no more chunks than places");
        }
        if ending {
            return;
        }
        // An output that waits by parking may have used up the wake-up that was meant for here.
        if channel.full.is_empty() && !channel.ending.load(Ordering::Acquire) {
            thread::park();
        }
    }
}

fn put(output: &mut impl Write, form: Form, lines: &str) -> io::Result<()> {
    match form {
        Form::Json => output.write_all(lines.as_bytes()),
        Form::Readable => lines.lines().try_for_each(|line| output.write_all(readable(line).as_bytes())),
    }
}

/// What was lost of the log, and who knows of it.
#[derive(Default)]
struct Losses {
    /// Records that the log itself has told to be lost.
    told: u64,
    has_complained: bool,
}

impl Losses {
    /// The output takes records again: how many it has not taken meanwhile is one of them.
    fn tell(&mut self, channel: &Channel, output: &mut impl Write, form: Form) {
        self.has_complained = false;
        let lost = channel.lines_dropped.load(Ordering::Relaxed);
        if lost == self.told {
            return;
        }
        let mut line = String::new();
        let event = LogRecordsDropped { records: lost - self.told };
        write_line(&mut line, &event, channel.node(), SystemTime::now().into());
        if put(output, form, &line).and_then(|()| output.flush()).is_ok() {
            self.told = lost;
        }
    }

    /// The output is gone, or fails: said once on standard error, where it may be seen.
    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.has_complained, true) {
            // Standard error may be gone as well.
            let _ = writeln!(
                io::stderr(),
                "gatepost: the log cannot be written: {error}; mail goes on without it"
            );
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
    !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !is_unprintable(c) && c != '"')
}

#[cfg(test)]
mod tests;
