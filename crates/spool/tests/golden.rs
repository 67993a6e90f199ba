//! The bytes of `FORMAT.md` as they were released: this code reads them and writes the same. `BLESS=1` renews
//! those of no release yet.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};

use harness::*;
use mail::{Address, Envelope, LastReply, ReversePath, Status, UnixMillis};
use ring::sim::SimOptions;
use ring::{Disk as _, RealDisk};
use spool::inspect::{self, RecipientState};
use spool::{
    Content, Event, HELD, NewMessage, Options, Outcome, RELEASED, Recovered, RecoveryReport, Said, Shard,
    Spool,
};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// What was released under this name is what was `written`.
#[track_caller]
fn expect_golden(name: &str, written: &[u8]) {
    let path = golden(name);
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, written).unwrap();
    }
    let released = fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let differs = released.iter().zip(written).position(|(released, written)| released != written);
    assert!(differs.is_none() && released.len() == written.len(), "{name} differs, first at {differs:?}");
}

#[test]
fn version_2_is_read_and_written_as_it_was_released() {
    let mut bench = Bench::new(25);
    let (key, _) = bench.commit(1, 2, 300);
    bench.shard.outcomes(key, &[(1, Outcome::Failed)], &[], None).unwrap();
    bench.settle();
    let identity = bench.read(format!("{ROOT}/shard-000/identity"));
    // Identity, segment header, two groups.
    let written = [&identity[..], &bench.read(segment(0))[..3 * 4096]].concat();
    expect_golden("version-2.bin", &written);

    let directory = spool_of("version-2.bin");
    let options = Options { directory: directory.path().to_owned(), ..options() };
    let (_, recovered) = Shard::open(&mut RealDisk::default(), options).unwrap();
    let recovered: Vec<_> = recovered.collect();
    let pending = |message: &Recovered| message.pending.iter().map(|one| one.recipient).collect::<Vec<_>>();
    assert_eq!(recovered.iter().map(|one| (one.id, pending(one))).collect::<Vec<_>>(), [(id(1), vec![0])]);
}

/// A spool whose first shard is in a golden file: its identity, and the beginning of its segment.
fn spool_of(name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let shard = directory.path().join("shard-000");
    fs::create_dir(&shard).unwrap();
    let released = fs::read(golden(name)).unwrap();
    fs::write(shard.join("identity"), &released[..4096]).unwrap();
    let mut segment = released[4096..].to_vec();
    segment.resize(SEGMENT_BYTES as usize, 0);
    fs::write(shard.join("segment-00000000.log"), segment).unwrap();
    directory
}

