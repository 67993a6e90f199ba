//! What a destination says that it takes is heeded, in the simulated world.

mod harness;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use harness::Scene;

const FROM: &str = "terri@proseware.example";
const ONE_HOP: [&str; 1] = ["10.0.0.2:25"];
/// What the gateway puts before a message.
const TRACE: &str = "Received: by relay.example\r\n";
/// A body that goes to a file of its own.
const LARGE_BYTES: usize = 3 << 20;

/// A scene with one destination that offers `offers`, and the MAIL commands that it heard.
fn scene(seed: u64, offers: &'static str) -> (Scene, Rc<RefCell<Vec<String>>>) {
    let mut scene = Scene::new(seed, &ONE_HOP);
    let heard = Rc::new(RefCell::new(Vec::new()));
    let mails = heard.clone();
    scene.destination(2, move |line| {
        if line.starts_with("MAIL") {
            mails.borrow_mut().push(line.to_owned());
        }
        match line.starts_with("EHLO") {
            true => format!("250-destination.example\r\n{offers}"),
            false => String::new(),
        }
    });
    (scene, heard)
}

fn outcomes(scene: &Scene, outcome: &str) -> u64 {
    scene.gateway.metric(&format!("gatepost_deliveries_total{{tenant=\"proseware\",outcome=\"{outcome}\"}}"))
}

/// The bounce that came of the only message, which failed.
fn bounce(scene: &mut Scene) -> String {
    scene.until("the sender is told", |scene| scene.taken(0) == 1);
    assert_eq!(outcomes(scene, "failed"), 1);
    let bounce = &scene.destinations[0].taken[0];
    assert_eq!((bounce.from.as_str(), &*bounce.to), ("", &[FROM.to_owned()][..]), "nothing else was sent");
    String::from_utf8(bounce.body.clone()).expect("a bounce is text")
}

#[test]
fn a_message_beyond_the_size_that_a_destination_names_fails_unsent_and_its_sender_is_told() {
    let body = |bytes: usize| format!("Subject: x\r\n\r\n{}\r\n", "x".repeat(bytes));
    let (mut scene, heard) = scene(1, "250-PIPELINING\r\n250 SIZE 3000");
    scene.send(FROM, &["kim@a.example", "lee@a.example"], &body(4000));
    scene.until("the sender is told", |scene| scene.taken(0) == 1);
    assert_eq!(outcomes(&scene, "failed"), 2);
    let bounce = String::from_utf8(scene.destinations[0].taken[0].body.clone()).unwrap();
    assert_eq!(bounce.matches("Status: 5.3.4\r\n").count(), 2, "{bounce}");
    assert!(
        bounce.contains("552 5.3.4 10.0.0.2:25 takes messages of 3000 bytes at most, and this one has 40")
    );
    assert!(!bounce.contains("Diagnostic-Code"), "words of our own are no diagnosis of the next hop's");
    assert_eq!(heard.borrow().len(), 1, "of the message itself nothing was said: {:?}", heard.borrow());
    scene.until("the bounce is out", |scene| outcomes(scene, "delivered") == 1);
    // Smaller ones go on, over the same connection.
    scene.send(FROM, &["kim@a.example"], &body(2000));
    scene.until("it is delivered", |scene| outcomes(scene, "delivered") == 2);
    assert_eq!(scene.destinations[0].connections, 1);
}

#[test]
fn a_message_of_exactly_the_size_named_is_sent_and_neither_stuffing_nor_the_final_dot_count() {
    let dots = "..\r\n".repeat(100);
    let wire = TRACE.len() + "Subject: x\r\n\r\n".len() + dots.len();
    for (most, is_sent) in [(wire - 100, true), (wire - 101, false)] {
        let offers: &'static str = Box::leak(format!("250 SIZE {most}").into_boxed_str());
        let (mut scene, _) = scene(2, offers);
        scene.send(FROM, &["kim@a.example"], &format!("Subject: x\r\n\r\n{dots}"));
        scene.until("it has its outcome", |scene| {
            outcomes(scene, "delivered") + outcomes(scene, "failed") > 0
        });
        assert_eq!(outcomes(&scene, "failed"), u64::from(!is_sent), "{most} bytes at most");
    }
}

