//! Power cuts: a load is recorded write by write, and the disk is rebuilt as each flush left it, with
//! and without parts of what was written after it. From each such disk a gateway recovers and delivers.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use testbed::random::Random;
use testbed::{Arrival, Observer, Outcome, Rules, Sent};

use crate::Plan;
use crate::blocklog::{Log, Playback, Recorder};
use crate::device::{self, Ext4};
use crate::stand::{PATIENCE, Setup, Stand};
use crate::verdict::{End, Verdict};

const IMAGE_BYTES: u64 = 96 << 20;
const CAPACITY: &str = "48MiB";
/// A new recording after so many crash points: no two loads meet the same stages of a spool.
const POINTS_A_RECORDING: u64 = 250;
/// Acknowledgements in a recording: segments are created, filled and used again.
const ACKNOWLEDGED: u64 = 2500;
/// Large messages in a recording.
const LARGE_MESSAGES: u64 = 8;

/// What both sides of the gateway saw, each with the length that the log had then.
#[derive(Debug, Default)]
struct Seen {
    sent: Vec<(u64, Sent)>,
    arrivals: Vec<(u64, Arrival)>,
}

/// A load that was recorded.
struct Recording {
    /// Its gateway has ended.
    stand: Stand,
    log: Log,
    /// How long the log was when the gateway was ready.
    begin: u64,
    seen: Seen,
}

/// How a recording's crash points went.
#[derive(Debug, Default)]
struct Sum {
    flushes: usize,
    points: u64,
    with_parts: u64,
    acknowledged: u64,
    twice: usize,
}

/// Records loads and crashes at points spread over them.
pub(crate) fn run(plan: &Plan) -> String {
    let mut random = Random::new(plan.seed);
    let mut sum = Sum::default();
    for (number, points) in plan.parts(POINTS_A_RECORDING) {
        one_recording(plan, number, points, &mut random, &mut sum);
    }
    format!(
        "{} crash points over {} flushes, {} of them with part of what was not flushed; \
         {} acknowledgements held to; {} recipients twice, all of them in flight",
        sum.points, sum.flushes, sum.with_parts, sum.acknowledged, sum.twice
    )
}

fn one_recording(plan: &Plan, number: u64, points: u64, random: &mut Random, sum: &mut Sum) {
    let folder = plan.work.join(format!("recording-{number}"));
    std::fs::create_dir(&folder).expect("the work folder can be written");
    let (image, start) = (folder.join("disk"), folder.join("start"));
    device::make(&image, IMAGE_BYTES);
    std::fs::copy(&image, &start).expect("the work folder can be written");
    let Recording { mut stand, log, begin, seen } = record(plan, &image, number);
    let mut playback = Playback::new(&log, &start);
    let flushes = log.flushes_after(begin);
    sum.flushes += flushes.len();
    let scratch = folder.join("scratch");
    let mut configuration = stand.gateway.configuration().clone();
    configuration.spool = Some(Ext4::of(&scratch).path().join("spool"));
    stand.gateway.rewrite(configuration);
    for point in 0..points {
        let which = (point * flushes.len() as u64 / points) as usize;
        let flush = flushes[which];
        // Up to the write before the next flush.
        let after = flushes.get(which + 1).copied().unwrap_or(log.len()) - flush - 1;
        let last = flush + if point % 3 == 0 { 0 } else { after };
        playback.advance(flush);
        playback.write_with_part(&scratch, last, random);
        let verdict = recover(&mut stand, &scratch, &seen, log.end(last));
        verdict.assert_kept();
        sum.points += 1;
        sum.with_parts += u64::from(last > flush);
        sum.acknowledged += verdict.report().acknowledged;
        sum.twice += verdict.duplicated();
    }
    drop(stand);
    std::fs::remove_dir_all(&folder).expect("the work folder can be written");
}

/// Runs a load on a recorded disk.
fn record(plan: &Plan, image: &Path, number: u64) -> Recording {
    let book = Arc::new(Mutex::new(Seen::default()));
    let recorder = Recorder::start(image);
    let log = recorder.log().to_owned();
    let length = move || std::fs::metadata(&log).map_or(0, |file| file.len());
    let mut disk = Ext4::of(recorder.disk());
    disk.mount();
    let mut setup = Setup::at(disk.path().join("spool"));
    setup.capacity = CAPACITY;
    let (pages, now) = (Arc::clone(&book), length.clone());
    let observer = Observer::new(move |arrival: &Arrival| {
        let now = now();
        open(&pages).arrivals.push((now, arrival.clone()));
    });
    setup.rules = Rules { observer: Some(observer), ..Rules::default() };
    let mut stand = Stand::start(plan, setup);
    let begin = length();
    let pages = Arc::clone(&book);
    let observer = Observer::new(move |sent: &Sent| {
        let now = length();
        open(&pages).sent.push((now, sent.clone()));
    });
    let client = stand.client(plan.seed + number, |options| options.observer = Some(observer.clone()));
    let large = stand.large_client(plan.seed + number, LARGE_MESSAGES, Some(observer));
    assert!(client.wait_acknowledged(ACKNOWLEDGED, PATIENCE), "no mail is taken:\n{}", stand.output());
    let _ = (client.stop(), large.stop());
    stand.kill();
    disk.unmount();
    let log = Log::read(recorder.log());
    // What the recoveries will deliver is not of this book.
    let seen = std::mem::take(&mut *open(&book));
    Recording { stand, log, begin, seen }
}

fn open(book: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    book.lock().expect("no thread panics while holding the book")
}

/// Mounts, recovers, delivers; then the ledgers as of the moment when the log was `length` bytes long.
fn recover(stand: &mut Stand, image: &Path, seen: &Seen, length: u64) -> Verdict {
    let mut disk = Ext4::of(image);
    disk.mount();
    stand.assert_sound();
    let queued = stand.queued();
    let before = stand.destination.count();
    stand.gateway.restart();
    stand.drain();
    stand.gateway.kill();
    stand.settle_destination();
    disk.unmount();
    std::fs::remove_file(image).expect("the work folder can be written");
    let mut arrivals = seen.arrivals_until(length);
    let end = End { arrivals: arrivals.len(), queued };
    arrivals.extend_from_slice(&stand.destination.arrivals()[before..]);
    Verdict::of(seen.sent_until(length), arrivals, &[end])
}

impl Seen {
    /// What clients knew when the log was `length` bytes long: a 250 that came later was not seen yet.
    fn sent_until(&self, length: u64) -> Vec<Sent> {
        let as_of_then = |(when, sent): &(u64, Sent)| {
            let outcome = if *when <= length { sent.outcome } else { Outcome::Unknown };
            Sent { outcome, ..sent.clone() }
        };
        self.sent.iter().map(as_of_then).collect()
    }

    /// What had arrived when the log was `length` bytes long.
    fn arrivals_until(&self, length: u64) -> Vec<Arrival> {
        let until = self.arrivals.iter().filter(|(when, _)| *when <= length);
        until.map(|(_, arrival)| arrival.clone()).collect()
    }
}
