//! Whether compaction keeps its two words at the size of a real spool: disk use comes down to twice the live
//! bytes and the segments that stand by, and what is read and written for it stays within its budget.
//!
//! Segments are filled one after the other, as fast as the device takes them, with messages of which some
//! are deferred for days and the rest is delivered at once. Compaction runs all the time. The bytes that it
//! says it has moved stand beside those that the kernel counts for this process.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use mail::{Address, Envelope, MessageId, ReversePath, UnixMillis};
use ring::uring::{UringOptions, UringRing};
use ring::{Handle, Ring as _};
use spool::{Content, Event, MessageKey, NewMessage, Options, Outcome, Shard};

use crate::measure::Effort;

const ARRIVED: UnixMillis = UnixMillis(1_795_390_496_000);
const DEFERRED_UNTIL: UnixMillis = UnixMillis(ARRIVED.0 + 3 * 86_400_000);

const MIB: f64 = (1 << 20) as f64;

/// Messages of one group.
const GROUP_MESSAGES: u32 = 16;

/// Segments that are in use or stand by beside twice what lives: the one that is written, and four.
const SLACK_SEGMENTS: u64 = 5;

/// It has come to rest when it has moved nothing for so long.
const REST: Duration = Duration::from_secs(15);

struct Case {
    name: &'static str,
    segment_bytes: u64,
    segments: u32,
    body_bytes: usize,
    /// Of so many messages one is deferred.
    one_in: u32,
    /// How long it is watched after the last message, at most.
    watch: Duration,
}

pub(crate) fn run(effort: Effort) {
    let [segment_bytes, watch] = match effort {
        Effort::Full => [spool::SEGMENT_BYTES_MIN, 600],
        Effort::Smoke => [1 << 20, 0],
    };
    let (body_bytes, watch) = (segment_bytes as usize / 1024, Duration::from_secs(watch));
    let case = |name, one_in| Case {
        name,
        segment_bytes,
        segments: effort.of(48).min(if watch.is_zero() { 6 } else { 48 }) as u32,
        body_bytes,
        one_in,
        watch,
    };
    // Some 980 messages fill a segment.
    for case in [case("one message in each segment", 900), case("a fifth of each segment", 5)] {
        let directory =
            tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build's folder can be written");
        Filled::fill(&case, directory.path()).watch(&case);
    }
}

/// A shard that is being filled, or has been.
struct Filled {
    ring: UringRing,
    shard: Shard,
    options: Options,
    meter: Meter,
    deferred: u64,
}

impl Filled {
    fn fill(case: &Case, directory: &Path) -> Self {
        let mut ring = UringRing::new(UringOptions::default()).expect("this kernel has io_uring");
        let options = Options {
            directory: directory.to_owned(),
            shard: 0,
            segment_bytes: case.segment_bytes,
            capacity_bytes: 80 * case.segment_bytes,
            segments_max: spool::SEGMENTS_MAX,
            hot_bytes_max: 32 << 20,
            compaction_bytes_per_second: spool::COMPACTION_BYTES_PER_SECOND_DEFAULT,
            token_room: 2,
            salt: 7,
        };
        let (shard, _) = Shard::open(&mut ring, options.clone()).expect("a new shard opens");
        let meter = Meter::new(directory.join("shard-000"), case.segment_bytes);
        let mut filled = Self { ring, shard, options, meter, deferred: 0 };
        println!(
            "{}: {} segments of {} MiB, budget {} MiB a second\n{:>10} {:>9} {:>9} {:>9} {:>7} {:>12} {:>12}",
            case.name,
            case.segments,
            case.segment_bytes >> 20,
            filled.options.compaction_bytes_per_second >> 20,
            "s",
            "live MiB",
            "used MiB",
            "disk MiB",
            "ratio",
            "moved MiB/s",
            "kernel MiB/s"
        );
        let mut envelope = Envelope::default();
        envelope.begin(ReversePath::Address(Address::parse("app@proseware.example").expect("an address")));
        envelope.push_recipient(Address::parse("someone@far.example").expect("an address"));
        let body = vec![b'x'; case.body_bytes];
        let messages = (u64::from(case.segments) * case.segment_bytes / body.len() as u64) as u32;
        for first in (0..messages).step_by(GROUP_MESSAGES as usize) {
            for number in first..first + GROUP_MESSAGES {
                let message = NewMessage {
                    id: MessageId::new(ARRIVED, 0, number),
                    arrived: ARRIVED,
                    tenant: "proseware",
                    identity: "app@proseware.example",
                    envelope: &envelope,
                    head: b"Received: from client by relay\r\n",
                    content: Content::Inline(&body),
                };
                while filled.shard.append(&message, Some(Handle::fixed(number))).is_err() {
                    filled.turn();
                }
            }
            let mut left = GROUP_MESSAGES;
            while left > 0 {
                for (number, key) in filled.turn() {
                    left -= 1;
                    filled.settle(number, key, number % case.one_in == 0);
                }
            }
        }
        filled
    }

