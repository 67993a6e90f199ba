//! What is a site: domains with the same MX hosts are one, and another configuration leads mail elsewhere.

mod harness;

use std::time::Duration;

use commons::{FailingSite, MxFailure, QueueAct, QueueAnswer, QueuePageRequest, QueueTask};
use harness::{Scene, ip};
use mail::QueueState;

const FROM: &str = "terri@proseware.example";
const BODY: &str = "Subject: hello\r\n\r\nbye\r\n";
const TWO_HOSTS: [&str; 2] = ["mx1.provider.example", "mx2.provider.example"];
const SITE: &str = "mx1.provider.example,mx2.provider.example";
const HOUR: Duration = Duration::from_secs(3600);

fn usual(_: &str) -> String {
    String::new()
}

/// Mail by MX, for domains that a provider's two hosts take: a.example and b.example in the same order.
fn provider(seed: u64) -> Scene {
    let mut scene = Scene::new(seed, &[]);
    scene.gateway.names = vec![(TWO_HOSTS[0], ip(2)), (TWO_HOSTS[1], ip(3))];
    let domains = &mut scene.gateway.domains;
    domains.insert("a.example".into(), Ok(vec![(10, TWO_HOSTS[0]), (20, TWO_HOSTS[1])]));
    domains.insert("b.example".into(), Ok(vec![(1, TWO_HOSTS[0]), (3, TWO_HOSTS[1])]));
    domains.insert("c.example".into(), Ok(vec![(10, TWO_HOSTS[1]), (20, TWO_HOSTS[0])]));
    scene
}

fn failing(scene: &mut Scene) -> Vec<FailingSite> {
    match scene.ask_queue(QueueTask::FailingSites) {
        QueueAnswer::FailingSites(sites) => sites,
        other => panic!("the failing sites were asked for, not {other:?}"),
    }
}

fn all() -> QueuePageRequest {
    QueuePageRequest { messages_max: 500, ..QueuePageRequest::default() }
}

/// The names of the sites for which recipients wait, as `spool list` shows them.
fn named(scene: &mut Scene) -> Vec<String> {
    let recipients = scene.page(all()).recipients;
    recipients.iter().filter_map(|recipient| Some(recipient.site.as_deref()?.to_owned())).collect()
}

#[test]
fn domains_with_the_same_hosts_share_a_connection() {
    let mut scene = provider(1);
    scene.destination(2, usual);
    scene.destination(3, usual);
    for (count, to) in ["kim@a.example", "bob@B.example", "lee@a.example"].into_iter().enumerate() {
        scene.send(FROM, &[to], BODY);
        scene.until("it is delivered", |scene| scene.gateway.delivered() == count as u64 + 1);
    }
    assert_eq!((scene.destinations[0].connections, scene.taken(0)), (1, 3));
    // The same hosts the other way round are other hosts.
    scene.send(FROM, &["kim@c.example"], BODY);
    scene.until("it is delivered", |scene| scene.taken(1) == 1);
}

#[test]
fn domains_with_the_same_hosts_fail_once_and_rest_together() {
    let mut scene = provider(2);
    let log = scene.gateway.keep_log();
    for host in [2, 3] {
        scene.destination(host, |line| if line == "CONNECT" { "421 4.3.2 not now" } else { "" }.to_owned());
    }
    scene.send(FROM, &["kim@a.example"], BODY);
    scene.pass(Duration::from_secs(60));
    scene.send(FROM, &["bob@b.example"], BODY);
    scene.pass(HOUR);
    let sites = failing(&mut scene);
    let [site] = &sites[..] else { panic!("one site fails: {sites:?}") };
    assert_eq!((&*site.key, site.messages, site.recipients), (SITE, 2, 2));
    let tries = site.failure.failures;
    assert!((8..=10).contains(&tries), "{tries} in an hour");
    let connections: u32 = scene.destinations.iter().map(|host| host.connections).sum();
    // As many are opened at once as messages wait, and two at most.
    assert!((2 * tries..=4 * tries).contains(&connections), "{connections} connections in {tries} tries");
    assert_eq!(named(&mut scene), [SITE, SITE]);
    assert_eq!(scene.gateway.commons().sites().failing_count(), 1);
    drop(scene);
    let records = log.records("site_unavailable");
    assert_eq!(records.len() as u32, tries);
    assert!(
        records.iter().all(|record| record.contains(&format!("\"next_hop\":\"{SITE}\""))),
        "{records:#?}"
    );
}

