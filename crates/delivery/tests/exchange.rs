//! Mail that no route matches, in the simulated world: by MX, in the order of preference.

mod harness;

use std::time::Duration;

use commons::MxFailure;
use delivery::Retry;
use harness::{RETRY, Scene, ip};

const FROM: &str = "terri@proseware.example";
const BODY: &str = "Subject: hello\r\n\r\nbye\r\n";

fn usual(_: &str) -> String {
    String::new()
}

/// A scene without routes, in which `names` have addresses on hosts of those numbers.
fn scene(seed: u64, names: &[(&'static str, u8)]) -> Scene {
    let mut scene = Scene::new(seed, &[]);
    scene.gateway.names = names.iter().map(|&(name, host)| (name, ip(host))).collect();
    scene
}

fn failed(scene: &Scene) -> u64 {
    scene.gateway.metric("gatepost_deliveries_total{tenant=\"proseware\",outcome=\"failed\"}")
}

#[test]
fn the_best_host_takes_the_mail_and_the_next_one_where_it_does_not_answer() {
    let hosts = Ok(vec![(10, "mx1.adatum.example"), (20, "mx2.adatum.example")]);
    for first_is_up in [true, false] {
        let mut scene = scene(1, &[("mx1.adatum.example", 2), ("mx2.adatum.example", 3)]);
        scene.gateway.domains.insert("adatum.example".into(), hosts.clone());
        scene.destination(3, usual);
        if first_is_up {
            scene.destination(2, usual);
        }
        scene.send(FROM, &["bob@Adatum.example", "kim@adatum.EXAMPLE"], BODY);
        scene.pass(Duration::from_secs(120));
        assert_eq!(scene.taken(0), usize::from(!first_is_up));
        assert_eq!(scene.gateway.delivered(), 2, "one site, however the domain is written");
        assert_eq!(scene.gateway.domains_asked, 1);
    }
}

#[test]
fn hosts_of_equal_preference_share_the_mail() {
    let mut scene = scene(3, &[("a.example", 2), ("b.example", 3)]);
    scene.gateway.domains.insert("adatum.example".into(), Ok(vec![(10, "a.example"), (10, "b.example")]));
    scene.destination(2, usual);
    scene.destination(3, usual);
    for _ in 0..40 {
        scene.send(FROM, &["bob@adatum.example"], BODY);
        scene.pass(Duration::from_secs(30));
    }
    let (a, b) = (scene.taken(0), scene.taken(1));
    assert!(a + b == 40 && a > 5 && b > 5, "{a} and {b}");
}

#[test]
fn what_dns_says_in_so_many_words_is_told_to_the_sender_at_once() {
    for (answer, status) in [
        (Err(MxFailure::Missing), "5.1.2"),
        (Err(MxFailure::NoMail), "5.1.10"),
        (Ok(vec![(5, "relay.example"), (10, "mx.adatum.example")]), "5.4.6"),
    ] {
        let mut scene = scene(4, &[("mx.adatum.example", 2), ("mx.proseware.example", 3)]);
        scene.gateway.domains.insert("adatum.example".into(), answer);
        scene.gateway.domains.insert("proseware.example".into(), Ok(vec![(10, "mx.proseware.example")]));
        scene.destination(2, usual);
        scene.destination(3, usual);
        scene.send(FROM, &["bob@adatum.example"], BODY);
        scene.pass(Duration::from_secs(60));
        assert_eq!((failed(&scene), scene.taken(0), scene.taken(1)), (1, 0, 1), "{status}");
        let bounce = &scene.destinations[1].taken[0];
        assert_eq!((bounce.from.as_str(), bounce.to.as_slice()), ("", [FROM.to_owned()].as_slice()));
        let text = String::from_utf8_lossy(&bounce.body).into_owned();
        assert!(text.contains(&format!("Status: {status}")), "{text}");
        assert_eq!(scene.gateway.delivery.queued_messages(), 0);
    }
}

#[test]
fn a_dns_that_does_not_answer_delays_the_mail_and_bounces_it_only_when_it_expires() {
    let mut scene = scene(5, &[("mx.adatum.example", 2)]);
    scene.gateway.domains.insert("adatum.example".into(), Err(MxFailure::Temporary));
    scene.destination(2, usual);
    scene.send(FROM, &["bob@adatum.example"], BODY);
    scene.pass(Duration::from_secs(7200));
    assert_eq!((scene.taken(0), failed(&scene)), (0, 0));
    assert!(scene.gateway.domains_asked < 40, "{} questions in two hours", scene.gateway.domains_asked);
    scene.gateway.domains.insert("adatum.example".into(), Ok(vec![(10, "mx.adatum.example")]));
    scene.until("it is delivered", |scene| scene.gateway.delivered() == 1);

    let retry = Retry { expire: Duration::from_secs(3600), ..RETRY };
    let mut scene = Scene::with(6, &[], 20, retry);
    scene.gateway.domains.insert("adatum.example".into(), Err(MxFailure::Temporary));
    scene.gateway.domains.insert("proseware.example".into(), Err(MxFailure::Temporary));
    scene.send(FROM, &["bob@adatum.example"], BODY);
    let expired = "gatepost_deliveries_total{tenant=\"proseware\",outcome=\"expired\"}";
    scene.until("it has expired", |scene| scene.gateway.metric(expired) >= 1);
}

#[test]
fn a_domain_that_comes_to_be_before_its_message_is_read_again_gets_it() {
    let mut scene = scene(7, &[("mx.adatum.example", 2)]);
    scene.gateway.domains.insert("adatum.example".into(), Err(MxFailure::Temporary));
    scene.destination(2, usual);
    scene.send(FROM, &["bob@adatum.example"], BODY);
    scene.pass(Duration::from_secs(1));
    scene.crash();
    scene.gateway.names = vec![("mx.adatum.example", ip(2))];
    scene.gateway.domains.insert("adatum.example".into(), Ok(vec![(10, "mx.adatum.example")]));
    scene.until("it is delivered", |scene| scene.gateway.delivered() == 1);
    assert_eq!(scene.taken(0), 1);
}

#[test]
fn domains_whose_mail_is_out_are_forgotten_and_so_are_their_hosts() {
    let mut scene = scene(8, &[]);
    scene.destination(2, usual);
    for number in 0..2200 {
        let domain = format!("d{number}.example");
        // As many sites as domains: it is the second host that differs.
        let hosts = vec![(10, "10.0.0.2"), (20, format!("mx.{domain}").leak() as &str)];
        scene.gateway.domains.insert(domain.clone(), Ok(hosts));
        scene.send(FROM, &[&format!("bob@{domain}")], BODY);
        if number % 50 == 0 {
            scene.pass(Duration::from_secs(10));
        }
    }
    scene.until("all are delivered", |scene| scene.gateway.delivered() == 2200);
    scene.pass(Duration::from_secs(60));
    let sites = scene.gateway.delivery.site_count();
    // Those of a thousand domains that are remembered, and as many to which no domain leads any more.
    assert!((1024..=2048).contains(&sites), "{sites} sites");
    // One of them, forgotten or not, takes mail again.
    scene.send(FROM, &["bob@d0.example"], BODY);
    scene.until("one more is delivered", |scene| scene.gateway.delivered() == 2201);
}
