//! Relay control (DESIGN.md A1 to G7), as decisions.

mod fixture;

use std::sync::Arc;

use fixture::{at, contoso, identity, listener, proseware, relay_domain, route, source};
use mail::{ForwardPath, Reason, ReversePath, Verdict};
use policy::{
    Explanation, Facts, LoginRequired, NoTrace, Outcome, Role, Rule, Snapshot, Source, TenantIx, TenantSource,
};

const INSIDE: &str = "198.51.100.7";
const EXCLUDED: &str = "198.51.100.129";
const STRANGER: &str = "192.0.2.55";

/// What the client is: `(role, address, login)`.
type Client<'a> = (Role, &'a str, Option<&'a str>);

fn snapshot(source: &Source) -> Snapshot {
    Snapshot::compile(source).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn both() -> Snapshot {
    snapshot(&source(vec![proseware(), contoso()]))
}

fn explain(snapshot: &Snapshot, (role, client, login): Client<'_>, from: &str, to: &str) -> Explanation {
    let listener = listener(role);
    let identity = login.map(|login| snapshot.identity(login).unwrap());
    let facts = Facts {
        listener: &listener,
        client: client.parse().unwrap(),
        tls: role == Role::Submission,
        identity,
        grants: &[],
    };
    let (from, to) = (ReversePath::parse(from).unwrap(), ForwardPath::parse(to).unwrap());
    let explanation = snapshot.explain(&facts, from, to);
    assert_eq!(explanation.decision, snapshot.decide_recipient(&facts, from, to, None, &mut NoTrace));
    explanation
}

fn verdict(snapshot: &Snapshot, client: Client<'_>, from: &str, to: &str) -> Option<Reason> {
    explain(snapshot, client, from, to).decision.verdict.reason()
}

#[test]
fn a_routing_trick_is_a_denial_of_the_tenant_whose_client_tries_it() {
    let snapshot = both();
    for (client, tenant) in [(INSIDE, snapshot.tenant_named("proseware")), (STRANGER, None)] {
        let client = (Role::Relay, client, None);
        let to = "bob%adatum.example@proseware.example";
        let decision = explain(&snapshot, client, "terri@proseware.example", to).decision;
        assert_eq!((decision.rule, decision.tenant), (Rule::RoutingSyntax, tenant));
    }
}

#[test]
fn the_six_situations() {
    let snapshot = both();
    let terri = "terri@proseware.example";
    for (client, from, to, expected) in [
        ((Role::Relay, INSIDE, None), terri, "bob@proseware.example", None),
        ((Role::Relay, INSIDE, None), terri, "bob@adatum.example", None),
        ((Role::Relay, STRANGER, None), terri, "bob@proseware.example", None),
        ((Role::Relay, STRANGER, None), terri, "bob@adatum.example", Some(Reason::RelayNotPermitted)),
        ((Role::Submission, STRANGER, None), terri, "bob@proseware.example", Some(Reason::LoginRequired)),
        ((Role::Submission, STRANGER, None), terri, "bob@adatum.example", Some(Reason::LoginRequired)),
        ((Role::Submission, STRANGER, Some(terri)), terri, "bob@adatum.example", None),
        ((Role::Relay, STRANGER, Some(terri)), terri, "bob@adatum.example", None),
    ] {
        assert_eq!(verdict(&snapshot, client, from, to), expected, "{client:?} {from} {to}");
    }
}

#[test]
fn the_classic_open_relay_cases_are_all_denied_to_strangers() {
    let snapshot = both();
    for (n, from, to) in [
        (1, "", "t@d.example"),
        (2, "f@d.example", "t@d.example"),
        (3, "f@relay.example", "t@d.example"),
        (4, "f@[192.0.2.1]", "t@d.example"),
        (5, "f@[192.0.2.1]", "t%d.example@[192.0.2.1]"),
        (6, "f@[192.0.2.1]", "t%d.example@relay.example"),
        (7, "f@[192.0.2.1]", "\"t@d.example\""),
        (8, "f@[192.0.2.1]", "\"t%d.example\""),
        (9, "f@[192.0.2.1]", "t@d.example@[192.0.2.1]"),
        (10, "f@[192.0.2.1]", "\"t@d.example\"@[192.0.2.1]"),
        (11, "f@[192.0.2.1]", "t@d.example@relay.example"),
        (12, "f@[192.0.2.1]", "@[192.0.2.1]:t@d.example"),
        (13, "f@[192.0.2.1]", "@relay.example:t@d.example"),
        (14, "f@[192.0.2.1]", "d.example!t"),
        (15, "f@[192.0.2.1]", "d.example!t@[192.0.2.1]"),
        (16, "f@[192.0.2.1]", "d.example!t@relay.example"),
        (17, "f@localhost", "t@d.example"),
        (19, "f@proseware.example", "t@d.example"),
        (20, "f@proseware.example", "t%d.example@proseware.example"),
    ] {
        for client in [STRANGER, EXCLUDED, "127.0.0.1", "::1", "10.0.0.1"] {
            assert!(
                verdict(&snapshot, (Role::Relay, client, None), from, to).is_some(),
                "case {n} from {client}"
            );
        }
    }
    // 18: the sender `<f>` has no domain and is refused before any decision.
    assert!(ReversePath::parse("f").is_err());
}

#[test]
fn routing_tricks_are_refused_to_those_who_may_relay_too() {
    let snapshot = both();
    for to in ["@a.example:c@d.example", "c%d.example@proseware.example", "d.example!c", "c@[192.0.2.1]", "c"]
    {
        let explanation = explain(&snapshot, (Role::Relay, INSIDE, None), "terri@proseware.example", to);
        assert_eq!(explanation.decision.verdict, Verdict::Deny(Reason::RoutingSyntax), "{to}");
    }
}

#[test]
fn the_most_specific_network_decides_and_an_excluded_range_makes_a_stranger() {
    let snapshot = both();
    let relays =
        |client| verdict(&snapshot, (Role::Relay, client, None), "x@proseware.example", "t@d.example");
    assert_eq!(relays(INSIDE), None);
    assert_eq!(relays("::ffff:198.51.100.7"), None);
    assert_eq!(relays("2001:db8:10::1"), None);
    assert_eq!(relays(EXCLUDED), Some(Reason::RelayNotPermitted));
    assert_eq!(relays("198.51.100.200"), None);
    assert_eq!(relays("198.51.101.1"), Some(Reason::RelayNotPermitted));
}

#[test]
fn whoever_relays_owns_the_sender_and_foreign_senders_pass_to_relay_domains() {
    let snapshot = both();
    let terri = (Role::Submission, STRANGER, Some("Terri@Proseware.example"));
    let any = (Role::Submission, STRANGER, Some("any"));
    let inside = (Role::Relay, INSIDE, None);
    let denied = Some(Reason::SenderNotOwned);
    for (client, from, to, expected) in [
        (terri, "terri@proseware.example", "t@d.example", None),
        (terri, "ann@proseware.example", "t@d.example", denied),
        (terri, "", "t@d.example", denied),
        (terri, "x@d.example", "bob@proseware.example", None),
        (terri, "", "bob@proseware.example", None),
        (any, "ann@proseware.example", "t@d.example", None),
        (any, "x@contoso.example", "t@d.example", denied),
        (inside, "ann@Proseware.Example", "t@d.example", None),
        (inside, "x@sub.proseware.example", "t@d.example", denied),
        (inside, "", "t@d.example", None),
        (inside, "x@d.example", "bob@contoso.example", None),
        ((Role::Relay, "203.0.113.1", None), "", "t@d.example", denied),
        ((Role::Relay, "203.0.113.1", None), "x@a.b.contoso.example", "t@d.example", None),
    ] {
        assert_eq!(verdict(&snapshot, client, from, to), expected, "{client:?} <{from}> <{to}>");
    }
}

#[test]
fn a_login_counts_for_its_own_tenant_wherever_the_client_is() {
    let snapshot = both();
    let explanation =
        explain(&snapshot, (Role::Relay, "203.0.113.1", Some("any")), "x@proseware.example", "t@d.example");
    assert_eq!(explanation.decision.tenant, Some(TenantIx(0)));
}

#[test]
fn listed_recipients_are_taken_and_others_are_unknown() {
    let snapshot = both();
    for (to, expected) in [
        ("Bob@Listed.example", None),
        ("bob@also.example", None),
        ("ann@also.example", None),
        ("ann@listed.example", Some(Reason::RecipientUnknown)),
        ("eve@also.example", Some(Reason::RecipientUnknown)),
    ] {
        for client in [STRANGER, INSIDE] {
            assert_eq!(verdict(&snapshot, (Role::Relay, client, None), "x@d.example", to), expected, "{to}");
        }
    }
}

#[test]
fn strict_mode_asks_a_network_to_log_in() {
    for (mode, relay_domain, outside) in [
        (LoginRequired::Never, None, None),
        (LoginRequired::Outside, None, Some(Reason::LoginRequired)),
        (LoginRequired::Always, Some(Reason::LoginRequired), Some(Reason::LoginRequired)),
    ] {
        let mut strict = proseware();
        strict.login_required = at(5, mode);
        let snapshot = snapshot(&source(vec![strict]));
        let from = "terri@proseware.example";
        let ask = |client, to| verdict(&snapshot, client, from, to);
        let inside = (Role::Relay, INSIDE, None);
        assert_eq!(ask(inside, "bob@proseware.example"), relay_domain, "{mode:?}");
        assert_eq!(ask(inside, "t@d.example"), outside, "{mode:?}");
        assert_eq!(ask((Role::Relay, INSIDE, Some("any")), "t@d.example"), None, "{mode:?}");
        assert_eq!(ask((Role::Relay, STRANGER, None), "bob@proseware.example"), None, "{mode:?}");
        assert_eq!(ask((Role::Relay, STRANGER, None), "t@d.example"), Some(Reason::RelayNotPermitted));
    }
}

#[test]
fn a_recipient_of_a_second_tenant_comes_in_a_transaction_of_its_own() {
    let snapshot = both();
    let listener = listener(Role::Relay);
    let facts = Facts {
        listener: &listener,
        client: STRANGER.parse().unwrap(),
        tls: false,
        identity: None,
        grants: &[],
    };
    let to = ForwardPath::parse("bob@contoso.example").unwrap();
    let decide = |tenant| snapshot.decide_recipient(&facts, ReversePath::Null, to, tenant, &mut NoTrace);
    assert_eq!(decide(None).verdict, Verdict::Accept);
    assert_eq!(decide(Some(TenantIx(1))).verdict, Verdict::Accept);
    assert_eq!(decide(Some(TenantIx(0))).verdict, Verdict::Defer(Reason::SecondTenant));
}

#[test]
fn mail_is_refused_before_tls_and_before_a_login_where_the_listener_asks() {
    let snapshot = both();
    let from = ReversePath::parse("terri@proseware.example").unwrap();
    let listener = listener(Role::Submission);
    let mut facts = Facts {
        listener: &listener,
        client: INSIDE.parse().unwrap(),
        tls: false,
        identity: None,
        grants: &[],
    };
    let reason = |facts: &Facts<'_>| snapshot.decide_mail(facts, from, &mut NoTrace).verdict.reason();
    assert_eq!(reason(&facts), Some(Reason::TlsRequired));
    facts.tls = true;
    assert_eq!(reason(&facts), Some(Reason::LoginRequired));
    facts.identity = snapshot.identity("any");
    assert_eq!(reason(&facts), None);
}

#[test]
fn an_explanation_names_the_rule_the_line_and_the_smallest_change() {
    let snapshot = both();
    let last = |client, from, to| {
        let explanation = explain(&snapshot, client, from, to);
        let step = explanation.steps.last().unwrap().clone();
        (
            step.rule,
            step.outcome,
            step.origin.map(|origin| origin.line),
            explanation.remedy.unwrap_or_default(),
        )
    };
    let (rule, outcome, line, remedy) =
        last((Role::Relay, EXCLUDED, None), "x@proseware.example", "t@d.example");
    assert_eq!((rule, outcome, line), (Rule::Responsibility, Outcome::Deny, Some(3)));
    assert!(remedy.contains("198.51.100.128/25 at test.toml:3"), "{remedy}");

    let (.., remedy) = last((Role::Relay, STRANGER, None), "x@proseware.example", "t@d.example");
    assert!(remedy.contains("\"192.0.2.55\"") && remedy.contains("tenant proseware"), "{remedy}");

    let (rule, _, line, remedy) = last(
        (Role::Submission, STRANGER, Some("terri@proseware.example")),
        "x@proseware.example",
        "t@d.example",
    );
    assert_eq!((rule, line), (Rule::Sender, Some(61)));
    assert!(remedy.contains("add \"x@proseware.example\" to the senders of login terri"), "{remedy}");

    let (rule, outcome, _, remedy) = last((Role::Relay, INSIDE, None), "x@proseware.example", "t@d.example");
    assert_eq!((rule, outcome, remedy.as_str()), (Rule::OneTenant, Outcome::Accept, ""));
}

#[test]
fn mail_goes_to_the_relay_domain_then_the_tenants_route_then_the_nodes() {
    let snapshot = both();
    for (tenant, domain, key) in [
        (0, "Proseware.example", "mail.inside.example:25"),
        (0, "a.PARTNER.example", "mx.partner.example:25"),
        (1, "partner.example", "smarthost.example:25"),
        (0, "d.example", "smarthost.example:25"),
    ] {
        let route = snapshot.route(TenantIx(tenant), domain).unwrap();
        assert_eq!(&*snapshot.next_hops(route).key, key, "{domain}");
    }
}

#[test]
fn the_first_matching_route_wins_however_specific_a_later_one_is() {
    let mut ordered = proseware();
    ordered.routes =
        vec![route(&["*.d.example"], "first.example"), route(&["a.d.example"], "second.example")];
    let snapshot = snapshot(&source(vec![ordered]));
    let route = snapshot.route(TenantIx(0), "a.d.example").unwrap();
    assert_eq!(&*snapshot.next_hops(route).key, "first.example:25");
}

fn second(source: &mut Source) -> &mut TenantSource {
    Arc::make_mut(&mut source.tenants[1])
}

#[test]
fn every_contradiction_is_reported_with_its_lines() {
    let with = |change: &dyn Fn(&mut Source)| {
        let mut source = source(vec![proseware(), contoso()]);
        change(&mut source);
        let errors = Snapshot::compile(&source).expect_err("it must not compile");
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(!errors[0].remedy.is_empty());
        (errors[0].key, errors[0].origin.line, errors[0].other.is_some())
    };
    let net = |text: &str| at(70, text.parse().unwrap());
    for wide in
        ["0.0.0.0/0", "64.0.0.0/7", "::/0", "2000::/19", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"]
    {
        assert_eq!(with(&|s| second(s).networks.push(net(wide))), ("networks", 70, false), "{wide}");
    }
    assert_eq!(with(&|s| second(s).networks.push(net("192.0.2.1/24"))), ("networks", 70, false));
    assert_eq!(with(&|s| second(s).networks.push(net("198.51.100.0/24"))), ("networks", 70, true));
    assert_eq!(with(&|s| second(s).networks.push(net("::ffff:198.51.100.0/120"))), ("networks", 70, true));
    assert_eq!(
        with(&|s| second(s).excluded_networks.push(net("203.0.113.0/24"))),
        ("excluded_networks", 70, true)
    );
    assert_eq!(with(&|s| second(s).identities.push(identity("ANY", &[]))), ("login", 60, true));
    assert_eq!(with(&|s| second(s).senders.clear()), ("senders", 1, false));
    assert_eq!(with(&|s| second(s).senders[0].value = "contoso.example".into()), ("senders", 4, false));
    assert_eq!(with(&|s| second(s).name.value = "Proseware".into()), ("name", 1, true));
    for (domain, other) in [("*", false), ("*.a.example", false), ("PROSEWARE.example", true)] {
        let relay = |s: &mut Source| second(s).relay_domains.push(relay_domain(&[domain], None));
        assert_eq!(with(&relay), ("domains", 50, other), "{domain}");
    }
    let unknown = |s: &mut Source| {
        second(s).relay_domains.push(relay_domain(&["b.example"], Some(&["x@elsewhere.example"])));
    };
    assert_eq!(with(&unknown), ("recipients", 1, false));
}

#[test]
fn mail_that_no_route_matches_goes_by_mx_and_a_relay_domain_never_does() {
    let mut source = source(vec![proseware()]);
    source.routes.clear();
    let snapshot = Snapshot::compile(&source).expect("no route is needed");
    assert_eq!(snapshot.route(TenantIx(0), "elsewhere.example"), None);
    assert!(snapshot.route(TenantIx(0), "PROSEWARE.example").is_some());
}

#[test]
fn the_next_hop_is_asked_where_the_relay_domain_says_so() {
    let mut source = source(vec![proseware()]);
    assert_eq!(Snapshot::compile(&source).unwrap().call_ahead("proseware.example"), None);
    Arc::make_mut(&mut source.tenants[0]).relay_domains[0].call_ahead = true;
    let snapshot = Snapshot::compile(&source).unwrap();
    let route = snapshot.call_ahead("Proseware.Example").expect("it is asked");
    assert_eq!(&*snapshot.next_hops(route).key, "mail.inside.example:25");
    assert_eq!(snapshot.call_ahead("elsewhere.example"), None);
}

#[test]
fn a_listener_that_requires_tls_takes_nothing_in_the_clear_from_anyone() {
    let snapshot = both();
    let listener = listener(Role::Submission);
    for client in [INSIDE, STRANGER, EXCLUDED] {
        let facts = Facts {
            listener: &listener,
            client: client.parse().unwrap(),
            tls: false,
            identity: None,
            grants: &[],
        };
        let from = ReversePath::parse("terri@proseware.example").unwrap();
        let to = ForwardPath::parse("bob@proseware.example").unwrap();
        let decision = snapshot.decide_recipient(&facts, from, to, None, &mut NoTrace);
        assert_eq!(decision.verdict, Verdict::Deny(Reason::TlsRequired), "{client}");
    }
}