#[test]
fn a_domain_whose_hosts_are_not_known_fails_by_its_own_name() {
    let mut scene = provider(3);
    scene.gateway.domains.insert("b.example".into(), Err(MxFailure::Temporary));
    scene.destination(2, usual);
    scene.send(FROM, &["kim@a.example"], BODY);
    scene.send(FROM, &["bob@b.example"], BODY);
    scene.pass(Duration::from_secs(60));
    let sites = failing(&mut scene);
    let [site] = &sites[..] else { panic!("one site fails: {sites:?}") };
    assert_eq!((&*site.key, site.messages), ("mx:b.example", 1));
    assert!(site.failure.reply.to_string().contains("DNS could not say"), "{site:?}");
    assert_eq!((named(&mut scene), scene.gateway.delivered()), (vec!["mx:b.example".to_owned()], 1));
    // Once they are known it is mail for the provider like the rest.
    let hosts = scene.gateway.domains["a.example"].clone();
    scene.gateway.domains.insert("b.example".into(), hosts);
    scene.until("it is delivered", |scene| scene.gateway.delivered() == 2);
    assert_eq!((failing(&mut scene), scene.gateway.commons().sites().failing_count()), (Vec::new(), 0));
}

#[test]
fn what_waits_is_routed_again_by_another_configuration() {
    let mut scene = Scene::new(4, &["10.0.0.2:25"]);
    scene.destination(3, usual);
    scene.send(FROM, &["kim@a.example"], BODY);
    scene.pass(Duration::from_secs(60));
    assert_eq!(named(&mut scene), ["10.0.0.2:25"]);
    scene.gateway.configure("proseware", &["10.0.0.3:25"]);
    scene.pass(Duration::from_secs(120));
    assert_eq!((scene.taken(0), scene.gateway.delivery.queued_messages()), (1, 0));
}

#[test]
fn mail_of_a_tenant_that_has_left_the_configuration_waits_for_it() {
    let mut scene = Scene::new(5, &["10.0.0.2:25"]);
    scene.destination(2, usual);
    scene.gateway.configure("fabrikam", &["10.0.0.2:25"]);
    scene.send(FROM, &["kim@a.example"], BODY);
    scene.pass(Duration::from_secs(300));
    assert_eq!((scene.taken(0), scene.destinations[0].connections), (0, 0));
    let page = scene.page(all());
    let [recipient] = &page.recipients[..] else { panic!("one waits: {page:?}") };
    assert_eq!((recipient.state, recipient.site.as_deref()), (QueueState::Deferred, None));
    let reply = recipient.reply.as_ref().expect("why it waits").told_to("");
    assert_eq!(reply, "451 4.4.4 the tenant of this message is no longer configured");
    assert_eq!(scene.gateway.failing_sites(), [], "no site has failed");
    scene.gateway.configure("proseware", &["10.0.0.2:25"]);
    scene.until("it is delivered", |scene| scene.gateway.delivered() == 1);
}

#[test]
fn what_another_worker_found_to_work_takes_new_mail_at_once() {
    let mut scene = Scene::of_two(6, &["10.0.0.2:25"], 20);
    scene.send(FROM, &["kim@a.example"], BODY);
    scene.send_from_second(FROM, &["lee@a.example"], BODY);
    // Far into the back-off, of which both know.
    scene.until("it has failed often", |scene| {
        scene.gateway.failing_sites().first().is_some_and(|(_, failure)| failure.failures >= 8)
    });
    scene.pass(Duration::from_secs(30));
    scene.destination(2, usual);
    scene.act(QueueAct::Retry);
    scene.until("the first worker finds that it works", |scene| scene.gateway.delivered() == 1);
    scene.pass(Duration::from_secs(10));
    scene.send_from_second(FROM, &["kim@a.example"], BODY);
    scene.pass(Duration::from_secs(10));
    assert_eq!(scene.others[0].delivered(), 2, "with it goes what has waited");
}
