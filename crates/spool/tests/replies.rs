//! What was last said of a recipient is known after a start, and wherever its message was copied to.

mod harness;

use harness::*;
use mail::{LastReply, Status, UnixMillis};
use ring::sim::SimOptions;
use spool::inspect::{self, RecipientState};
use spool::{Outcome, Said};

const LATER: UnixMillis = UnixMillis(1_795_390_500_000);

fn reply(text: &str) -> LastReply {
    let (next_hop, status) = (Some("mx.b.example:25".into()), Some(Status::new(4, 2, 1)));
    LastReply { next_hop, code: 450, status, text: text.into() }
}

fn said(recipients: &[u16], text: &str) -> Said {
    Said { recipients: recipients.to_vec(), reply: reply(text) }
}

impl Bench {
    /// What is known of the recipients of a message who wait.
    fn replies(&self, number: u32) -> Vec<(u16, Option<String>)> {
        let message = self.recovered.iter().find(|one| one.id == id(number)).expect("it is queued");
        let pending = message.pending.iter();
        let text = |reply: &LastReply| {
            assert_eq!((reply.next_hop.as_deref(), reply.code), (Some("mx.b.example:25"), 450));
            reply.text.to_string()
        };
        pending.map(|one| (one.recipient, one.reply.as_deref().map(text))).collect()
    }
}

fn texts(expected: &[(u16, &str)]) -> Vec<(u16, Option<String>)> {
    expected.iter().map(|(to, text)| (*to, (!text.is_empty()).then(|| (*text).to_owned()))).collect()
}

#[test]
fn the_latest_reply_of_each_recipient_is_known_after_a_start() {
    let mut bench = Bench::new(1);
    let (key, _) = bench.commit(1, 5, 100);
    bench.shard.deferred(key, &[0, 1, 2], LATER, 1, &[said(&[0, 2], "busy"), said(&[1], "full")]).unwrap();
    bench.settle();
    bench.shard.deferred(key, &[3, 4], LATER, 1, &[said(&[3], "busy")]).unwrap();
    bench.settle();
    let mut bench = bench.crash();
    let known = [(0, "busy"), (1, "full"), (2, "busy"), (3, "busy"), (4, "")];
    assert_eq!(bench.replies(1), texts(&known));
    // What is said later counts; an operator's order, and an outcome of another, say nothing of it.
    let key = bench.recovered[0].key;
    bench.shard.deferred(key, &[1, 2], LATER, 2, &[said(&[1, 2], "still full")]).unwrap();
    bench.shard.held(key, &[1], 2).unwrap();
    let failed = Said { recipients: vec![0], reply: LastReply { code: 550, ..reply("no such user") } };
    bench.shard.outcomes(key, &[(0, Outcome::Failed)], &[failed], None).unwrap();
    bench.settle();
    let mut bench = bench.crash();
    assert_eq!(bench.replies(1), texts(&[(1, "still full"), (2, "still full"), (3, "busy"), (4, "")]));
    let listed = inspect::list(&mut bench.ring, ROOT.as_ref()).unwrap();
    let shown = |to: usize| listed[0].recipients[to].reply.as_ref().map(|reply| reply.told_to(""));
    assert_eq!(listed[0].recipients[0].state, RecipientState::Done(Outcome::Failed));
    assert_eq!(shown(0), Some("550 4.2.1 no such user".to_owned()));
    assert_eq!((shown(2), shown(4)), (Some("450 4.2.1 still full".to_owned()), None));
}

#[test]
fn a_copy_has_the_latest_reply_of_each_recipient() {
    let mut bench = Bench::with(2, roomy(), SimOptions::default());
    let (many, _) = bench.commit(1000, 80, 8 << 10);
    let (one, _) = bench.commit(1001, 1, 8 << 10);
    let all: Vec<_> = (0..80).collect();
    bench
        .shard
        .deferred(many, &all, LATER, 1, &[said(&all[..50], "busy"), said(&all[50..], "full")])
        .unwrap();
    bench.shard.deferred(many, &all[40..45], LATER, 2, &[said(&all[40..45], "still busy")]).unwrap();
    let delivered: Vec<_> = (0..39).map(|to| (to, Outcome::Delivered)).collect();
    bench.shard.outcomes(many, &delivered, &[], None).unwrap();
    bench.shard.deferred(one, &[0], LATER, 1, &[said(&[0], "busy")]).unwrap();
    bench.shard.held(one, &[0], 1).unwrap();
    // Whatever the first segments held is overwritten, so that only the copies can tell.
    for numbers in [0..300, 2000..2800] {
        for number in numbers {
            let (key, _) = bench.commit(number, 1, 8 << 10);
            bench.deliver(key, 1).unwrap();
        }
        pass(&mut bench, 60);
    }
    assert!(bench.shard.stats().compacted_bytes > 0);
    let bench = bench.crash();
    let expected: Vec<_> = (39..80)
        .map(|to| {
            let text = match to {
                40..45 => "still busy",
                ..50 => "busy",
                _ => "full",
            };
            (to, Some(text.to_owned()))
        })
        .collect();
    assert_eq!(bench.replies(1000), expected);
    assert_eq!(bench.replies(1001), texts(&[(0, "busy")]));
}

#[test]
fn thousands_of_deferrals_of_one_message_take_no_more_room_than_one() {
    let mut bench = Bench::new(3);
    let (key, _) = bench.commit(1, 1, 100);
    for attempt in 1..=2000 {
        let text = format!("busy for the {attempt}th time");
        bench.shard.deferred(key, &[0], LATER, attempt, &[said(&[0], &text)]).expect("there is room");
        bench.settle();
    }
    assert!(bench.shard.stats().used_bytes <= 3 * SEGMENT_BYTES, "{:?}", bench.shard.stats());
    let bench = bench.crash();
    assert_eq!(bench.replies(1), texts(&[(0, "busy for the 2000th time")]));
}
