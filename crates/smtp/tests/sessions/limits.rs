//! What a hostile or broken client costs, and what it is told.

use mail::limits::{COMMAND_LINE_BYTES_MAX, SessionLimits};
use smtp::server::{Phase, Resume, Settings};

use crate::handler::{Recorder, greeted, said, settings};

const TOO_MANY_ERRORS: &str = "421 4.7.0 too many errors: at most 20 in a session without a message\r\n";

#[test]
fn a_line_without_an_end_is_refused_and_then_cut() {
    let (mut session, mut handler) = (greeted(settings()), Recorder::default());
    let mut sent = 0;
    while !session.is_closing() {
        session.receive(&[b'x'; 1000], &mut handler);
        sent += 1000;
        assert!(sent < 200_000);
    }
    let said = said(&mut session);
    assert!(said.starts_with("500 5.5.2 line longer than 4096 bytes\r\n"), "{said}");
    assert!(said.ends_with(TOO_MANY_ERRORS), "{said}");
}

#[test]
fn after_a_line_that_is_too_long_the_next_is_a_command() {
    let (mut session, mut handler) = (greeted(settings()), Recorder::default());
    let mut input = vec![b'x'; COMMAND_LINE_BYTES_MAX];
    input.extend_from_slice(b"\r\nNOOP\r\n");
    session.receive(&input, &mut handler);
    assert_eq!(said(&mut session), "500 5.5.2 line longer than 4096 bytes\r\n250 2.0.0 OK\r\n");
}

#[test]
fn errors_and_idle_commands_have_a_budget() {
    for (errors_max, idle_commands_max) in [(20, 1000), (3, 10), (1, 11)] {
        let limits = SessionLimits { errors_max, idle_commands_max, ..SessionLimits::default() };
        for (command, count, text) in [
            (
                "WHAT\r\n",
                errors_max,
                format!("too many errors: at most {errors_max} in a session without a message"),
            ),
            (
                "NOOP\r\n",
                idle_commands_max,
                format!("too many commands without mail: at most {idle_commands_max} in a row"),
            ),
        ] {
            let (mut session, mut handler) =
                (greeted(Settings { limits, ..settings() }), Recorder::default());
            let mut heard = String::new();
            for _ in 0..=count {
                session.receive(command.as_bytes(), &mut handler);
                heard.push_str(&said(&mut session));
            }
            assert!(session.is_closing());
            assert!(heard.ends_with(&format!("421 4.7.0 {text}\r\n")), "{heard}");
            assert_eq!(heard.lines().count(), count as usize + 1);
        }
    }
}

#[test]
fn many_refused_recipients_leave_an_accepted_one_its_message() {
    let (mut session, mut handler) = (greeted(settings()), Recorder::default());
    let input = format!(
        "HELO a\r\nMAIL FROM:<a@b.example>\r\n{}RCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n",
        "RCPT TO:<denied@d.example>\r\n".repeat(100)
    );
    session.receive(input.as_bytes(), &mut handler);
    assert!(said(&mut session).ends_with("250 2.0.0 taken\r\n"));
    assert!(!session.is_closing());
}

#[test]
fn more_refused_recipients_in_one_transaction_than_are_taken_end_the_session() {
    let limits = SessionLimits { recipients_max: 100, ..SessionLimits::default() };
    let (mut session, mut handler) = (greeted(Settings { limits, ..settings() }), Recorder::default());
    session.receive(b"HELO a\r\nMAIL FROM:<a@b.example>\r\n", &mut handler);
    session.receive("RCPT TO:<denied@d.example>\r\n".repeat(100).as_bytes(), &mut handler);
    assert!(!session.is_closing());
    session.receive(b"RCPT TO:<denied@d.example>\r\n", &mut handler);
    let last = "421 4.7.0 too many refused recipients: at most 100 in a transaction\r\n";
    assert!(said(&mut session).ends_with(last));
    assert!(session.is_closing());
}

#[test]
fn transactions_of_refused_recipients_only_end_the_session() {
    let (mut session, mut handler) = (greeted(settings()), Recorder::default());
    let probe = format!("MAIL FROM:<a@b.example>\r\n{}RSET\r\n", "RCPT TO:<denied@d.example>\r\n".repeat(5));
    session.receive(format!("HELO a\r\n{}", probe.repeat(4)).as_bytes(), &mut handler);
    assert!(said(&mut session).ends_with(TOO_MANY_ERRORS));
    assert!(session.is_closing());
}

#[test]
fn a_client_that_never_reads_is_not_read_from() {
    let (mut session, mut handler) = (greeted(settings()), Recorder::default());
    session.receive(b"HELO a\r\nMAIL FROM:<a@b.example>\r\n", &mut handler);
    let input = "RCPT TO:<c@d.example>\r\n".repeat(10_000);
    session.receive(input.as_bytes(), &mut handler);
    assert!(!session.wants_input());
    assert!(session.output().len() < 66_000);
    let mut replies = 0;
    while !session.output().is_empty() {
        replies += said(&mut session).lines().count();
        session.receive(b"", &mut handler);
    }
    assert_eq!(replies, 10_002, "nothing of it is lost");
    assert!(session.wants_input());
}

