//! The client against a scripted peer.

use mail::{Address, ReversePath};
use smtp::client::{ClientTls, Event, Session};

/// A client that has been welcomed, and what the peer offers.
fn welcomed(offers: &str) -> Session {
    let mut session = Session::new("relay.example", ClientTls::Off);
    session.receive(b"220 mx.example\r\n");
    assert_eq!(session.output(), b"EHLO relay.example\r\n");
    session.receive(format!("250-mx.example\r\n{offers}").as_bytes());
    assert_eq!(events(&mut session), "ready");
    session.output().clear();
    session
}

fn begin(session: &mut Session, recipients: &[&str]) {
    let from = ReversePath::parse("a@b.example").unwrap();
    let recipients = recipients.iter().map(|text| Address::parse(text).unwrap());
    session.begin(from, recipients, Some(100), true);
}

fn sent(session: &mut Session) -> String {
    String::from_utf8(std::mem::take(session.output())).unwrap()
}

fn events(session: &mut Session) -> String {
    let mut words = Vec::new();
    while let Some(event) = session.poll() {
        words.push(match event {
            Event::Ready => "ready".to_owned(),
            Event::Recipient { index, reply } => format!("{index}: {}", reply.code()),
            Event::SendBody => "body".to_owned(),
            Event::Done { reply } => format!("done {}", reply.code()),
            Event::TransactionRefused { reply } => format!("refused {}", reply.code()),
            Event::Failed { error } => format!("failed: {error}"),
        });
    }
    words.join(", ")
}

#[test]
fn a_pipelined_transaction_says_all_at_once() {
    let mut session = welcomed("250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n");
    begin(&mut session, &["c@d.example", "e@f.example"]);
    assert_eq!(
        sent(&mut session),
        "MAIL FROM:<a@b.example> SIZE=100 BODY=8BITMIME\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<e@f.example>\r\nDATA\r\n"
    );
    session.receive(b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n354 go\r\n");
    assert_eq!(events(&mut session), "0: 250, 1: 550, body");
    session.write_body(b"x\r\n.\r\n");
    assert_eq!(sent(&mut session), "x\r\n.\r\n");
    session.receive(b"250 taken\r\n");
    assert_eq!(events(&mut session), "done 250, ready");
    begin(&mut session, &["c@d.example"]);
    assert!(sent(&mut session).starts_with("MAIL"), "the connection is used again without RSET");
}

#[test]
fn without_pipelining_each_command_waits() {
    let mut session = welcomed("250 HELP\r\n");
    begin(&mut session, &["c@d.example", "e@f.example"]);
    for (heard, said) in [
        ("", "MAIL FROM:<a@b.example>\r\n"),
        ("250 ok\r\n", "RCPT TO:<c@d.example>\r\n"),
        ("450 later\r\n", "RCPT TO:<e@f.example>\r\n"),
        ("250 ok\r\n", "DATA\r\n"),
    ] {
        session.receive(heard.as_bytes());
        assert_eq!(sent(&mut session), said);
    }
    session.receive(b"354 go\r\n");
    assert_eq!(events(&mut session), "0: 450, 1: 250, body");
}

#[test]
fn when_all_recipients_are_refused_the_connection_stays_usable() {
    for (offer, heard, said) in [
        ("250 PIPELINING\r\n", &["250 ok\r\n550 no\r\n554 none\r\n", "250 reset\r\n"][..], "RSET\r\n"),
        (
            "250 PIPELINING\r\n",
            &["250 ok\r\n550 no\r\n354 go\r\n", "554 none\r\n", "250 reset\r\n"],
            ".\r\nRSET\r\n",
        ),
        ("250 HELP\r\n", &["250 ok\r\n", "550 no\r\n", "250 reset\r\n"], "RCPT TO:<c@d.example>\r\nRSET\r\n"),
    ] {
        let mut session = welcomed(offer);
        begin(&mut session, &["c@d.example"]);
        sent(&mut session);
        let mut all = String::new();
        for reply in heard {
            session.receive(reply.as_bytes());
            all.push_str(&sent(&mut session));
        }
        assert_eq!(all, said);
        assert_eq!(events(&mut session), "0: 550, ready");
    }
}

#[test]
fn a_refused_sender_or_message_refuses_the_transaction() {
    let mut session = welcomed("250 PIPELINING\r\n");
    begin(&mut session, &["c@d.example"]);
    session.receive(b"550 no\r\n503 what\r\n503 what\r\n");
    assert_eq!(events(&mut session), "refused 550, ready");
    begin(&mut session, &["c@d.example"]);
    session.receive(b"250 ok\r\n250 ok\r\n452 full\r\n250 reset\r\n");
    assert_eq!(events(&mut session), "0: 250, refused 452, ready");
}

#[test]
fn a_peer_without_ehlo_gets_helo() {
    for code in [500, 502, 504, 550, 554] {
        let mut session = Session::new("relay.example", ClientTls::Off);
        session.receive(format!("220 old\r\n{code} what\r\n").as_bytes());
        assert_eq!(sent(&mut session), "EHLO relay.example\r\nHELO relay.example\r\n");
        session.receive(b"250 hi\r\n");
        assert_eq!(events(&mut session), "ready");
    }
}

/// RFC 5321 section 3.2: it may know EHLO, and all that it offers is still to be heard.
#[test]
fn a_peer_that_puts_ehlo_off_is_not_asked_in_another_way() {
    for (reply, failure) in [
        ("451 4.3.0 not now", "the next hop does not serve us: 451 4.3.0 not now"),
        ("452 no", "the next hop does not serve us: 452 no"),
        ("421 4.7.0 too many", "the next hop is closing: 421 4.7.0 too many"),
        ("354 go on", "the next hop does not serve us: 354 go on"),
    ] {
        let mut session = Session::new("relay.example", ClientTls::Off);
        session.receive(format!("220 mx\r\n{reply}\r\n").as_bytes());
        assert_eq!(sent(&mut session), "EHLO relay.example\r\n", "after {reply}");
        assert_eq!(events(&mut session), format!("failed: {failure}"));
    }
}

#[test]
fn a_peer_that_closes_or_breaks_the_protocol_ends_the_session() {
    for (heard, failure) in [
        ("421 busy\r\n", "the next hop does not serve us: 421 busy"),
        ("554 5.7.1 no\r\n", "the next hop does not serve us: 554 5.7.1 no"),
        ("hello\r\n", "the next hop does not speak SMTP properly: a reply line without a code"),
        ("220 x\r\n421 4.3.2 bye\r\n", "the next hop is closing: 421 4.3.2 bye"),
        (
            "220 x\r\n250 x\r\n250 y\r\n",
            "the next hop does not speak SMTP properly: a reply that was not asked for",
        ),
    ] {
        let mut session = Session::new("relay.example", ClientTls::Off);
        session.receive(heard.as_bytes());
        let events = events(&mut session);
        assert!(events.ends_with(&format!("failed: {failure}")), "{events}");
    }
    let mut session = welcomed("250 PIPELINING\r\n");
    session.receive(&[b'2'; 5000]);
    assert_eq!(
        events(&mut session),
        "failed: the next hop does not speak SMTP properly: a reply line that is too long"
    );
}
