use std::net::Ipv4Addr;

use mail::UnixMillis;
use observe::{Event, line};

use super::*;

const NOW: UnixMillis = UnixMillis(1_795_426_496_789);
const TEXT: &str = "a\"b";

fn suspension(login: Option<&str>, client: Option<IpAddr>) -> SuspensionChange<'_> {
    SuspensionChange { tenant: TEXT, login, client, cause: SuspensionCause::Operator, by: TEXT }
}

fn opened(client: IpAddr) -> GrantOpened<'static> {
    GrantOpened { tenant: TEXT, login: TEXT, client, seconds: 7, renewed: true, by: TEXT }
}

fn refused(client: IpAddr) -> GrantRefused<'static> {
    GrantRefused { login: TEXT, client, reason: Word("unknown_login"), by: TEXT }
}

fn write(event: &impl Event) -> String {
    line(event, "relay", NOW)
}

#[test]
fn records_read_as_they_always_have() {
    let (file, error) = (Path::new("/var/spool/a\"b"), &TEXT as &dyn Display);
    let client = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
    let ordered = QueueOrdered {
        act: Word("bounce"),
        by: TEXT,
        selection: TEXT,
        reason: Some(TEXT),
        done: 8,
        unchanged: 9,
        under_way: 10,
        failure: Some(TEXT),
    };
    let lines = [
        write(&Draining { reason: Word("signal") }),
        write(&Killed { reason: Word("second signal") }),
        write(&PolicyReloaded { generation: 1, tenants: 2, warnings: 3, needs_a_restart: TEXT }),
        write(&PolicyWarning { warning: TEXT }),
        write(&PolicyReloadFailed { generation: 4, errors: 5, error: TEXT }),
        write(&PolicyError { error: TEXT }),
        write(&CertificateExpiry { file, unix_seconds: 6, warning: TEXT }),
        write(&ResolverUnconfigured { error: TEXT }),
        write(&Suspended(suspension(Some(TEXT), None))),
        write(&Resumed(suspension(None, Some(client)))),
        write(&SuspensionsNotKept { error }),
        write(&opened(client)),
        write(&refused(client)),
        write(&GrantRevoked { tenant: TEXT, login: TEXT, client, by: TEXT }),
        write(&ordered),
        write(&AdminUnauthorized { requests: 11, client: Some(client) }),
        write(&HttpPlacesShort { port: Word("tickets"), connections_ended: 12, client: Some(client) }),
        write(&TicketsDamaged { moved_to: file }),
        write(&TicketsNotKept { tickets: 13, error }),
    ];
    assert_eq!(lines.concat(), include_str!("lines.jsonl"));
    assert_eq!(lines.len(), EVENTS.len(), "each event has a line");
}

#[test]
fn grants_and_refused_reloads_count() {
    let (registry, client) = (Registry::new(1, &[], 1), IpAddr::from(Ipv4Addr::LOCALHOST));
    opened(client).count(registry.admin());
    refused(client).count(registry.admin());
    PolicyReloadFailed { generation: 4, errors: 5, error: TEXT }.count(&registry);
    let text = registry.text();
    for counted in [
        "gatepost_grants_opened_total 1",
        r#"gatepost_grants_refused_total{reason="unknown_login"} 1"#,
        "gatepost_policy_reload_failures_total 1",
    ] {
        assert!(text.lines().any(|line| line == counted), "{counted} is missing from\n{text}");
    }
}
