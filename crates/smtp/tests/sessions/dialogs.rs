//! Runs the scripts of `tests/dialogs`.
//!
//! `C: ` is a line from the client, `c: ` the same with escapes and without a line end; client lines
//! that follow each other come at once. `S: ` is a line from the server. `H: ` is an answer of the
//! handler that was waited for, `H= ` the handler's notes since the last one. `closed` ends it. The first
//! line sets the listener up. Each script runs with its input whole and byte by byte.

use std::sync::Arc;

use mail::{Reply, Status};
use smtp::server::{Resume, Session, Settings, TlsMode, XClientRights};

use crate::handler::{Recorder, login_failed, said, settings};

#[test]
fn every_dialog_goes_as_written() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialogs");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let script = std::fs::read_to_string(&path).unwrap();
        for step in [usize::MAX, 1, 3] {
            eprintln!("{} in pieces of {step}", path.display());
            run(&script, step);
        }
        count += 1;
    }
    assert!(count > 5, "the scripts are there");
}

fn run(script: &str, step: usize) {
    let mut handler = Recorder::default();
    let mut lines = script.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let setup = lines.next().unwrap();
    let settings = Arc::new(set_up(setup, &mut handler));
    let mut session =
        if setup.contains("proxied") { Session::behind_proxy(settings) } else { Session::new(settings) };
    let (mut pending, mut heard) = (Vec::new(), String::new());
    for line in lines.by_ref() {
        if let Some(text) = line.strip_prefix("C: ") {
            pending.extend_from_slice(text.as_bytes());
            pending.extend_from_slice(b"\r\n");
            continue;
        }
        if let Some(text) = line.strip_prefix("c: ") {
            pending.extend_from_slice(&unescape(text));
            continue;
        }
        for piece in pending.chunks(step.min(pending.len().max(1))) {
            session.receive(piece, &mut handler);
        }
        pending.clear();
        heard.push_str(&said(&mut session));
        if let Some(expected) = line.strip_prefix("S: ") {
            let (first, rest) = heard.split_once("\r\n").unwrap_or_else(|| panic!("nothing said for {line}"));
            assert_eq!(first, expected, "then: {rest}");
            heard = rest.to_owned();
        } else if let Some(answer) = line.strip_prefix("H: ") {
            assert_eq!(heard, "", "before {line}");
            match answer {
                "yes" => session.resume(Resume::Auth(None), &mut handler),
                "no" => session.resume(Resume::Auth(Some(&login_failed())), &mut handler),
                "taken" => session.resume(Resume::Recipient(None), &mut handler),
                "unknown" => {
                    let refusal = Reply::new(550, Some(Status::new(5, 1, 1)), "unknown");
                    session.resume(Resume::Recipient(Some(&refusal)), &mut handler);
                }
                text => session.resume(Resume::Message(&Reply::new(250, None, text)), &mut handler),
            }
        } else if let Some(notes) = line.strip_prefix("H= ") {
            assert_eq!(handler.log.join("; "), notes);
            handler.log.clear();
        } else {
            assert_eq!(line, "closed");
            assert!(session.is_closing());
        }
    }
    assert_eq!(heard + &said(&mut session), "", "nothing else was said");
    assert!(pending.is_empty(), "the script ends with what the server says");
}

fn set_up(line: &str, handler: &mut Recorder) -> Settings {
    let mut settings = settings();
    for word in line.split(' ') {
        match word {
            "listener:" => {}
            "required" => settings.tls = TlsMode::Required,
            "auth_without_tls" => settings.auth_without_tls = true,
            "scram" => handler.knows_scram = true,
            "waits" => handler.waits = true,
            "proxied" => {}
            "xclient" => handler.xclient = XClientRights::Address,
            "xclient_login" => handler.xclient = XClientRights::Login,
            "limit" => settings.message_bytes_max = Some(20),
            other => panic!("unknown: {other}"),
        }
    }
    settings
}

fn unescape(text: &str) -> Vec<u8> {
    text.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0").into_bytes()
}
