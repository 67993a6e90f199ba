use mail::UnixMillis;
use observe::line;

use super::*;

const NOW: UnixMillis = UnixMillis(1_795_426_496_789);

#[test]
fn records_read_as_they_always_have() {
    let (file, error) = (Path::new("/var/spool/a\"b"), &"a\"b" as &dyn Display);
    let recovered = SpoolRecovered {
        shard: 3,
        writes: Word("direct"),
        segments: 4,
        messages: 5,
        damaged_places: 6,
        bodies_missing: 7,
        not_understood: 8,
        bodies_kept: 9,
        possible_duplicates: 10,
    };
    let lines = [
        line(&ClientsPutOff { clients: 1, reason: "they came while the spool was recovered" }, "relay", NOW),
        line(
            &SpoolAwaited {
                file,
                reason: "a write of a killed process has not ended: the disk is slow or does not answer",
                seconds: 2,
            },
            "relay",
            NOW,
        ),
        line(&recovered, "relay", NOW),
        line(&SpoolDamaged { file, offset_bytes: 11, length_bytes: 12 }, "relay", NOW),
        line(&SpoolWriteFailed { file, error }, "relay", NOW),
        line(&SpoolLatched { file, error }, "relay", NOW),
        line(
            &SpoolVanished {
                file,
                messages: 13,
                effect: "no mail is taken; what is queued goes out from the files that are still open",
            },
            "relay",
            NOW,
        ),
        line(&SpoolReturned { messages: 14 }, "relay", NOW),
        line(
            &MessageLost {
                message: MessageId::new(NOW, 1, 7),
                reason: "its file in the spool was deleted, replaced, renamed or unmounted",
            },
            "relay",
            NOW,
        ),
        line(&MessagesLost { messages: 15, named: 16 }, "relay", NOW),
        line(&SpoolShardRemoved { shard: 17 }, "relay", NOW),
        line(&SpoolShardNotRemoved { error, shard: 18 }, "relay", NOW),
    ];
    assert_eq!(lines.concat(), include_str!("lines.jsonl"));
    assert_eq!(lines.len(), EVENTS.len(), "each event has a line");
}
