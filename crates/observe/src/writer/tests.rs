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

#[test]
fn every_line_is_a_json_object_whatever_a_client_said() {
    let nasty = "a\"b\\c\r\n\u{0}\u{7f}\u{85}\u{1f600}</script>";
    let text = written(Form::Json, |log| {
        for number in 0..2000 {
            log.event("relay_denied", NOW)
                .str("helo", nasty)
                .ip("client", "2001:db8::1".parse().unwrap())
                .number("number", number)
                .bool("tls", false)
                .maybe_str("login", None)
                .end();
        }
    });
    assert_eq!(text.lines().count(), 2000);
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
        log.event("relay_denied", NOW)
            .str("reason", "relay_not_permitted")
            .str("helo", "\u{1b}[2J \u{9b}x")
            .end();
    });
    assert_eq!(text, "09:34:56.789 relay_denied helo=\"\\u001b[2J \\u009bx\" reason=relay_not_permitted\n");
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
    log.event("first", NOW).end();
    log.flush();
    stuck.recv().unwrap();
    let filler = "x".repeat(1000);
    // Twice what all the buffers hold.
    for _ in 0..2 * (CHUNKS_MAX + 1) * CHUNK_BYTES_MAX / 1000 {
        log.event("filler", NOW).str("filler", &filler).end();
    }
    assert!(registry.lines_dropped().load(Ordering::Relaxed) > 0);
    drop(open);
    drop(log);
}

#[test]
fn a_discarding_log_takes_everything() {
    let mut log = EventLog::discarding();
    log.event("nothing", NOW).str("key", "value").number("n", 1).end();
    log.flush();
    assert_eq!(format!("{log:?}"), "EventLog { records: 0, .. }");
}
