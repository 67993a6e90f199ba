//! What an operator does to the queue, in the simulated world.

mod harness;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use commons::{FailingSite, QueueAct, QueueActed, QueueAnswer, QueuePageRequest, QueueTask};
use harness::{RETRY, Scene};
use mail::{QueueState, UnixMillis};

const FROM: &str = "terri@proseware.example";
const BODY: &str = "Subject: hello\r\n\r\nbye\r\n";
const ONE_HOP: [&str; 1] = ["10.0.0.2:25"];
const DAY: Duration = Duration::from_secs(86_400);

fn usual(_: &str) -> String {
    String::new()
}

fn later(line: &str) -> String {
    if line.starts_with("RCPT") { "450 4.2.1 come back".into() } else { String::new() }
}

fn all() -> QueuePageRequest {
    QueuePageRequest { messages_max: 500, ..QueuePageRequest::default() }
}

fn states(scene: &mut Scene) -> Vec<QueueState> {
    scene.page(all()).recipients.iter().map(|recipient| recipient.state).collect()
}

fn done(messages: u64) -> QueueActed {
    QueueActed { done: messages, ..QueueActed::default() }
}

#[test]
fn what_is_held_waits_over_restarts_past_its_expiry_and_goes_when_it_is_released() {
    for seed in 0..10 {
        let mut scene = Scene::new(seed, &ONE_HOP);
        let id = scene.send(FROM, &["kim@a.example", "lee@a.example"], BODY);
        scene.pass(Duration::from_secs(30));
        assert_eq!(scene.act(QueueAct::Hold), done(1), "seed {seed}");
        assert_eq!(scene.act(QueueAct::Hold), QueueActed { unchanged: 1, ..QueueActed::default() });
        scene.destination(2, usual);
        scene.pass(Duration::from_secs(3600));
        scene.crash();
        scene.pass(DAY * 10);
        assert_eq!(scene.taken(0), 0, "seed {seed}");
        assert_eq!(states(&mut scene), [QueueState::Held; 2]);
        assert_eq!(scene.gateway.metric("gatepost_queue_recipients{state=\"held\"}"), 2);
        assert_eq!(scene.act(QueueAct::Retry), QueueActed { unchanged: 1, ..QueueActed::default() });
        assert_eq!(scene.page(all()).messages[0].id, id);
        assert_eq!(scene.act(QueueAct::Release), done(1));
        scene.crash();
        scene.pass(DAY);
        assert_eq!((scene.taken(0), scene.gateway.delivery.queued_messages()), (1, 0), "seed {seed}");
    }
}

/// Mail that comes and goes, so that segments are written over: some six messages fill one.
fn fill(scene: &mut Scene, messages: usize) {
    let filler = format!("Subject: filler\r\n\r\n{}", "x\r\n".repeat(60_000));
    for _ in 0..messages {
        // Of the null sender's mail no sender is told.
        scene.send("", &["filler@b.example"], &filler);
        scene.pass(Duration::from_millis(300));
        let page = scene.page(all());
        let fillers = page.messages[1..].iter();
        let messages = fillers.map(|message| (message.slot, message.id)).collect();
        let act = QueueAct::Bounce("no".into());
        scene.ask_queue(QueueTask::Act { act, messages, by: "uid 0".into() });
    }
}

#[test]
fn holds_and_releases_outlive_the_other_use_of_their_segments_and_the_latest_counts() {
    for before in [2, 8, 14, 20] {
        for between in [0, 6, 12, 18, 24] {
            let mut scene = Scene::new(1, &ONE_HOP);
            scene.destination(2, later);
            scene.send(FROM, &["kim@a.example"], BODY);
            scene.pass(Duration::from_secs(10));
            fill(&mut scene, before);
            assert_eq!(scene.act(QueueAct::Hold), done(1));
            fill(&mut scene, 30);
            scene.crash();
            assert_eq!(states(&mut scene), [QueueState::Held], "{before}, {between}: the hold is lost");
            fill(&mut scene, between);
            scene.crash();
            assert_eq!(states(&mut scene), [QueueState::Held], "{before}, {between}: a recovery forgot it");
            assert_eq!(scene.act(QueueAct::Release), done(1));
            fill(&mut scene, 30);
            scene.crash();
            let is_free = states(&mut scene)[0] != QueueState::Held;
            assert!(is_free, "{before}, {between}: the release is lost, or the hold was heeded after it");
        }
    }
}