#[test]
fn a_size_of_none_or_nothing_is_no_limit() {
    for offers in ["250 SIZE", "250 SIZE 0", "250 SIZE lots", "250 HELP"] {
        let (mut scene, heard) = scene(3, offers);
        scene.send(FROM, &["kim@a.example"], "Subject: x\r\n\r\nbody\r\n");
        scene.until("it is delivered", |scene| outcomes(scene, "delivered") == 1);
        assert_eq!(heard.borrow()[0].contains(" SIZE="), offers.contains("SIZE"), "{:?}", heard.borrow());
    }
}

#[test]
fn a_large_message_is_held_to_the_size_too() {
    let (mut scene, heard) = scene(4, "250-SIZE 1048576\r\n250 8BITMIME");
    scene.send_large(FROM, &["kim@a.example"], LARGE_BYTES);
    assert!(bounce(&mut scene).contains("Status: 5.3.4\r\n"));
    assert_eq!(heard.borrow().len(), 1);
}

#[test]
fn eight_bit_goes_to_hosts_that_take_it_and_says_so() {
    for (body, offers, says) in [
        ("Subject: x\r\n\r\nplain\r\n", "250 8BITMIME", false),
        ("Subject: x\r\n\r\ncaf\u{e9}\r\n", "250 8BITMIME", true),
        ("Subject: x\r\n\r\nplain\r\n", "250 HELP", false),
    ] {
        let (mut scene, heard) = scene(5, offers);
        scene.send(FROM, &["kim@a.example"], body);
        scene.until("it is delivered", |scene| outcomes(scene, "delivered") == 1);
        assert_eq!(heard.borrow()[0].ends_with(" BODY=8BITMIME"), says, "{:?}", heard.borrow());
    }
}

#[test]
fn a_declaration_without_eight_bit_bytes_is_dropped_where_it_is_not_offered() {
    let (mut scene, heard) = scene(6, "250 HELP");
    scene.send_declared(FROM, &["kim@a.example"], "Subject: x\r\n\r\nplain\r\n");
    scene.until("it is delivered", |scene| outcomes(scene, "delivered") == 1);
    assert_eq!(*heard.borrow(), [format!("MAIL FROM:<{FROM}>")]);
}

#[test]
fn eight_bit_never_goes_to_a_host_that_does_not_take_it() {
    for is_declared in [false, true] {
        for body in ["Subject: caf\u{e9}\r\n\r\nx\r\n", "Subject: x\r\n\r\ncaf\u{e9}\r\n"] {
            let (mut scene, heard) = scene(7, "250-PIPELINING\r\n250 SIZE");
            match is_declared {
                true => scene.send_declared(FROM, &["kim@a.example"], body),
                false => scene.send(FROM, &["kim@a.example"], body),
            };
            let bounce = bounce(&mut scene);
            assert!(bounce.contains("Status: 5.6.3\r\n") && bounce.is_ascii(), "{bounce}");
            assert_eq!(heard.borrow().len(), 1, "of the message itself nothing was said");
        }
    }
}

