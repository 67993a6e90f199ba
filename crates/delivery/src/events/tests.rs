use mail::Status;
use observe::{Event, Registry, line};

use super::*;

const NOW: UnixMillis = UnixMillis(1_795_426_496_789);

fn attempt(reply: &Reply) -> Attempt<'_> {
    let message = MessageId::new(NOW, 1, 7);
    Attempt { message, tenant: "a\"b", from: "a\"b", to: "a\"b", next_hop: Some("a\"b"), reply }
}

#[test]
fn records_read_as_they_always_have() {
    let (message, bounce) = (MessageId::new(NOW, 1, 7), MessageId::new(NOW, 1, 8));
    let reply = Reply::new(451, Some(Status::new(4, 3, 2)), "a\"b");
    let (text, error) = ("a\"b", &"a\"b" as &dyn Display);
    let unavailable = SiteUnavailable {
        next_hop: text,
        reply: &reply,
        waiting_jobs: 1,
        failures: 2,
        since: NOW,
        retry_seconds: 3,
    };
    let lines = [
        line(&Delivered(attempt(&reply)), "relay", NOW),
        line(&Deferred(attempt(&reply)), "relay", NOW),
        line(&Failed(attempt(&reply)), "relay", NOW),
        line(&Expired(attempt(&reply)), "relay", NOW),
        line(&Bounced { message, tenant: text, to: text, bounce }, "relay", NOW),
        line(&BounceSuppressed { message, tenant: text }, "relay", NOW),
        line(&unavailable, "relay", NOW),
        line(&SiteAvailable { next_hop: text, failed_seconds: 4 }, "relay", NOW),
        line(&MessageUnreadable { key: 5, error }, "relay", NOW),
        line(&MessageQuarantined { message, error }, "relay", NOW),
        line(&QueueActed { act: Word("hold"), message, by: text }, "relay", NOW),
    ];
    assert_eq!(lines.concat(), include_str!("lines.jsonl"));
    assert_eq!(lines.len(), EVENTS.len(), "each event has a line");
}

#[test]
fn the_end_of_an_attempt_counts_by_its_outcome() {
    let registry = Registry::new(1, &["smtp"], 1);
    let (metrics, reply) = (registry.worker(0), Reply::default());
    Delivered(attempt(&reply)).count(&metrics);
    Deferred(attempt(&reply)).count(&metrics);
    Failed(attempt(&reply)).count(&metrics);
    Expired(attempt(&reply)).count(&metrics);
    let text = registry.text();
    for outcome in ["delivered", "deferred", "failed", "expired"] {
        let counted = format!(r#"gatepost_deliveries_total{{tenant="other",outcome="{outcome}"}} 1"#);
        assert!(text.contains(&counted), "{counted} is missing from\n{text}");
    }
}
