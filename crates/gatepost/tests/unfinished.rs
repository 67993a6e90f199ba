//! What unfinished messages may hold: past it large mail is put off, and small mail goes on.
//!
//! `GATEPOST_UNFINISHED=200,150` sends from so many clients at once, so many MiB each.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use testbed::dialog::Reply;
use testbed::net::{PATIENCE, eventually, free_address};
use testbed::{Configuration, Destination, Dialog, Gateway, Rules};

const GATEPOST: &str = env!("CARGO_BIN_EXE_gatepost");
const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";
const MIB: u64 = 1 << 20;
const SMALL: &[u8] = b"From: kim@proseware.example\r\nSubject: small\r\n\r\nA small one.\r\n";

fn with_budgets(next_hop: std::net::SocketAddr, all: u64, each: u64) -> Gateway {
    let mut configuration = Configuration::relay(next_hop);
    configuration.capacity = "4GiB".into();
    configuration.spool_extra =
        format!("unfinished = \"{}MiB\"\nunfinished_per_client = \"{}MiB\"\n", all / MIB, each / MIB);
    Gateway::start(GATEPOST, configuration)
}

fn client(number: u64) -> IpAddr {
    Ipv4Addr::new(127, 0, 1 + (number / 200) as u8, 1 + (number % 200) as u8).into()
}

/// A client that has begun a message.
fn in_data(gateway: &Gateway, source: IpAddr) -> Dialog {
    let mut dialog = Dialog::hello_from(source, gateway.smtp());
    dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
    dialog.command(&format!("RCPT TO:<{BOB}>"), 250);
    dialog.command("DATA", 354);
    dialog.send("From: kim@proseware.example\r\nSubject: large\r\n\r\n");
    dialog
}

/// What the files of large messages take on disk now.
fn large_bytes(gateway: &Gateway) -> u64 {
    let files = fs::read_dir(gateway.directory().join("spool/shard-000"));
    files
        .expect("the gateway has a shard")
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().starts_with("large-"))
        .filter_map(|file| Some(file.metadata().ok()?.blocks() * 512))
        .sum()
}

fn asked_for() -> Option<(u64, u64)> {
    let text = std::env::var("GATEPOST_UNFINISHED").ok()?;
    let (clients, mib) = text.split_once(',')?;
    Some((clients.parse().ok()?, mib.parse().ok()?))
}

#[test]
fn many_large_messages_at_once_stay_within_the_budgets() {
    let (clients, mib) = asked_for().unwrap_or((40, 6));
    // Half of the capacity at most.
    let (all, each) = ((clients * mib * MIB / 5).min(2 << 30), (mib + 1) * MIB);
    let destination = Destination::start();
    let gateway = &with_budgets(destination.address(), all, each);
    let chunk = "a line of sixty-four octets, as most of the lines of a mail are.\r\n".repeat(1000);
    let chunks = mib * MIB / chunk.len() as u64;
    let (sent, most) = (&AtomicU64::new(0), &AtomicU64::new(0));
    let all_sent = &Barrier::new(clients as usize + 1);
    let replies: Vec<Reply> = thread::scope(|scope| {
        let senders: Vec<_> = (0..clients)
            .map(|number| {
                let chunk = &chunk;
                scope.spawn(move || {
                    let mut dialog = in_data(gateway, client(number));
                    (0..chunks).for_each(|_| dialog.send(chunk));
                    sent.fetch_add(1, Ordering::SeqCst);
                    all_sent.wait();
                    dialog.send(".\r\n");
                    dialog.reply().expect("every message is answered")
                })
            })
            .collect();
        let mut small = 0;
        // Small mail goes on, before the last dot of any large one.
        while sent.load(Ordering::SeqCst) < clients || small < 3 {
            most.fetch_max(large_bytes(gateway), Ordering::SeqCst);
            Dialog::hello(gateway.smtp()).deliver(KIM, &[BOB], SMALL);
            small += 1;
        }
        all_sent.wait();
        senders.into_iter().map(|sender| sender.join().expect("no sender fails")).collect()
    });
    let peak = gateway.peak_bytes();
    let most = most.load(Ordering::SeqCst);
    let taken = replies.iter().filter(|reply| reply.code == 250).count() as u64;
    println!(
        "{clients} clients, {mib} MiB each: {taken} taken, at most {most} of {all} bytes on disk, peak memory {peak}"
    );
    assert!(most > 0 && most <= all + each, "{most} bytes of {all}");
    assert!(taken >= 1 && taken * mib * MIB <= all + each, "{taken} messages of {mib} MiB");
    for reply in replies.iter().filter(|reply| reply.code != 250) {
        assert_eq!(reply.code, 452, "{reply:?}");
        assert!(reply.text().contains("unfinished messages of all clients"), "{reply:?}");
    }
    // Pieces, the bodies gathered in front of them, and what a gateway takes anyway.
    assert!(peak <= 192 * MIB + clients * 2 * MIB, "{peak} bytes of memory");
    // All of it is free again.
    let mut dialog = in_data(gateway, client(0));
    (0..chunks).for_each(|_| dialog.send(&chunk));
    dialog.send(".\r\n");
    dialog.expect(250);
}