#[test]
fn a_paused_body_goes_on_where_it_stopped() {
    let (mut session, mut handler) = (greeted(settings()), Recorder { pauses: true, ..Recorder::default() });
    session.receive(b"HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nfirst\r\n", &mut handler);
    assert_eq!(session.phase(), Phase::Waiting);
    session.receive(b"second\r\n.\r\nNOOP\r\n", &mut handler);
    assert_eq!(handler.body, b"first\r\n");
    said(&mut session);
    session.resume(Resume::Continue, &mut handler);
    assert_eq!(handler.body, b"first\r\nsecond\r\n");
    assert_eq!(said(&mut session), "", "the message is not over while its last piece is not taken");
    session.resume(Resume::Continue, &mut handler);
    assert_eq!(said(&mut session), "250 2.0.0 taken\r\n250 2.0.0 OK\r\n");
}

#[test]
fn a_lost_connection_ends_the_transaction() {
    let (mut session, mut handler) = (greeted(settings()), Recorder::default());
    session.receive(b"HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n", &mut handler);
    handler.log.clear();
    session.peer_ended(&mut handler);
    assert_eq!(handler.log, ["reset"]);
    assert!(session.is_closing() && !session.has_transaction());
}

#[test]
fn a_client_that_is_lost_while_its_recipient_is_asked_for_ends_the_transaction() {
    let (mut session, mut handler) = (greeted(settings()), Recorder::default());
    session.receive(b"HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<asked@d.example>\r\nDATA\r\n", &mut handler);
    assert_eq!(session.phase(), Phase::Waiting);
    assert!(session.has_transaction());
    handler.log.clear();
    session.peer_ended(&mut handler);
    assert_eq!(handler.log, ["reset"]);
    said(&mut session);
    session.resume(Resume::Recipient(None), &mut handler);
    assert_eq!(said(&mut session), "", "an answer that is not awaited is ignored");
    assert!(session.is_closing());
}

#[test]
fn a_search_for_recipients_waits_for_its_turns_and_mail_does_not() {
    let (mut session, mut handler) = (greeted(settings()), Recorder::default());
    session.receive(b"EHLO client.example\r\nMAIL FROM:<a@b.example>\r\n", &mut handler);
    said(&mut session);
    session.set_allowance(10);
    session.receive("RCPT TO:<denied@b.example>\r\n".repeat(25).as_bytes(), &mut handler);
    assert_eq!(said(&mut session).matches("550").count(), 10);
    assert!(session.yields());
    session.set_allowance(10);
    session.receive(b"RCPT TO:<c@b.example>\r\n", &mut handler);
    assert_eq!(said(&mut session).matches("550").count(), 10, "what came first is looked at first");
    session.set_allowance(10);
    session.receive(b"", &mut handler);
    assert!(said(&mut session).ends_with("250 2.1.5 recipient ok\r\n"));
    assert!(!session.yields());
    session.set_allowance(0);
    session.receive("RCPT TO:<denied@b.example>\r\n".repeat(9).as_bytes(), &mut handler);
    assert_eq!(said(&mut session).matches("550").count(), 9, "it has an accepted recipient");
}

#[test]
fn only_what_is_whole_is_a_step_and_an_exchange_of_auth_is_one() {
    let settings = Settings { auth_without_tls: true, ..settings() };
    let (mut session, mut handler) = (greeted(settings), Recorder::default());
    let mut steps = |words: &str| {
        let before = (session.steps(), session.carried());
        session.receive(words.as_bytes(), &mut handler);
        (session.steps() - before.0, session.carried() - before.1)
    };
    for byte in "NOOP\r".split_inclusive(|_| true) {
        assert_eq!(steps(byte), (0, 0), "{byte:?}");
    }
    assert_eq!(steps("\n"), (1, 0));
    assert_eq!(steps("EHLO client.example\r\n"), (1, 0));
    assert_eq!(steps("AUTH LOGIN\r\n"), (0, 0), "it has only begun");
    assert_eq!(steps("dGVycmk=\r\n"), (0, 0), "the name alone is no login");
    assert_eq!(steps("b3BlbiBzZXNhbWU=\r\n"), (1, 0), "here it has its answer");
    assert_eq!(steps("MAIL FROM:<a@b.example>\r\n"), (1, 0));
    assert_eq!(steps("RCPT TO:<c@d.example>\r\n"), (1, 1));
    assert_eq!(steps("DATA\r\n"), (1, 0));
    let line = "x".repeat(1022) + "\r\n";
    for _ in 0..7 {
        assert_eq!(steps(&line), (0, 0));
    }
    assert_eq!(steps(&line), (1, 1), "eight kibibytes are a step");
    assert_eq!(steps(&line), (0, 0));
    assert_eq!(steps(".\r\n"), (1, 1));
}
