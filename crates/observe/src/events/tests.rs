use std::net::Ipv4Addr;

use super::*;
use crate::{Event, Registry, line};

const NOW: UnixMillis = UnixMillis(1_795_426_496_789);

fn contained(sender: (Option<&'static str>, Option<IpAddr>)) -> Contained<'static> {
    let (login, client) = sender;
    Contained {
        tenant: "a\"b",
        login,
        client,
        cause: SuspensionCause::Bounces,
        more_than: 100,
        within_seconds: 3600,
        until: NOW,
    }
}

#[test]
fn records_read_as_they_always_have() {
    let login = contained((Some("a\"b"), None));
    let client = contained((None, Some(Ipv4Addr::new(192, 0, 2, 1).into())));
    let dropped = LogRecordsDropped { records: 3 };
    let lines = [line(&login, "relay", NOW), line(&client, "relay", NOW), line(&dropped, "relay", NOW)];
    assert_eq!(lines.concat(), include_str!("lines.jsonl"));
}

#[test]
fn a_contained_sender_counts_for_its_tenant() {
    let registry = Registry::new(1, &["smtp"], 1);
    registry.set_policy(1, ["adatum"].into_iter());
    let contained = Contained { tenant: "adatum", ..contained((None, None)) };
    contained.count(&registry.worker(0));
    let counted = r#"gatepost_containments_total{tenant="adatum",cause="bounces"} 1"#;
    assert!(registry.text().contains(counted));
}