#[test]
fn version_1_is_refused_by_a_sentence_and_left_as_it_is() {
    let directory = spool_of("version-1.bin");
    let file = directory.path().join("shard-000/segment-00000000.log");
    let before = fs::read(&file).unwrap();
    let sentence = format!(
        "the spool {} was written by an earlier Gatepost in format version 1, and this one reads and writes version \
         2 alone; let that one deliver what is queued there and then move the folder away, or name another folder \
         in spool.path",
        directory.path().display()
    );
    let options = Options { directory: directory.path().to_owned(), ..options() };
    let mut disk = RealDisk::default();
    for refused in [
        Shard::open(&mut disk, options.clone()).err(),
        Spool::open(&mut disk, options, 1).err(),
        inspect::list(&mut disk, directory.path()).err(),
        inspect::verify(&mut disk, directory.path()).err(),
    ] {
        assert_eq!(refused.map(|error| error.to_string()), Some(sentence.clone()));
    }
    assert_eq!(fs::read(&file).unwrap(), before);
    let mut names: Vec<_> = fs::read_dir(directory.path().join("shard-000")).unwrap().flatten().collect();
    names.sort_unstable_by_key(|entry| entry.file_name());
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn the_footer_of_version_2_is_written_as_it_was_released() {
    let mut bench = Bench::new(33);
    let (partly, _) = bench.commit(1, 2, 300);
    bench.shard.outcomes(partly, &[(0, Outcome::Failed)], &[], None).unwrap();
    bench.settle();
    bench.shard.deferred(partly, &[1], LATER, 2, &[]).unwrap();
    bench.settle();
    let (done, _) = bench.commit(2, 1, 300);
    bench.deliver(done, 1).unwrap();
    bench.settle();
    let mut bench = bench.stop();
    assert_eq!(bench.recovered_ids(), [id(1)]);
    assert_eq!(bench.shard.recovery().groups, 0, "the footer says it all");
    let bytes = bench.read(segment(0));
    expect_golden("footer-2.bin", &bytes[bytes.len() - 8192..]);
}

const LATER: UnixMillis = UnixMillis(1_795_390_500_000);

/// Three segments, each of which is filled by five groups of one block: the header is before them, a footer and
/// its trailer are behind.
fn small() -> Options {
    const SEGMENT_BYTES: u64 = 8 * 4096;
    let capacity_bytes = 3 * SEGMENT_BYTES + LARGE_FILE_BYTES;
    Options { segment_bytes: SEGMENT_BYTES, capacity_bytes, compaction_bytes_per_second: 0, ..options() }
}

const LARGE_FILE_BYTES: u64 = 8192;

// Messages that are queued in the end.
const PARTLY: u32 = 4;
const BOUNCE_OF_FAILED: u32 = 5;
const BOUNCE_OF_EXPIRED: u32 = 6;
const KEPT: u32 = 7;
const LARGE: u32 = 8;
const LET_GO: u32 = 9;
// And two that are done.
const EXPIRED: u32 = 10;
const LAST_BOUNCE: u32 = 11;

/// Writes whatever `FORMAT.md` knows: each record with each of its flags, both kinds of footer, a segment in its
/// second life, groups of several epochs in one segment, and a copy beside what it was copied from.
fn everything() -> Bench {
    let mut bench = Bench::with(36, small(), SimOptions::default());
    bench.settle();
    let (first, _) = bench.commit(1, 1, 100);
    for number in 2..4 {
        let (key, _) = bench.commit(number, 1, 100);
        bench.deliver(key, 1).unwrap();
        bench.settle();
    }
    // The first segment is full. Nothing lives in it any more, and it begins its second life.
    bench.deliver(first, 1).unwrap();
    bench.settle();
    fill_second_segment(&mut bench);
    let mut bench = fill_third_segment(bench);
    // The next life can afford one copy, that of the first message of the second segment.
    bench.options.compaction_bytes_per_second = 1;
    let mut bench = bench.stop();
    bench.settle();
    bench
}

const NO_USER: &str = "no such user";
const BUSY: &str = "<\u{1}>: busy \u{2014} come again";

/// With a status and a next hop where the code is 450.
fn said(recipients: &[u16], code: u16, text: &str) -> Said {
    let is_whole = code == 450;
    let reply = LastReply {
        next_hop: is_whole.then(|| "mx.b.example:25".into()),
        code,
        status: is_whole.then_some(Status::new(4, 2, 1)),
        text: text.into(),
    };
    Said { recipients: recipients.to_vec(), reply }
}

fn fill_second_segment(bench: &mut Bench) {
    let (mut eight_bit, content) = (envelope(5), body(PARTLY, 300));
    eight_bit.set_eight_bit(true);
    let partly = bench.shard.append(&message(PARTLY, &eight_bit, Content::Inline(&content)), None).unwrap();
    bench.settle();
    let to_sender = to_sender();
    bench.shard.attempt_started(partly, &[0, 1, 2, 3, 4], UnixMillis(LATER.0 - 1000), 1).unwrap();
    let answered = [(0, Outcome::Delivered), (1, Outcome::Failed)];
    let refused = [said(&[1], 550, NO_USER)];
    let bounce_of_failed = bounce(BOUNCE_OF_FAILED, &to_sender);
    bench.shard.outcomes(partly, &answered, &refused, Some(&bounce_of_failed)).unwrap();
    bench.settle();
    let replies = [said(&[2, 3], 450, BUSY), said(&[4], 452, "mailbox full")];
    bench.shard.deferred(partly, &[2, 3, 4], LATER, 1, &replies).unwrap();
    let expired = [(2, Outcome::Expired)];
    bench.shard.outcomes(partly, &expired, &[], Some(&bounce(BOUNCE_OF_EXPIRED, &to_sender))).unwrap();
    bench.settle();
    // The attempt goes with the group of the next message.
    bench.shard.attempt_started(partly, &[3, 4], LATER, 2).unwrap();
    bench.commit(KEPT, 1, 100);
}

fn fill_third_segment(mut bench: Bench) -> Bench {
    let (envelope, content) = (envelope(1), body(EXPIRED, 100));
    let large = bench.large(LARGE, 5000);
    let large = NewMessage { identity: "[192.0.2.7]", ..message(LARGE, &envelope, Content::Large(large)) };
    bench.shard.append(&large, None).unwrap();
    bench.settle();
    let mut bench = bench.stop();
    let kept = bench.recovered.iter().find(|message| message.id == id(KEPT)).unwrap().key;
    bench.shard.held(kept, &[0], 2).unwrap();
    bench.settle();
    // Larger than all that lives in the second segment, which is therefore the first to be emptied.
    let (let_go, _) = bench.commit(LET_GO, 1, 3000);
    let expired = bench.shard.append(&message(EXPIRED, &envelope, Content::Inline(&content)), None).unwrap();
    bench.shard.deferred(let_go, &[0], LATER, 3, &[]).unwrap();
    bench.shard.held(let_go, &[0], 3).unwrap();
    bench.settle();
    bench.shard.released(let_go, &[0], 3).unwrap();
    let to_sender = to_sender();
    let last = bounce(LAST_BOUNCE, &to_sender);
    bench.shard.outcomes(expired, &[(0, Outcome::Expired)], &[], Some(&last)).unwrap();
    let last = bench.settle().into_iter().find_map(|event| match event {
        Event::Committed { key, .. } => Some(key),
        _ => None,
    });
    // It is full; what comes now is the second life of the first.
    bench.deliver(last.unwrap(), 1).unwrap();
    bench.settle();
    bench
}

/// Of a bounce to the sender of every message here.
fn to_sender() -> Envelope {
    let mut envelope = Envelope::default();
    envelope.begin(ReversePath::Null);
    envelope.push_recipient(Address::parse("sender@a.example").unwrap());
    envelope
}

fn bounce(number: u32, to_sender: &Envelope) -> NewMessage<'_> {
    NewMessage { identity: "", ..message(number, to_sender, Content::Inline(b"")) }
}