#[test]
fn an_attempt_under_way_ends_before_its_message_is_held() {
    let mut scene = Scene::new(3, &ONE_HOP);
    scene.destination(2, later);
    scene.send(FROM, &["kim@a.example"], BODY);
    scene.until("an attempt is under way", |scene| {
        scene.gateway.metric("gatepost_queue_recipients{state=\"active\"}") == 1
    });
    assert_eq!(scene.act(QueueAct::Hold), done(1));
    scene.pass(Duration::from_secs(60));
    assert_eq!(states(&mut scene), [QueueState::Held]);
    scene.crash();
    scene.pass(DAY);
    assert_eq!(states(&mut scene), [QueueState::Held]);
}

#[test]
fn a_retry_does_not_wait_for_a_message_or_for_a_site() {
    let mut scene = Scene::new(4, &ONE_HOP);
    let is_shut = Rc::new(Cell::new(true));
    let shut = is_shut.clone();
    scene.destination(2, move |line| if shut.get() { later(line) } else { String::new() });
    scene.send(FROM, &["kim@a.example"], BODY);
    // Far into the back-off of the message.
    scene.pass(Duration::from_secs(3 * 3600));
    let page = scene.page(all());
    let recipient = &page.recipients[0];
    assert_eq!(recipient.state, QueueState::Deferred);
    assert!(recipient.attempts > 8 && recipient.until > UnixMillis(0), "{recipient:?}");
    is_shut.set(false);
    assert_eq!(scene.act(QueueAct::Retry), done(1));
    scene.pass(Duration::from_secs(5));
    assert_eq!(scene.taken(0), 1);
    // And of a site where no server listens.
    let mut scene = Scene::new(4, &ONE_HOP);
    scene.send(FROM, &["kim@a.example"], BODY);
    scene.pass(Duration::from_secs(3 * 3600));
    assert_eq!(states(&mut scene), [QueueState::Deferred], "its site has the back-off");
    scene.destination(2, usual);
    assert_eq!(scene.act(QueueAct::Retry), done(1));
    scene.pass(Duration::from_secs(5));
    assert_eq!(scene.taken(0), 1);
}

fn counted(scene: &Scene, state: &str) -> u64 {
    scene.gateway.metric(&format!("gatepost_queue_recipients{{state=\"{state}\"}}"))
}

fn failing(scene: &mut Scene) -> Vec<FailingSite> {
    match scene.ask_queue(QueueTask::FailingSites) {
        QueueAnswer::FailingSites(sites) => sites,
        other => panic!("the failing sites were asked for, not {other:?}"),
    }
}

