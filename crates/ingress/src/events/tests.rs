use std::net::{Ipv4Addr, Ipv6Addr};

use mail::UnixMillis;
use observe::{Event, Registry, line};

use super::*;

const NOW: UnixMillis = UnixMillis(1_795_426_496_789);
const TEXT: &str = "a\"b";
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const PROXY: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

fn listener() -> Listener<'static> {
    Listener { index: 1, name: TEXT }
}

fn denied(tenant: &str) -> RelayDenied<'_> {
    RelayDenied {
        listener: listener(),
        client: CLIENT,
        proxy: Some(PROXY),
        tenant,
        login: TEXT,
        from: TEXT,
        to: TEXT,
        reason: Reason::RelayNotPermitted,
        rule: Word("responsibility"),
        detail: Some(format_args!("a\"b")),
        ticket: first_ticket(),
    }
}

fn wrong(reason: PeerFault) -> WrongIntroduction<'static> {
    WrongIntroduction { listener: listener(), peer: CLIENT, reason }
}

fn first_ticket() -> Ticket {
    "7QK2-M9XH-T4WD-3".parse().expect("a ticket")
}

fn write(event: &impl Event) -> String {
    line(event, "relay", NOW)
}

#[test]
fn records_read_as_they_always_have() {
    let (first_ticket, last_ticket) = (Some(first_ticket()), Some(Ticket::from_random(7)));
    let accepted = Accepted {
        message: MessageId::new(NOW, 1, 7),
        client: CLIENT,
        proxy: Some(PROXY),
        tenant: TEXT,
        login: TEXT,
        from: TEXT,
        recipients: 2,
        bytes: 3,
    };
    let denials = RelayDenialsFolded {
        of: Word("transaction"),
        client: Some(CLIENT),
        denials: 3,
        reasons: &"relay_not_permitted 3",
        first_ticket,
        last_ticket,
    };
    let failures = LoginFailuresFolded {
        login: TEXT,
        failures: 3,
        reasons: &"login_failed 3",
        first_ticket,
        last_ticket,
        first_client: CLIENT,
        last_client: PROXY,
    };
    let shed = ConnectionsShed {
        client: CLIENT,
        address: 1,
        full: 2,
        displaced: 3,
        silent: 4,
        strangers: 5,
        strangers_max: 6,
        connections: 7,
        connections_max: 8,
    };
    let lines = [
        write(&LoggedIn { client: CLIENT, proxy: Some(PROXY), login: TEXT }),
        write(&accepted),
        write(&denied(TEXT)),
        write(&denials),
        write(&failures),
        write(&shed),
        write(&AcceptPaused { error: &TEXT }),
        write(&ProxyHeaderWrong(wrong(PeerFault::HeaderMissing))),
        write(&XClientRefused(wrong(PeerFault::XClientLogin))),
    ];
    assert_eq!(lines.concat(), include_str!("lines.jsonl"));
    assert_eq!(lines.len(), EVENTS.len(), "each event has a line");
}

#[test]
fn denials_and_wrong_introductions_count_for_their_listener() {
    let registry = Registry::new(1, &["smtp", "submission"], 1);
    registry.set_policy(1, ["adatum"].into_iter());
    let metrics = registry.worker(0);
    denied("adatum").count(&metrics);
    denied("").count(&metrics);
    ProxyHeaderWrong(wrong(PeerFault::HeaderMissing)).count(&metrics);
    XClientRefused(wrong(PeerFault::XClientLogin)).count(&metrics);
    let text = registry.text();
    for counted in [
        r#"denials_total{listener="submission",tenant="adatum",reason="relay_not_permitted"} 1"#,
        r#"denials_total{listener="submission",tenant="none",reason="relay_not_permitted"} 1"#,
        r#"peer_faults_total{listener="submission",fault="header_missing"} 1"#,
        r#"peer_faults_total{listener="submission",fault="xclient_login"} 1"#,
    ] {
        assert!(text.contains(counted), "{counted} is missing from\n{text}");
    }
}
