//! POP/IMAP before SMTP (DESIGN.md A2), as decisions.

mod fixture;

use fixture::{at, contoso, identity, listener, proseware, source};
use mail::{ForwardPath, Reason, ReversePath};
use policy::{Decision, Facts, IdentityIx, IdentitySource, LoginRequired, NoTrace, Role, Snapshot};

const OUT: &str = "bob@d.example";
const TERRI: &str = "terri@proseware.example";

fn snapshot(strict: LoginRequired) -> Snapshot {
    let mut contoso = contoso();
    contoso.identities = vec![IdentitySource { null_sender: true, ..identity("kim", &["kim@c.example"]) }];
    contoso.login_required = at(5, strict);
    Snapshot::compile(&source(vec![proseware(), contoso])).unwrap()
}

fn decide(
    snapshot: &Snapshot,
    role: Role,
    (client, login, grants): (&str, Option<&str>, &[&str]),
    from: &str,
) -> Decision {
    let grants: Vec<IdentityIx> = grants.iter().map(|login| snapshot.identity(login).unwrap()).collect();
    let listener = listener(role);
    let facts = Facts {
        listener: &listener,
        client: client.parse().unwrap(),
        tls: true,
        identity: login.map(|login| snapshot.identity(login).unwrap()),
        grants: &grants,
    };
    let (from, to) = (ReversePath::parse(from).unwrap(), ForwardPath::parse(OUT).unwrap());
    let decision = snapshot.decide_recipient(&facts, from, to, None, &mut NoTrace);
    if decision.verdict.is_accept() {
        let begun = snapshot.decide_mail(&facts, from, &mut NoTrace);
        assert_eq!((begun.tenant, begun.identity), (decision.tenant, decision.identity));
    }
    decision
}

#[test]
fn a_grant_relays_with_the_senders_of_its_identity_and_no_others() {
    let snapshot = snapshot(LoginRequired::Never);
    let (hotel, both) = ("192.0.2.55", &[TERRI, "kim"][..]);
    let denied = Some(Reason::SenderNotOwned);
    for (client, from, expected, by) in [
        ((hotel, None, both), TERRI, None, Some(TERRI)),
        ((hotel, None, both), "kim@c.example", None, Some("kim")),
        ((hotel, None, both), "ann@proseware.example", denied, Some(TERRI)),
        ((hotel, None, &[TERRI][..]), "", denied, Some(TERRI)),
        ((hotel, None, both), "", None, Some("kim")),
        ((hotel, None, &[]), TERRI, Some(Reason::RelayNotPermitted), None),
        // A login is that login and no other.
        ((hotel, Some("kim"), both), TERRI, denied, Some("kim")),
        // The network before a grant; a grant where the network does not own the sender.
        (("198.51.100.7", None, both), TERRI, None, None),
        (("198.51.100.7", None, both), "kim@c.example", None, Some("kim")),
        (("198.51.100.7", None, both), "x@d.example", denied, None),
        // An excluded range makes a stranger, and a stranger may hold a grant.
        (("198.51.100.129", None, both), TERRI, None, Some(TERRI)),
        (("0.0.0.0", None, both), TERRI, Some(Reason::RelayNotPermitted), None),
        (("::", None, both), TERRI, Some(Reason::RelayNotPermitted), None),
    ] {
        let decision = decide(&snapshot, Role::Relay, client, from);
        assert_eq!(decision.verdict.reason(), expected, "{client:?} <{from}>");
        assert_eq!(decision.identity, by.and_then(|by| snapshot.identity(by)), "{client:?} <{from}>");
    }
}

#[test]
fn a_grant_is_no_login_where_one_is_demanded() {
    let holder = ("203.0.113.9", None, &[TERRI][..]);
    for mode in [LoginRequired::Outside, LoginRequired::Always] {
        let decision = decide(&snapshot(mode), Role::Relay, holder, TERRI);
        assert_eq!(decision.verdict.reason(), Some(Reason::LoginRequired), "{mode:?}");
    }
    let decision = decide(&snapshot(LoginRequired::Never), Role::Submission, holder, TERRI);
    assert_eq!(decision.verdict.reason(), Some(Reason::LoginRequired));
}

#[test]
fn a_client_without_an_address_is_a_stranger_whatever_network_holds_it() {
    let mut open = proseware();
    open.networks.push(at(2, "0.0.0.0/8".parse().unwrap()));
    let snapshot = Snapshot::compile(&source(vec![open])).unwrap();
    for (client, expected) in [("0.0.0.0", true), ("::", true), ("::ffff:0.0.0.0", true), ("0.0.0.1", false)]
    {
        let decision = decide(&snapshot, Role::Relay, (client, None, &[]), TERRI);
        assert_eq!(decision.verdict.reason() == Some(Reason::RelayNotPermitted), expected, "{client}");
    }
}
