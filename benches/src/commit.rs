//! How long a commit takes beside the device's own durable write of the same bytes.
//!
//! The two alternate, one by one, so that a slow moment of the device hits both.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use mail::{Address, Envelope, MessageId, ReversePath, UnixMillis};
use ring::uring::{UringOptions, UringRing};
use ring::{AlignedBuffer, Handle, Ring as _};
use spool::{Content, Event, NewMessage, Options, Outcome, Shard};

use crate::measure::Effort;

/// Of the message; with its envelope and headers a group of it takes two blocks.
const BODY_BYTES: usize = 4096;

/// Plain writes go round in a file of this size, filled with zeros as a segment is.
const FILE_BYTES: u64 = 16 << 20;

pub(crate) fn run(effort: Effort) {
    // A spool belongs on a disk: the folder of the build is on one.
    let directory =
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build's folder can be written");
    let commits = effort.of(4000).max(100);
    for messages in [1, 16] {
        measure(directory.path(), commits, messages);
    }
}

fn measure(directory: &Path, commits: usize, messages: u32) {
    let mut ring = UringRing::new(UringOptions::default()).expect("this kernel has io_uring");
    let options = Options {
        directory: directory.join(messages.to_string()),
        shard: 0,
        segment_bytes: spool::SEGMENT_BYTES_MIN,
        capacity_bytes: 64 * spool::SEGMENT_BYTES_MIN,
        segments_max: spool::SEGMENTS_MAX,
        hot_bytes_max: 32 << 20,
        compaction_bytes_per_second: 0,
        token_room: 2,
        salt: 7,
    };
    let (mut shard, _) = Shard::open(&mut ring, options).expect("a new shard opens");
    let mut envelope = Envelope::default();
    envelope.begin(ReversePath::Address(Address::parse("app@proseware.example").expect("an address")));
    envelope.push_recipient(Address::parse("someone@far.example").expect("an address"));
    let body = vec![b'x'; BODY_BYTES];
    let plain = PlainFile::new(&directory.join(format!("plain-{messages}")));
    let (mut ours, mut plains) = (Vec::new(), Vec::new());
    for commit in 0..commits as u32 + 200 {
        // Segments are filled ahead of us in the first moments: that is not what is measured.
        if commit == 200 {
            std::thread::sleep(Duration::from_secs(1));
            (ours, plains) = (Vec::new(), Vec::new());
        }
        let begin = Instant::now();
        for number in 0..messages {
            let message = NewMessage {
                id: MessageId::new(UnixMillis(1_795_390_496_000), 0, commit * messages + number),
                arrived: UnixMillis(1_795_390_496_000),
                tenant: "proseware",
                identity: "app@proseware.example",
                envelope: &envelope,
                head: b"Received: from client by relay\r\n",
                content: Content::Inline(&body),
            };
            shard.append(&message, Some(Handle::fixed(number))).expect("there is room");
        }
        let keys = committed(&mut ring, &mut shard, messages);
        ours.push(begin.elapsed());
        for key in keys {
            shard.outcomes(key, &[(0, Outcome::Delivered)], &[], None).expect("there is room");
        }
        settle(&mut ring, &mut shard);
        let bytes = (64 + messages as usize * (BODY_BYTES + 160)).next_multiple_of(4096);
        plains.push(plain.write(u64::from(commit), bytes));
    }
    let [ours, plains] = [ours, plains].map(|mut times| {
        times.sort_unstable();
        [0.5, 0.99].map(|part| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6)
    });
    println!(
        "commit of {messages:>2} messages of 4 KiB   p50 {:>6.0} us, p99 {:>6.0}   the same bytes written plainly \
         p50 {:>6.0}, p99 {:>6.0}   p50 is {:.2} times (bound 1.3)",
        ours[0],
        ours[1],
        plains[0],
        plains[1],
        ours[0] / plains[0]
    );
}

fn committed(ring: &mut UringRing, shard: &mut Shard, messages: u32) -> Vec<spool::MessageKey> {
    let mut keys = Vec::new();
    while keys.len() < messages as usize {
        turn(ring, shard);
        while let Some(event) = shard.poll() {
            if let Event::Committed { key, .. } = event {
                keys.push(key);
            }
        }
    }
    keys
}

fn settle(ring: &mut UringRing, shard: &mut Shard) {
    while !shard.idle() {
        turn(ring, shard);
        while shard.poll().is_some() {}
    }
}

fn turn(ring: &mut UringRing, shard: &mut Shard) {
    shard.flush(ring);
    let mut completions = Vec::new();
    let deadline = ring.now().after(Duration::from_secs(10));
    ring.turn(Some(deadline), &mut completions).expect("the ring turns");
    completions.into_iter().for_each(|completion| shard.complete(ring, completion));
}

/// A file that is written as a program without a log would write it: O_DIRECT, O_DSYNC, one write at a time.
struct PlainFile {
    file: File,
    bytes: AlignedBuffer,
}

impl PlainFile {
    fn new(path: &Path) -> Self {
        let flags = rustix::fs::OFlags::DIRECT | rustix::fs::OFlags::DSYNC;
        let zeros = AlignedBuffer::zeroed(1 << 20);
        let file = File::create(path).expect("the folder can be written");
        for at in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, at).expect("there is space");
        }
        file.sync_all().expect("it is written");
        let file = File::options().write(true).custom_flags(flags.bits().cast_signed()).open(path);
        Self { file: file.expect("the file system takes O_DIRECT"), bytes: zeros }
    }

    fn write(&self, number: u64, bytes: usize) -> Duration {
        let at = number * (1 << 20) % FILE_BYTES;
        let begin = Instant::now();
        self.file.write_all_at(&self.bytes[..bytes], at).expect("it is written");
        begin.elapsed()
    }
}
