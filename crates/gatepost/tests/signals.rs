//! Signals, and the reader of what a gateway writes: neither ends it by accident, nor keeps it from ending.

use std::fs;
use std::io::{PipeReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use tempfile::TempDir;
use testbed::http::http_get;
use testbed::net::{PATIENCE, eventually, free_address};
use testbed::{Configuration, Destination, Dialog};

const GATEPOST: &str = env!("CARGO_BIN_EXE_gatepost");
const FROM: &str = "terri@proseware.example";
const TO: &str = "bob@adatum.example";
const CONTENT: &[u8] = b"From: terri@proseware.example\r\nSubject: hello\r\n\r\nthe words of terri\r\n";
/// What a pipe holds before its writer waits (pipe(7)).
const PIPE_BYTES: usize = 65_536;

/// A gateway whose output and errors go where a test says.
struct Running {
    child: Child,
    configuration: Configuration,
    _directory: TempDir,
}

impl Running {
    fn start(configuration: Configuration, output: Stdio, errors: Stdio) -> Self {
        let directory = TempDir::with_prefix("gatepost-test-").expect("a temporary folder can be made");
        let config = configuration.write(directory.path());
        let mut command = Command::new(GATEPOST);
        command.args(["run", "--config"]).arg(config).stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().expect("gatepost was built");
        Self { child, configuration, _directory: directory }
    }

    fn signal(&self, name: &str) {
        let script = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &script]).status().expect("a shell is there").success());
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        let metrics = self.configuration.metrics;
        let mut ended = None;
        let is_ready = eventually(PATIENCE, || {
            ended = self.child.try_wait().expect("a child of ours can be awaited");
            ended.is_some() || http_get(metrics, "/readyz").is_some_and(|(code, _)| code == 200)
        });
        assert!(is_ready && ended.is_none(), "not ready: {ended:?}");
    }

    fn send(&self, count: usize) {
        let mut dialog = Dialog::hello(self.configuration.listeners[0].address);
        for _ in 0..count {
            assert_eq!(dialog.deliver(FROM, &[TO], CONTENT).code, 250);
        }
    }

    #[track_caller]
    fn wait_end(mut self) -> ExitStatus {
        let mut status = None;
        eventually(PATIENCE, || {
            status = self.child.try_wait().expect("a child of ours can be awaited");
            status.is_some()
        });
        status.expect("it does not end")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already, unless a test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway that cannot say the first thing that it has to say, a warning of its configuration: its start goes on when
/// a test reads what it says.
fn held_up() -> (Running, PipeReader) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe can be made");
    writer.write_all(&vec![b'\n'; PIPE_BYTES]).expect("it fits");
    // A tenant on loopback is worth a warning.
    let running = Running::start(Configuration::relay(free_address()), Stdio::null(), writer.into());
    let place = format!("/proc/{}/wchan", running.child.id());
    let waits = || fs::read_to_string(&place).is_ok_and(|place| place.contains("pipe_write"));
    assert!(eventually(PATIENCE, waits), "it does not wait for its reader: {:?}", fs::read_to_string(&place));
    (running, reader)
}

fn read_all(mut reader: PipeReader) {
    thread::spawn(move || {
        let mut said = Vec::new();
        let _ = reader.read_to_end(&mut said);
    });
}

#[test]
fn a_hangup_before_the_start_is_done_ends_nothing() {
    let (mut running, reader) = held_up();
    running.signal("HUP");
    running.signal("HUP");
    read_all(reader);
    running.wait_ready();
    running.signal("TERM");
    assert_eq!(running.wait_end().code(), Some(0));
}

#[test]
fn a_stop_before_the_start_is_done_ends_it_in_order() {
    let (running, reader) = held_up();
    running.signal("TERM");
    read_all(reader);
    assert_eq!(running.wait_end().code(), Some(0));
}

#[test]
fn a_log_reader_that_has_stopped_holds_up_neither_mail_nor_the_end() {
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    let destination = Destination::start();
    let configuration = Configuration::relay(destination.address());
    let mut running = Running::start(configuration, writer.into(), Stdio::null());
    running.wait_ready();
    // Two records each, of some 300 bytes: more than the pipe holds.
    running.send(PIPE_BYTES / 300);
    assert_eq!(destination.wait_for(PIPE_BYTES / 300).len(), PIPE_BYTES / 300);
    running.signal("TERM");
    assert_eq!(running.wait_end().code(), Some(0));
    drop(reader);
}

#[test]
fn a_log_reader_that_has_gone_takes_nothing_with_it_and_is_missed_aloud() {
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    let (mut said, errors) = std::io::pipe().expect("a pipe can be made");
    let destination = Destination::start();
    let configuration = Configuration::relay(destination.address());
    let mut running = Running::start(configuration, writer.into(), errors.into());
    running.wait_ready();
    drop(reader);
    running.send(10);
    assert_eq!(destination.wait_for(10).len(), 10);
    let metrics = running.configuration.metrics;
    let is_counted = || {
        let (_, text) = http_get(metrics, "/metrics").unwrap_or_default();
        let lost = text.lines().find_map(|line| line.strip_prefix("gatepost_log_lines_dropped_total "));
        lost.is_some_and(|lost| lost.parse::<f64>().is_ok_and(|lost| lost > 0.0))
    };
    assert!(eventually(PATIENCE, is_counted));
    running.signal("TERM");
    assert_eq!(running.wait_end().code(), Some(0));
    let mut text = String::new();
    said.read_to_string(&mut text).expect("it was text");
    assert_eq!(text.matches("the log cannot be written").count(), 1, "{text}");
}