#[test]
fn what_waits_for_a_site_that_fails_is_deferred_in_every_count_until_it_works() {
    let mut scene = Scene::new(7, &ONE_HOP);
    let id = scene.send(FROM, &["kim@a.example", "lee@a.example"], BODY);
    scene.send(FROM, &["kim@a.example"], BODY);
    scene.pass(Duration::from_secs(30));
    // What comes later waits as well.
    scene.send(FROM, &["lee@a.example"], BODY);
    scene.pass(Duration::from_secs(1));
    assert_eq!((counted(&scene, "deferred"), counted(&scene, "ready")), (4, 0));
    let page = scene.page(QueuePageRequest { state: Some(QueueState::Deferred), ..all() });
    assert_eq!((page.messages.len(), page.recipients.len()), (3, 4));
    assert_eq!(scene.page(QueuePageRequest { state: Some(QueueState::Ready), ..all() }).messages, []);
    let sites = failing(&mut scene);
    assert_eq!(sites.len(), 1);
    let site = &sites[0];
    assert_eq!((&*site.key, site.messages, site.recipients), ("10.0.0.2:25", 3, 4));
    assert!(site.failure.failures > 1 && site.failure.since < site.failure.next_try, "{site:?}");
    assert_eq!(site.failure.next_hop.as_deref(), Some("10.0.0.2:25"));
    assert!(site.failure.reply.to_string().starts_with("451 4.4.1 cannot connect"), "{site:?}");
    for recipient in &page.recipients {
        assert_eq!(
            (recipient.until, recipient.site.as_deref()),
            (site.failure.next_try, Some("10.0.0.2:25"))
        );
        let reply = recipient.reply.as_ref().expect("what its site said");
        assert_eq!(reply.told_to(""), site.failure.reply.to_string());
    }
    // What an operator holds does not wait for the site.
    let messages = [(page.messages[0].slot, id)].into();
    scene.ask_queue(QueueTask::Act { act: QueueAct::Hold, messages, by: "uid 0".into() });
    scene.pass(Duration::from_secs(1));
    let site = &failing(&mut scene)[0];
    assert_eq!((site.messages, site.recipients), (2, 2));
    assert_eq!((counted(&scene, "deferred"), counted(&scene, "held")), (2, 2));
    assert_eq!(scene.gateway.commons().sites().failing_count(), 1);
    scene.destination(2, usual);
    scene.pass(Duration::from_secs(600));
    assert_eq!((failing(&mut scene), scene.gateway.commons().sites().failing_count()), (Vec::new(), 0));
    assert_eq!((counted(&scene, "deferred"), counted(&scene, "held")), (0, 2));
    assert_eq!(scene.act(QueueAct::Release), done(1));
    scene.pass(Duration::from_secs(60));
    assert_eq!(scene.gateway.delivery.queued_messages(), 0);
}

#[test]
fn a_failing_site_whose_mail_is_given_up_is_named_no_longer() {
    let mut scene = Scene::new(8, &ONE_HOP);
    // The null sender gets no bounce, which would wait for the site in its turn.
    scene.send("", &["kim@a.example"], BODY);
    scene.pass(Duration::from_secs(30));
    assert_eq!(scene.gateway.commons().sites().failing_count(), 1);
    assert_eq!(scene.act(QueueAct::Bounce("no".into())), done(1));
    scene.pass(Duration::from_secs(1));
    assert_eq!((failing(&mut scene), scene.gateway.commons().sites().failing_count()), (Vec::new(), 0));
    assert_eq!((counted(&scene, "deferred"), counted(&scene, "ready")), (0, 0));
}

#[test]
fn each_recipient_has_what_was_last_said_of_it_and_of_many_the_message_counts_once() {
    let mut scene = Scene::new(9, &ONE_HOP);
    let is_shut = Rc::new(Cell::new(false));
    let shut = is_shut.clone();
    scene.destination(2, move |line| match line {
        "CONNECT" if shut.get() => "421 4.3.2 closed".into(),
        line if line.contains("kim") => "450 4.2.1 <kim@a.example> come back".into(),
        line if line.starts_with("RCPT") => "451 4.7.1 not yet".into(),
        _ => String::new(),
    });
    let many: Vec<String> = (0..250).map(|number| format!("number{number}@a.example")).collect();
    let mut to: Vec<&str> = many.iter().map(String::as_str).collect();
    to.push("kim@a.example");
    scene.send(FROM, &to, BODY);
    scene.pass(Duration::from_secs(4));
    let page = scene.page(all());
    assert_eq!(page.recipients.len(), 251);
    for recipient in &page.recipients {
        let reply = recipient.reply.as_ref().expect("each has a reply");
        let address = to[usize::from(recipient.index)];
        let said = if address.starts_with("kim") {
            "450 4.2.1 <kim@a.example> come back"
        } else {
            "451 4.7.1 not yet"
        };
        assert_eq!(reply.told_to(address), said);
        assert_eq!(reply.next_hop.as_deref(), Some("10.0.0.2:25"));
    }
    // The same message, of which the site takes nothing now, is one that waits.
    is_shut.set(true);
    scene.pass(Duration::from_secs(3600));
    let site = &failing(&mut scene)[0];
    assert_eq!((site.messages, site.recipients), (1, 251));
}

