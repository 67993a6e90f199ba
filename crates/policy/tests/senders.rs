//! Sender ownership (DESIGN.md B1, C1 to C3), as explanations.

mod fixture;

use fixture::{contoso, identity, listener, proseware, source, texts};
use mail::{ForwardPath, Reason, ReversePath};
use policy::{Explanation, Facts, Origin, ReservedSendersSource, Role, Rule, SenderRulesSource, Snapshot};

const INSIDE: &str = "198.51.100.7";
const STRANGER: &str = "192.0.2.55";
const BILLING: &str = "billing@proseware.example";

fn snapshot(rules: SenderRulesSource) -> Snapshot {
    let mut tenant = proseware();
    tenant.sender_rules = rules;
    tenant.identities.push(identity(BILLING, &["one@proseware.example", "two@proseware.example"]));
    Snapshot::compile(&source(vec![tenant, contoso()])).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn reserved() -> SenderRulesSource {
    let block = ReservedSendersSource {
        origin: Origin::new("test.toml", 80),
        senders: texts(
            81,
            &["@billing.example", "\"invoice\"@proseware.example", "\"\\sales team\"@proseware.example"],
        ),
        identities: texts(82, &[BILLING]),
    };
    SenderRulesSource { reserved: vec![block], plus_addressing: true, ..SenderRulesSource::default() }
}

fn explain(snapshot: &Snapshot, client: &str, login: Option<&str>, from: &str, to: &str) -> Explanation {
    let facts = Facts {
        listener: &listener(Role::Relay),
        client: client.parse().unwrap(),
        tls: true,
        identity: login.map(|login| snapshot.identity(login).unwrap()),
        grants: &[],
    };
    snapshot.explain(&facts, ReversePath::parse(from).unwrap(), ForwardPath::parse(to).unwrap())
}

#[test]
fn reserved_senders_are_those_of_the_identities_named_and_of_no_others() {
    let snapshot = snapshot(reserved());
    let out = "bob@d.example";
    for (login, from, fine) in [
        (Some(BILLING), "x@billing.example", true),
        (Some(BILLING), "invoice@proseware.example", true),
        (Some(BILLING), "invoice+may@proseware.example", true),
        (Some(BILLING), "one@proseware.example", true),
        (Some(BILLING), "two@proseware.example", true),
        (Some(BILLING), "three@proseware.example", false),
        (Some("any"), "x@billing.example", false),
        (Some("any"), "invoice@proseware.example", false),
        (Some("any"), "invoice+may@proseware.example", false),
        (Some("any"), "\"in\\voice\"@proseware.example", false),
        (Some("any"), "\"Invoice+may\"@proseware.example", false),
        (Some(BILLING), "\"invoice+may\"@proseware.example", true),
        (Some(BILLING), "\"one\"@proseware.example", true),
        (Some("any"), "x@proseware.example", true),
        (None, "invoice@proseware.example", false),
        (None, "\"invoice\"@proseware.example", false),
        (None, "\"sales team\"@proseware.example", false),
        (Some(BILLING), "\"sales\\ team\"@proseware.example", true),
        (None, "x@proseware.example", true),
    ] {
        let reason = explain(&snapshot, INSIDE, login, from, out).decision.verdict.reason();
        assert_eq!(reason, (!fine).then_some(Reason::SenderNotOwned), "{login:?} {from}");
    }
    let explanation = explain(&snapshot, INSIDE, Some("any"), "x@billing.example", out);
    let step = explanation.steps.last().unwrap();
    assert_eq!((step.rule, step.origin.as_ref().map(|origin| origin.line)), (Rule::Sender, Some(80)));
    assert_eq!(step.detail, "x@billing.example is reserved for identities that login any is not among");
    let remedy = explanation.remedy.unwrap();
    assert_eq!(remedy, format!("log in as {BILLING}, or add an identity to the block at test.toml:80"));
}

#[test]
fn a_tagged_address_belongs_to_whom_the_plain_one_belongs_to_where_the_tenant_says_so() {
    for plus_addressing in [true, false] {
        let snapshot = snapshot(SenderRulesSource { plus_addressing, ..SenderRulesSource::default() });
        let terri = Some("terri@proseware.example");
        for (from, to, fine) in [
            ("terri+shop@proseware.example", "bob@d.example", plus_addressing),
            ("terri+@proseware.example", "bob@d.example", plus_addressing),
            ("ann+terri@proseware.example", "bob@d.example", false),
            ("terri@proseware.example", "bob+list@listed.example", plus_addressing),
            ("terri@proseware.example", "eve+bob@listed.example", false),
        ] {
            let verdict = explain(&snapshot, STRANGER, terri, from, to).decision.verdict;
            assert_eq!(verdict.is_accept(), fine, "{from} {to}");
        }
    }
}

#[test]
fn a_tenant_may_deny_its_own_senders_to_strangers_and_to_them_alone() {
    let own_senders_denied = Some(Origin::new("test.toml", 70));
    let snapshot = snapshot(SenderRulesSource { own_senders_denied, ..SenderRulesSource::default() });
    let (own, to) = ("ann@proseware.example", "bob@proseware.example");
    for (client, login, from, fine) in [
        (STRANGER, None, own, false),
        // Another tenant's network is a stranger here.
        ("203.0.113.9", None, own, false),
        (STRANGER, Some("any"), own, true),
        (INSIDE, None, own, true),
        (STRANGER, None, "x@d.example", true),
        (STRANGER, None, "", true),
    ] {
        let reason = explain(&snapshot, client, login, from, to).decision.verdict.reason();
        assert_eq!(reason, (!fine).then_some(Reason::SenderNotOwned), "{client} {login:?} {from}");
    }
    let explanation = explain(&snapshot, STRANGER, None, own, to);
    assert_eq!(explanation.steps.last().unwrap().origin.as_ref().unwrap().line, 70);
    assert!(explanation.remedy.unwrap().ends_with("own_senders_from_strangers = \"accept\" at test.toml:70"));
}