#[test]
fn a_size_that_does_not_fit_is_refused_before_the_message() {
    let destination = Destination::start();
    let gateway = with_budgets(destination.address(), 12 * MIB, 8 * MIB);
    let mail = |source, mib| {
        let mut dialog = Dialog::hello_from(source, gateway.smtp());
        dialog.send(format!("MAIL FROM:<{KIM}> SIZE={}\r\n", mib * MIB));
        let reply = dialog.reply().expect("MAIL is answered");
        (dialog, reply)
    };
    let (mut first, reply) = mail(client(1), 6);
    assert_eq!(reply.code, 250, "{reply:?}");
    first.command(&format!("RCPT TO:<{BOB}>"), 250);
    first.command("DATA", 354);
    let (mut late, reply) = mail(client(1), 6);
    assert_eq!(reply.code, 250, "nothing is held before it has come: {reply:?}");
    late.command(&format!("RCPT TO:<{BOB}>"), 250);
    let chunk = "a line of sixty-four octets, as most of the lines of a mail are.\r\n".repeat(1000);
    (0..5 * MIB / chunk.len() as u64).for_each(|_| first.send(&chunk));
    let is_held = eventually(PATIENCE, || mail(client(1), 6).1.code == 452);
    assert!(is_held, "what has come is not counted");
    assert!(late.command("DATA", 452).text().contains("this client may hold 8 MiB"));
    assert_eq!(mail(client(2), 6).1.code, 250, "another client has its own");
    // More of the first message has come by then than its own bound asks for.
    let is_full = eventually(PATIENCE, || mail(client(2), 8).1.code == 452);
    assert!(is_full, "what has come of others is not counted");
    let (_, reply) = mail(client(2), 8);
    assert!(reply.code == 452 && reply.text().contains("all clients may hold 12 MiB"), "{reply:?}");
    // A client that breaks off gives back what it held.
    drop(first);
    assert!(eventually(PATIENCE, || mail(client(1), 6).1.code == 250), "the budget is never free again");
}

#[test]
fn past_the_watermark_mail_is_put_off_and_deliveries_make_room() {
    let mut configuration = Configuration::relay(free_address());
    configuration.capacity = "192MiB".into();
    let gateway = Gateway::start(GATEPOST, configuration);
    let mut body = SMALL.to_vec();
    while body.len() < 900_000 {
        body.extend_from_slice(b"a line of sixty-four octets, as most of the lines of a mail are.\r\n");
    }
    let mut accepted = 0;
    let mut dialog = Dialog::hello(gateway.smtp());
    let refused = loop {
        assert!(accepted < 250, "192 MiB never are full");
        dialog.send(format!("MAIL FROM:<{KIM}>\r\n"));
        let reply = dialog.reply().expect("MAIL is answered");
        if reply.code != 250 {
            break reply;
        }
        // Every tenth recipient will be refused: its bounce needs room past the watermark.
        let to = if accepted % 10 == 0 { "nobody@adatum.example" } else { BOB };
        dialog.command(&format!("RCPT TO:<{to}>"), 250);
        dialog.command("DATA", 354);
        dialog.send(&body);
        dialog.send(".\r\n");
        let reply = dialog.reply().expect("a message is answered");
        match reply.code {
            250 => accepted += 1,
            _ => break reply,
        }
    };
    assert_eq!(refused.code, 452, "{refused:?}");
    assert!(refused.text().contains("4.3.1"), "{refused:?}");
    assert!(accepted > 60, "only {accepted} messages found room");
    let recipient = |to: &str| to.starts_with("nobody").then(|| "550 5.1.1 no such user".to_owned());
    let rules = Rules { recipient: Some(Box::new(recipient)), ..Rules::default() };
    let destination = Destination::at(gateway.configuration().next_hop, rules);
    // Bounces go to the sender by the same next hop: as many arrive as were accepted.
    let _ = destination.wait_until(Duration::from_secs(60), |arrivals| arrivals.len() >= accepted);
    assert_eq!(destination.count(), accepted, "every message is delivered or bounced");
    let resumed = eventually(PATIENCE, || {
        let mut dialog = Dialog::hello(gateway.smtp());
        dialog.send(format!("MAIL FROM:<{KIM}>\r\n"));
        dialog.reply().is_some_and(|reply| reply.code == 250)
    });
    assert!(resumed, "mail is never accepted again");
    Dialog::hello(gateway.smtp()).deliver(KIM, &[BOB], SMALL);
    assert_eq!(destination.wait_for(accepted + 1).len(), accepted + 1);
}