#[test]
fn a_bounce_tells_the_sender_what_the_operator_says() {
    for held in [false, true] {
        let mut scene = Scene::new(5, &ONE_HOP);
        scene.send(FROM, &["kim@a.example", "lee@a.example"], BODY);
        scene.send("", &["kim@a.example"], BODY);
        scene.pass(Duration::from_secs(30));
        if held {
            assert_eq!(scene.act(QueueAct::Hold), done(2));
        }
        assert_eq!(scene.act(QueueAct::Bounce("the campaign was called off".into())), done(2));
        scene.destination(2, usual);
        scene.pass(Duration::from_secs(3600));
        assert_eq!(scene.taken(0), 1, "the bounce, and none for the null sender");
        let bounce = &scene.destinations[0].taken[0];
        assert_eq!((&*bounce.from, &*bounce.to[0]), ("", FROM));
        let text = String::from_utf8_lossy(&bounce.body);
        for line in [
            "Final-Recipient: rfc822; kim@a.example",
            "lee@a.example",
            "Status: 5.0.0",
            "the campaign was called off",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
        assert_eq!(scene.gateway.delivery.queued_messages(), 0);
        scene.crash();
        scene.pass(Duration::from_secs(60));
        assert_eq!((scene.taken(0), scene.gateway.shard.stats().messages), (1, 0));
    }
}

#[test]
fn a_queue_is_paged_through_while_mail_comes_and_goes() {
    let mut scene = Scene::new(6, &ONE_HOP);
    let mut sent = Vec::new();
    for _ in 0..1000 {
        sent.push(scene.send(FROM, &["kim@a.example"], BODY));
        if sent.len() % 50 == 0 {
            scene.pass(Duration::from_millis(100));
        }
    }
    scene.pass(Duration::from_secs(1));
    let (mut from, mut shown, mut pages) = (Some(0), Vec::new(), 0);
    while let Some(slot) = from {
        let page = scene.page(QueuePageRequest { from: slot, messages_max: 70, ..all() });
        assert!(page.messages.len() <= 70);
        assert_eq!(page.recipients.len(), page.messages.len());
        shown.extend(page.messages.iter().map(|message| message.id));
        from = page.next;
        pages += 1;
        scene.send(FROM, &["late@a.example"], BODY);
        scene.pass(Duration::from_millis(20));
    }
    assert!(pages > 14);
    shown.sort_unstable();
    shown.dedup();
    assert!(sent.iter().all(|id| shown.binary_search(id).is_ok()), "what stays queued is shown");
    let one = scene.page(QueuePageRequest { id: Some(sent[500]), ..all() });
    assert_eq!(one.messages.iter().map(|message| message.id).collect::<Vec<_>>(), [sent[500]]);
    let none = scene.page(QueuePageRequest { state: Some(QueueState::Held), ..all() });
    assert_eq!(none.messages, []);
    let old = scene.page(QueuePageRequest { arrived_before: Some(UnixMillis(1)), ..all() });
    assert_eq!(old.messages, []);
}

#[test]
fn holding_releasing_and_bouncing_in_any_order_loses_and_doubles_nothing() {
    for seed in 0..30 {
        let mut scene = Scene::with(seed, &ONE_HOP, 3, RETRY);
        for _ in 0..20 {
            scene.send(FROM, &["kim@a.example", "lee@b.example"], BODY);
        }
        let mut random = seed;
        for round in 0..12 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let act =
                [QueueAct::Hold, QueueAct::Release, QueueAct::Retry][(random >> 40) as usize % 3].clone();
            scene.act(act);
            if round == 4 {
                scene.destination(2, later);
            }
            scene.pass(Duration::from_secs((random >> 50) % 9));
        }
        scene.act(QueueAct::Release);
        assert_eq!(scene.gateway.delivery.queued_messages(), 20, "seed {seed}");
        assert_eq!(scene.act(QueueAct::Bounce("enough".into())).failure, None);
        scene.pass(Duration::from_secs(120));
        scene.act(QueueAct::Bounce("enough".into()));
        scene.pass(Duration::from_secs(120));
        // What is left are the bounces, which no host takes.
        let left = scene.gateway.delivery.queued_messages();
        assert_eq!(left, scene.gateway.shard.stats().messages as usize, "seed {seed}");
        let failed =
            scene.gateway.metric("gatepost_deliveries_total{tenant=\"proseware\",outcome=\"failed\"}");
        assert!(failed >= 40, "seed {seed}: {failed}");
    }
}