#[test]
fn every_record_of_version_2_is_written_as_it_was_released() {
    let mut bench = everything();
    let directory = Path::new(ROOT).join("shard-000");
    let mut names = bench.ring.list(&directory).unwrap();
    for name in &names {
        expect_golden(&format!("records-2/{name}"), &bench.read(directory.join(name)));
    }
    let released = fs::read_dir(golden("records-2")).unwrap();
    let mut released: Vec<_> =
        released.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    released.sort_unstable();
    assert_eq!(names, released);
}

/// The tags in a record, read anew from `FORMAT.md`; each length here is one byte.
fn tags(record: &[u8]) -> Vec<u8> {
    let end = 22 + usize::from(record[9]) + 256 * usize::from(record[10]);
    let (mut at, mut tags) = (22, Vec::new());
    while at < end {
        tags.push(record[at]);
        at += 2 + usize::from(record[at + 1]);
    }
    tags
}

/// The released shard in a separate directory; without footers its groups tell the same.
fn released_spool(has_footers: bool) -> tempfile::TempDir {
    let spool = tempfile::tempdir().unwrap();
    let shard = spool.path().join("shard-000");
    fs::create_dir(&shard).unwrap();
    for file in fs::read_dir(golden("records-2")).unwrap() {
        let file = file.unwrap();
        let mut bytes = fs::read(file.path()).unwrap();
        if !has_footers && file.file_name().to_str().unwrap().starts_with("segment-") {
            let trailer = bytes.len() - 4096;
            bytes[trailer..].fill(0);
        }
        fs::write(shard.join(file.file_name()), bytes).unwrap();
    }
    spool
}