    /// A message is delivered, or deferred for days.
    fn settle(&mut self, number: u32, key: MessageKey, is_deferred: bool) {
        loop {
            let noted = match is_deferred {
                true => self.shard.deferred(key, &[0], DEFERRED_UNTIL, 5, &[]),
                false => self.shard.outcomes(key, &[(0, Outcome::Delivered)], &[], None),
            };
            match noted {
                Ok(()) => break,
                Err(spool::Refusal::Busy) => assert!(self.turn().is_empty(), "one group at a time"),
                Err(refusal) => panic!("message {number}: {refusal}"),
            }
        }
        self.deferred += u64::from(is_deferred);
    }

    /// One turn of a worker; gives what was committed.
    fn turn(&mut self) -> Vec<(u32, MessageKey)> {
        let Self { ring, shard, .. } = self;
        shard.flush(ring);
        let now = ring.now();
        let second = now.after(Duration::from_secs(1));
        let deadline = shard.next_deadline(now).map_or(second, |at| at.min(second));
        let mut completions = Vec::new();
        ring.turn(Some(deadline), &mut completions).expect("the ring turns");
        completions.into_iter().for_each(|completion| shard.complete(ring, completion));
        let mut committed = Vec::new();
        while let Some(event) = shard.poll() {
            match event {
                Event::Committed { key, waiter: Some(number), .. } => committed.push((number.index(), key)),
                Event::Latched { error, .. } => panic!("the shard is latched: {error}"),
                _ => {}
            }
        }
        self.meter.look(shard, false);
        committed
    }

    /// Until compaction rests.
    fn watch(mut self, case: &Case) {
        let filled_in = self.meter.since_start();
        self.meter.look(&self.shard, true);
        println!("   the last message came");
        let (began, mut rests_since) = (Instant::now(), Instant::now());
        let mut moved = self.shard.stats().compacted_bytes;
        while began.elapsed() < case.watch && rests_since.elapsed() < REST {
            self.turn();
            let now = self.shard.stats().compacted_bytes;
            if now != moved {
                (moved, rests_since) = (now, Instant::now());
            }
        }
        self.meter.look(&self.shard, true);
        self.meter.tell(filled_in, self.options.compaction_bytes_per_second, moved);
        let Self { mut ring, mut shard, options, deferred, .. } = self;
        while !shard.idle() {
            shard.flush(&mut ring);
            let mut completions = Vec::new();
            ring.turn(Some(ring.now().after(Duration::from_secs(1))), &mut completions).expect("turns");
            completions.into_iter().for_each(|completion| shard.complete(&mut ring, completion));
        }
        // The last outcomes are durable only now.
        assert_eq!(shard.stats().messages, deferred, "each deferred message is queued");
        shard.close(&mut ring).expect("the footer is written");
        drop(ring);
        let mut ring = UringRing::new(UringOptions::default()).expect("this kernel has io_uring");
        let (_, recovered) = Shard::open(&mut ring, options).expect("the shard opens again");
        assert_eq!(recovered.count() as u64, deferred, "and is there after a start");
    }
}