/// What it offers is not known: it is asked again later, and nothing fails for want of 8BITMIME.
#[test]
fn eight_bit_waits_for_a_host_that_puts_ehlo_off() {
    let left = Rc::new(Cell::new(2));
    let puts_off = left.clone();
    let heard = Rc::new(RefCell::new(Vec::new()));
    let lines = heard.clone();
    let mut scene = Scene::new(11, &ONE_HOP);
    scene.destination(2, move |line| {
        lines.borrow_mut().push(line.to_owned());
        let is_put_off = line.starts_with("EHLO") && puts_off.get() > 0;
        puts_off.set(puts_off.get() - u32::from(is_put_off));
        if is_put_off { "451 4.3.0 not now".into() } else { String::new() }
    });
    scene.send(FROM, &["kim@a.example"], "Subject: x\r\n\r\ncaf\u{e9}\r\n");
    scene.until("the site has failed", |scene| !scene.gateway.failing_sites().is_empty());
    let reply = scene.gateway.failing_sites()[0].1.reply.to_string();
    assert_eq!(reply, "451 4.3.0 not now");
    scene.until("it is delivered", |scene| outcomes(scene, "delivered") == 1);
    assert_eq!((outcomes(&scene, "failed"), left.get()), (0, 0));
    assert!(!heard.borrow().iter().any(|line| line.starts_with("HELO")), "{:?}", heard.borrow());
}

#[test]
fn a_large_body_is_cut_short_before_its_first_eight_bit_byte() {
    let ends = Rc::new(Cell::new(0));
    let seen = ends.clone();
    let mut scene = Scene::new(8, &ONE_HOP);
    scene.destination(2, move |line| {
        seen.set(seen.get() + u32::from(line == "."));
        if line.starts_with("EHLO") { "250 destination.example".into() } else { String::new() }
    });
    let mut body = vec![b'x'; LARGE_BYTES];
    body.chunks_exact_mut(64).for_each(|line| line[62..].copy_from_slice(b"\r\n"));
    body.extend_from_slice("caf\u{e9}\r\n".as_bytes());
    scene.send_large_body(FROM, &["kim@a.example"], &body);
    assert!(bounce(&mut scene).contains("Status: 5.6.3\r\n"));
    assert_eq!(ends.get(), 1, "only the bounce was ended by its dot");
    // One without such a byte passes.
    body.truncate(LARGE_BYTES);
    scene.send_large_body(FROM, &["kim@a.example"], &body);
    scene.until("it is delivered", |scene| outcomes(scene, "delivered") == 2);
    scene.until("nothing is left of either", |scene| scene.gateway.shard.stats().messages == 0);
}

#[test]
fn mail_by_mx_goes_to_no_private_address_unless_that_is_permitted() {
    for is_permitted in [false, true] {
        let mut scene = if is_permitted { Scene::new(9, &[]) } else { Scene::in_public(9) };
        scene.gateway.names = vec![("mx1.a.example", harness::ip(2)), ("mx2.a.example", harness::ip(3))];
        let hosts = vec![(10, "mx1.a.example"), (20, "mx2.a.example")];
        scene.gateway.domains.insert("a.example".into(), Ok(hosts));
        scene.destination(2, |_| String::new());
        scene.destination(3, |_| String::new());
        scene.send(FROM, &["kim@a.example"], "Subject: x\r\n\r\nx\r\n");
        scene.pass(Duration::from_secs(60));
        let connections: u32 = scene.destinations.iter().map(|destination| destination.connections).sum();
        assert_eq!(connections, u32::from(is_permitted));
        assert_eq!(outcomes(&scene, "failed"), 0, "it waits: DNS may say otherwise tomorrow");
        assert_eq!(scene.gateway.delivery.queued_messages(), usize::from(!is_permitted));
    }
}

#[test]
fn a_public_host_takes_the_mail_that_a_private_one_before_it_cannot_have() {
    let mut scene = Scene::in_public(10);
    let public = "198.51.100.7".parse().expect("an address");
    scene.gateway.names = vec![("mx1.a.example", harness::ip(2)), ("mx2.a.example", public)];
    let hosts = vec![(10, "mx1.a.example"), (20, "mx2.a.example")];
    scene.gateway.domains.insert("a.example".into(), Ok(hosts));
    scene.destination(2, |_| String::new());
    scene.destination_at(public, |_| String::new());
    scene.send(FROM, &["kim@a.example"], "Subject: x\r\n\r\nx\r\n");
    scene.until("it is delivered", |scene| outcomes(scene, "delivered") == 1);
    assert_eq!((scene.destinations[0].connections, scene.destinations[1].connections), (0, 1));
}