#[test]
fn every_record_of_version_2_is_recovered() {
    const AT_ONCE: UnixMillis = UnixMillis(0);
    for (has_footers, groups) in [(true, 1), (false, 12)] {
        let spool = released_spool(has_footers);
        let options = Options { directory: spool.path().to_owned(), ..small() };
        let (shard, recovered) = Shard::open(&mut RealDisk::default(), options).unwrap();
        let recovered: Vec<_> = recovered.collect();
        let pending = |message: &Recovered| {
            let pending = message.pending.iter();
            pending.map(|one| (one.recipient, one.attempts, one.not_before)).collect::<Vec<_>>()
        };
        let partly = recovered.iter().find(|message| message.id == id(PARTLY)).unwrap();
        let replies = [3, 4].map(|to| partly.reply(to));
        let expected = [said(&[], 450, BUSY), said(&[], 452, "mailbox full")].map(|said| Some(said.reply));
        assert_eq!(replies, expected, "with footers: {has_footers}");
        let found: Vec<_> = recovered.iter().map(|message| (message.id, pending(message))).collect();
        let expected = [
            (id(PARTLY), vec![(3, 2, LATER), (4, 2, LATER)]),
            (id(BOUNCE_OF_FAILED), vec![(0, 0, AT_ONCE)]),
            (id(BOUNCE_OF_EXPIRED), vec![(0, 0, AT_ONCE)]),
            (id(KEPT), vec![(0, 2, HELD)]),
            (id(LARGE), vec![(0, 0, AT_ONCE)]),
            (id(LET_GO), vec![(0, 3, RELEASED)]),
        ];
        assert_eq!(found, expected, "with footers: {has_footers}");
        let report = RecoveryReport {
            is_direct: shard.recovery().is_direct,
            segments: 3,
            groups,
            messages: 6,
            possible_duplicates: 2,
            ..RecoveryReport::default()
        };
        assert_eq!(*shard.recovery(), report, "with footers: {has_footers}");
    }
}

#[test]
fn every_record_of_version_2_is_shown() {
    let (spool, mut disk) = (released_spool(true), RealDisk::default());
    let (messages, found) = inspect::shard(&mut disk, spool.path(), 0).unwrap();
    assert!(found.is_sound() && (found.groups, found.queued) == (12, 6), "{found:?}");
    let ids: Vec<_> = messages.iter().map(|message| message.id).collect();
    assert_eq!(ids, (PARTLY..=LAST_BOUNCE).map(id).collect::<Vec<_>>());

    let message = |number| &messages[(number - PARTLY) as usize];
    let states = |number| message(number).recipients.iter().map(|to| to.state).collect::<Vec<_>>();
    let waits = RecipientState::Queued { attempts: 2, not_before: LATER };
    let [delivered, failed, expired] =
        [Outcome::Delivered, Outcome::Failed, Outcome::Expired].map(RecipientState::Done);
    // What the copy says of it: who expired is one of those that failed.
    assert_eq!(states(PARTLY), [delivered, failed, failed, waits, waits]);
    assert_eq!((states(EXPIRED), states(LAST_BOUNCE)), (vec![expired], vec![delivered]));
    assert_eq!((&*message(KEPT).reverse_path, &*message(KEPT).identity), ("sender@a.example", "app@acme"));
    assert_eq!((&*message(LAST_BOUNCE).reverse_path, &*message(LAST_BOUNCE).identity), ("", ""));
    assert_eq!(message(LARGE).content_bytes, wire(LARGE, 5000).len() as u64);

    let mut records = Vec::new();
    let places = messages.iter().map(|message| message.place);
    inspect::read(&mut disk, spool.path(), places, |record| records.extend(record)).unwrap();
    assert!(records.iter().all(|record| record.is_sound));
    // The tags of the fields, but for those of further recipients.
    let tags = |number: u32| {
        let mut tags = tags(&records[(number - PARTLY) as usize].bytes);
        tags.dedup();
        tags
    };
    assert_eq!(tags(PARTLY), [0x81, 0x82, 0x83, 0x85, 0x86, 0x88]);
    assert_eq!(tags(LARGE), [0x81, 0x82, 0x84, 0x85, 0x87, 0x88]);
    assert_eq!(tags(LAST_BOUNCE), [0x81, 0x82, 0x88]);
    let failed = &message(PARTLY).recipients[1];
    assert_eq!(failed.reply.as_ref().map(|reply| reply.told_to("")), Some(format!("550 {NO_USER}")));
    let waits = &message(PARTLY).recipients[3];
    let told = waits.reply.as_ref().map(|reply| reply.told_to(&waits.address));
    assert_eq!(told, Some(format!("450 4.2.1 <{}>: busy \u{2014} come again", waits.address)));
    let copy = &records[0];
    assert!(copy.place.segment == 0 && copy.bytes.ends_with(&wire(PARTLY, 300)), "{:?}", copy.place);
}