/// What is used, and what is moved, second by second.
struct Meter {
    directory: std::path::PathBuf,
    segment_bytes: u64,
    start: Instant,
    last: Instant,
    moved: u64,
    kernel: u64,
    /// In bytes a second, over a second.
    moved_most: f64,
    /// Used bytes above twice the live ones, at most.
    excess_most: u64,
    used_most: u64,
    /// Seconds at which the bound was exceeded last.
    beyond_until: Duration,
    /// When something was moved first.
    moves_since: Option<Instant>,
}

impl Meter {
    fn new(directory: std::path::PathBuf, segment_bytes: u64) -> Self {
        let now = Instant::now();
        Self {
            directory,
            segment_bytes,
            start: now,
            last: now,
            moved: 0,
            kernel: kernel_bytes(),
            moved_most: 0.0,
            excess_most: 0,
            used_most: 0,
            beyond_until: Duration::ZERO,
            moves_since: None,
        }
    }

    fn since_start(&self) -> Duration {
        self.start.elapsed()
    }

    fn look(&mut self, shard: &Shard, is_last: bool) {
        let stats = shard.stats();
        let excess = stats.used_bytes.saturating_sub(2 * stats.live_bytes);
        if excess > SLACK_SEGMENTS * self.segment_bytes {
            self.beyond_until = self.since_start();
        }
        if stats.compacted_bytes > 0 {
            self.moves_since.get_or_insert_with(Instant::now);
        }
        self.excess_most = self.excess_most.max(excess);
        self.used_most = self.used_most.max(stats.used_bytes);
        let elapsed = self.last.elapsed();
        if elapsed < Duration::from_secs(1) && !is_last {
            return;
        }
        let kernel = kernel_bytes();
        let rate = |bytes: u64| bytes as f64 / elapsed.as_secs_f64().max(0.001);
        let (moved, seen) = (rate(stats.compacted_bytes - self.moved), rate(kernel - self.kernel));
        if elapsed >= Duration::from_secs(1) {
            self.moved_most = self.moved_most.max(moved);
        }
        println!(
            "{:>10.1} {:>9.1} {:>9.0} {:>9.0} {:>7.2} {:>12.1} {:>12.1}",
            self.since_start().as_secs_f64(),
            stats.live_bytes as f64 / MIB,
            stats.used_bytes as f64 / MIB,
            disk_bytes(&self.directory) as f64 / MIB,
            stats.used_bytes as f64 / stats.live_bytes.max(1) as f64,
            moved / MIB,
            seen / MIB
        );
        (self.last, self.moved, self.kernel) = (Instant::now(), stats.compacted_bytes, kernel);
    }

    fn tell(&self, filled_in: Duration, budget: u64, moved: u64) {
        let span = self.moves_since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        println!(
            "   filled in {:.0} s; used at most {:.0} MiB, {:.1} segments more than twice the live bytes; \
             no more than {SLACK_SEGMENTS} more since {:.1} s after the last message",
            filled_in.as_secs_f64(),
            self.used_most as f64 / MIB,
            self.excess_most as f64 / self.segment_bytes as f64,
            self.beyond_until.saturating_sub(filled_in).as_secs_f64(),
        );
        println!(
            "   moved {:.1} MiB in {span:.0} s, {:.1} MiB in one second at most; budget {:.0} MiB a second",
            moved as f64 / MIB,
            self.moved_most / MIB,
            budget as f64 / MIB,
        );
    }
}

/// What the file system has set aside for the files of a folder.
fn disk_bytes(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.blocks() * 512)).sum()
}

/// Bytes that this process has had read from and written to devices, as the kernel counts them.
fn kernel_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    of("read_bytes:") + of("write_bytes:")
}
