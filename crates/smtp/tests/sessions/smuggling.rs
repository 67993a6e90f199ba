//! Every line ending of cases/smuggling.md, cut at every place.

use smtp::server::MessageEnd;

use crate::handler::{Recorder, greeted, said, settings};

const CASES: [&str; 12] = [
    "\n.\n",
    "\n.\r",
    "\r.\n",
    "\r.\r",
    "\n.\r\n",
    "\r.\r\n",
    "\r\n.\n",
    "\r\n.\r",
    "\r\n\0.\r\n",
    "\r\n.\0\r\n",
    "\r\n.\r\r\n",
    "\r\r\n.\r\r\n",
];

#[test]
fn nothing_but_crlf_dot_crlf_ends_a_message_wherever_it_is_cut() {
    for case in CASES {
        let start = "EHLO app\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n";
        let smuggled = "MAIL FROM:<smuggled@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\nbad\r\n";
        let input = format!("{start}text{case}{smuggled}.\r\nNOOP\r\n");
        for cut in 0..=input.len() {
            check(input.as_bytes(), cut, case);
        }
    }
}

fn check(input: &[u8], cut: usize, case: &str) {
    let (mut session, mut handler) = (greeted(settings()), Recorder::default());
    session.receive(&input[..cut], &mut handler);
    session.receive(&input[cut..], &mut handler);
    let said = said(&mut session);
    let end = "354 end with a dot on a line of its own\r\n550 5.6.11 bare_newline\r\n250 2.0.0 OK\r\n";
    assert!(said.ends_with(end), "{case:?} cut at {cut}: {said}");
    assert!(handler.messages.is_empty());
    assert_eq!(handler.refused, [MessageEnd::BareNewline]);
    assert!(!handler.log.iter().any(|note| note.contains("smuggled")));
}

#[test]
fn a_clean_message_is_handed_on_unaltered_wherever_it_is_cut() {
    let long = "x".repeat(5000);
    let body = format!("Subject: y\r\n\r\n..\r\n..a\r\n.b\r\n{long}\r\n\u{e9}\r\n\r\n");
    let input = format!("HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n{body}.\r\nNOOP\r\n");
    for cut in 0..=input.len() {
        let (mut session, mut handler) = (greeted(settings()), Recorder::default());
        session.receive(&input.as_bytes()[..cut], &mut handler);
        session.receive(&input.as_bytes()[cut..], &mut handler);
        assert_eq!(handler.messages, [body.as_bytes()]);
        assert!(said(&mut session).ends_with("250 2.0.0 taken\r\n250 2.0.0 OK\r\n"));
    }
}
