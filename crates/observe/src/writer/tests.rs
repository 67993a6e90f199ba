use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use mail::UnixMillis;

use super::*;

const NOW: UnixMillis = UnixMillis(1_795_426_496_789);

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn written(form: Form, record: impl FnOnce(&mut EventLog)) -> String {
    let registry = Registry::new(1, &["smtp"], 1);
    let memory = Memory::default();
    let writer = LogWriter::start(memory.clone(), form, "relay \"one\"", &registry).unwrap();
    let mut log = writer.log();
    record(&mut log);
    drop(log);
    drop(writer);
    let bytes = memory.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

crate::events! {
    /// A request was denied.
    struct Denied<'a> = "relay_denied" {
        /// What the client calls itself.
        helo: &'a str,
        /// Its address.
        client: IpAddr,
        /// Which one it is.
        number: u64,
        /// Whether it spoke TLS.
        tls: bool,
        /// Its login.
        login: Option<&'a str>,
    }

    /// A request was denied, told to a person.
    struct Told<'a> = "relay_denied" {
        /// Why.
        reason: &'a str,
        /// The sender.
        from: &'a str,
        /// What the client calls itself.
        helo: &'a str,
    }

    /// Something that takes so much room.
    struct Filler<'a> = "filler" {
        /// The room.
        filler: &'a str,
    }

    /// Something that comes in an order.
    struct Numbered = "numbered" {
        /// Its place.
        number: u64,
    }
}

#[test]
fn every_line_is_a_json_object_whatever_a_client_said() {
    let nasty = "a\"b\\c\r\n\u{0}\u{7f}\u{85}\u{1f600}\u{202e}\u{2028}</script>";
    let text = written(Form::Json, |log| {
        for number in 0..2000 {
            let client = "2001:db8::1".parse().unwrap();
            log.record(&Denied { helo: nasty, client, number, tls: false, login: None }, NOW);
        }
    });
    assert_eq!(text.lines().count(), 2000);
    assert!(!text.contains(['\u{202e}', '\u{2028}', '\u{85}']), "it would be obeyed");
    for (number, line) in text.lines().enumerate() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["event"], "relay_denied");
        assert_eq!(record["time"], "2026-11-23T09:34:56.789Z");
        assert_eq!(record["node"], "relay \"one\"");
        assert_eq!(record["helo"], nasty);
        assert_eq!(record["client"], "2001:db8::1");
        assert_eq!(record["number"], number);
        assert_eq!(record["tls"], false);
        assert!(record.get("login").is_none());
    }
}

#[test]
fn a_person_reads_words_and_no_escape_sequences() {
    let text = written(Form::Readable, |log| {
        let told = Told { reason: "relay_not_permitted", from: "a\u{202e}b", helo: "\u{1b}[2J \u{9b}x" };
        log.record(&told, NOW);
    });
    assert_eq!(
        text,
        "09:34:56.789 relay_denied from=\"a\\u202eb\" helo=\"\\u001b[2J \\u009bx\" reason=relay_not_permitted\n"
    );
}

/// An output that waits to be told before each write.
struct Gate(Receiver<()>, Sender<()>);

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.1.send(());
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_output_costs_lines_and_never_a_wait() {
    let registry = Registry::new(1, &["smtp"], 1);
    let (open, gate) = channel();
    let (tell, stuck) = channel();
    let writer = LogWriter::start(Gate(gate, tell), Form::Json, "relay", &registry).unwrap();
    let mut log = writer.log();
    log.record(&Numbered { number: 1 }, NOW);
    log.flush();
    stuck.recv().unwrap();
    let filler = "x".repeat(1000);
    // Twice what all the buffers hold.
    for _ in 0..2 * (CHUNKS_MAX + 1) * CHUNK_BYTES_MAX / 1000 {
        log.record(&Filler { filler: &filler }, NOW);
    }
    assert!(registry.lines_dropped().load(Ordering::Relaxed) > 0);
    drop(open);
    drop(log);
}

/// An output that never takes anything.
struct Wall;

impl Write for Wall {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        loop {
            thread::park();
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_never_reads_does_not_hold_up_the_end() {
    let registry = Registry::new(1, &["smtp"], 1);
    let writer = LogWriter::start(Wall, Form::Json, "relay", &registry).unwrap();
    let mut log = writer.log();
    log.record(&Numbered { number: 1 }, NOW);
    drop(log);
    // Comes back.
    drop(writer);
}

/// An output that fails until it is mended.
struct Broken(Arc<AtomicBool>, Memory, Sender<()>);

impl Write for Broken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.load(Ordering::Acquire) {
            return self.1.write(bytes);
        }
        let _ = self.2.send(());
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_was_lost_is_counted_and_told_when_records_are_taken_again() {
    let registry = Registry::new(1, &["smtp"], 1);
    let (memory, is_mended, (tell, failed)) =
        (Memory::default(), Arc::new(AtomicBool::new(false)), channel());
    let output = Broken(is_mended.clone(), memory.clone(), tell);
    let writer = LogWriter::start(output, Form::Json, "relay", &registry).unwrap();
    let mut log = writer.log();
    for _ in 0..3 {
        log.record(&Numbered { number: 1 }, NOW);
    }
    log.flush();
    failed.recv().unwrap();
    while registry.lines_dropped().load(Ordering::Relaxed) < 3 {
        thread::yield_now();
    }
    is_mended.store(true, Ordering::Release);
    log.record(&Filler { filler: "kept" }, NOW);
    drop(log);
    drop(writer);
    let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 2, "{text}");
    assert_eq!((&events[0]["filler"], &events[1]["event"]), (&"kept".into(), &"log_records_dropped".into()));
    assert_eq!((&events[1]["records"], &events[1]["node"]), (&3.into(), &"relay".into()));
}

#[test]
fn a_discarding_log_takes_everything() {
    let mut log = EventLog::discarding();
    log.record(&Filler { filler: "value" }, NOW);
    log.flush();
    assert_eq!(format!("{log:?}"), "EventLog { records: 0, .. }");
}
