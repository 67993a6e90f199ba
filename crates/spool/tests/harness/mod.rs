//! A shard on a simulated disk, driven as a worker drives it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mail::{Address, Envelope, MessageId, ReversePath, UnixMillis};
use ring::sim::{SimOptions, SimRing, World};
use ring::{Disk, Handle, OpenMode, Ring};
use spool::{
    Content, Event, LargeKey, MessageKey, NewMessage, Options, Outcome, Recovered, Refusal, Shard,
    SpoolError, StoredContent, StoredMessage,
};

pub(crate) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub(crate) const ROOT: &str = "/spool";
pub(crate) const TRACE: &[u8] = b"Received: from client by relay\r\n";
pub(crate) const SEGMENT_BYTES: u64 = 128 << 10;

pub(crate) fn options() -> Options {
    Options {
        directory: PathBuf::from(ROOT),
        shard: 0,
        segment_bytes: SEGMENT_BYTES,
        capacity_bytes: 8 * SEGMENT_BYTES,
        segments_max: spool::SEGMENTS_MAX,
        hot_bytes_max: 1 << 20,
        compaction_bytes_per_second: 16 << 20,
        token_room: 2,
        salt: 0x5A17_5A17_5A17_5A17,
    }
}

/// More room than what the tests of compaction put into it.
pub(crate) fn roomy() -> Options {
    Options { capacity_bytes: 64 * SEGMENT_BYTES, ..options() }
}

pub(crate) fn id(number: u32) -> MessageId {
    MessageId::new(UnixMillis(1_795_390_496_000 + u64::from(number)), 0, number)
}

pub(crate) fn envelope(recipients: usize) -> Envelope {
    let mut envelope = Envelope::default();
    envelope.begin(ReversePath::Address(Address::parse("sender@a.example").unwrap()));
    for number in 0..recipients {
        let text = format!("rcpt{number}@b{number}.example");
        envelope.push_recipient(Address::parse(&text).unwrap());
    }
    envelope
}

/// A body of about `bytes` bytes that is unlike every other.
pub(crate) fn body(number: u32, bytes: usize) -> Vec<u8> {
    let mut body = format!("Subject: {number}\r\n\r\n").into_bytes();
    while body.len() < bytes {
        body.extend_from_slice(format!("line {} of message {number}\r\n", body.len()).as_bytes());
    }
    body
}

pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) ring: SimRing,
    pub(crate) shard: Shard,
    pub(crate) recovered: Vec<Recovered>,
    pub(crate) options: Options,
}

impl Bench {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(seed, options(), SimOptions::default())
    }

    pub(crate) fn with(seed: u64, options: Options, sim: SimOptions) -> Self {
        Self::open(World::new(seed, sim), options).expect("an empty disk opens")
    }

    /// Cuts the power and starts again.
    pub(crate) fn crash(self) -> Self {
        self.world.crash(HOST);
        self.reopen().expect("the spool recovers")
    }

    /// Kills the process and starts again: what was written stays.
    pub(crate) fn restart(self) -> Self {
        self.reopen().expect("the spool recovers")
    }

    /// Stops in order and starts again.
    pub(crate) fn stop(self) -> Self {
        let Self { world, mut ring, shard, options, .. } = self;
        shard.close(&mut ring).expect("the footer is written");
        drop(ring);
        Self::open(world, options).expect("the spool recovers")
    }

    pub(crate) fn reopen(self) -> Result<Self, SpoolError> {
        let Self { world, ring, options, .. } = self;
        drop(ring);
        Self::open(world, options)
    }

    fn open(world: World, options: Options) -> Result<Self, SpoolError> {
        let mut ring = world.host(HOST);
        loop {
            match Shard::open(&mut ring, options.clone()) {
                // The disk has yet to end what the killed process had asked of it.
                Err(SpoolError::UnderWay { .. }) if world.step() => {}
                opened => {
                    let (shard, recovered) = opened?;
                    let recovered = recovered.collect();
                    return Ok(Self { world, ring, shard, recovered, options });
                }
            }
        }
    }

    pub(crate) fn append(
        &mut self,
        number: u32,
        recipients: usize,
        bytes: usize,
    ) -> Result<MessageKey, Refusal> {
        let (envelope, body) = (envelope(recipients), body(number, bytes));
        self.shard.append(&message(number, &envelope, Content::Inline(&body)), Some(Handle::fixed(number)))
    }

    /// One turn of the worker; gives what the spool reported.
    pub(crate) fn turn(&mut self) -> Vec<Event> {
        let mut completions = Vec::new();
        self.ring.turn(None, &mut completions).expect("a simulated ring turns");
        for completion in completions {
            self.shard.complete(&mut self.ring, completion);
        }
        let events = std::iter::from_fn(|| self.shard.poll()).collect();
        self.shard.flush(&mut self.ring);
        events
    }

    /// Turns until nothing is due any more.
    pub(crate) fn settle(&mut self) -> Vec<Event> {
        let mut events = self.turn();
        let mut quiet = 0;
        while quiet < 4 {
            quiet = if self.world.step() { 0 } else { quiet + 1 };
            let more = self.turn();
            if !more.is_empty() {
                quiet = 0;
            }
            events.extend(more);
        }
        events
    }

    /// Appends and waits for the commit.
    pub(crate) fn commit(
        &mut self,
        number: u32,
        recipients: usize,
        bytes: usize,
    ) -> (MessageKey, StoredMessage) {
        self.append(number, recipients, bytes).expect("there is room");
        let committed = self.settle().into_iter().find_map(|event| match event {
            Event::Committed { key, waiter, message } if waiter == Some(Handle::fixed(number)) => {
                Some((key, message))
            }
            _ => None,
        });
        committed.expect("it is committed")
    }

    /// Writes the body of `number` to a separate file, pausing as told; ends with the file durable.
    pub(crate) fn large(&mut self, number: u32, bytes: usize) -> LargeKey {
        let key = self
            .shard
            .large_begin(&mut self.ring, bytes as u64, Handle::fixed(number))
            .expect("there is room");
        for piece in body(number, bytes).chunks(20_000) {
            if !self.shard.large_write(&mut self.ring, key, piece) {
                while !self.turn().iter().any(|event| matches!(event, Event::LargeProgress { .. })) {
                    assert!(self.world.step());
                }
            }
        }
        self.shard.large_finish(&mut self.ring, key);
        let is_finished = |event: &Event| matches!(event, Event::LargeFinished { waiter, .. } if *waiter == Handle::fixed(number));
        assert!(self.settle().iter().any(is_finished));
        key
    }

    pub(crate) fn deliver(&mut self, key: MessageKey, recipients: u16) -> Result<(), Refusal> {
        let outcomes: Vec<_> = (0..recipients).map(|recipient| (recipient, Outcome::Delivered)).collect();
        self.shard.outcomes(key, &outcomes, &[], None)
    }

    pub(crate) fn load(&mut self, key: MessageKey) -> Result<StoredMessage, spool::LoadError> {
        self.shard.load(&mut self.ring, key, Handle::fixed(77));
        let loaded = self.settle().into_iter().find_map(|event| match event {
            Event::Loaded { request, result } if request == Handle::fixed(77) => Some(result),
            _ => None,
        });
        loaded.expect("a load ends")
    }

    pub(crate) fn read(&mut self, path: impl AsRef<Path>) -> Vec<u8> {
        let file = self.ring.open(path.as_ref(), OpenMode::default()).expect("it is there");
        let mut bytes = vec![0; self.ring.length(file).unwrap() as usize];
        self.ring.read_at(file, 0, &mut bytes).unwrap();
        self.ring.close_file(file);
        bytes
    }

    pub(crate) fn write(&mut self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) {
        let mode = OpenMode { write: true, ..OpenMode::default() };
        let file = self.ring.open(path.as_ref(), mode).expect("it is there");
        self.ring.write_at(file, offset, bytes).unwrap();
        self.ring.sync(file).unwrap();
        self.ring.close_file(file);
    }

    pub(crate) fn recovered_ids(&self) -> Vec<MessageId> {
        self.recovered.iter().map(|recovered| recovered.id).collect()
    }
}

pub(crate) fn message<'a>(number: u32, envelope: &'a Envelope, content: Content<'a>) -> NewMessage<'a> {
    NewMessage {
        id: id(number),
        arrived: UnixMillis(1_795_390_496_000 + u64::from(number)),
        tenant: "acme",
        identity: "app@acme",
        envelope,
        head: TRACE,
        content,
    }
}

/// What must go over the wire for message `number`.
pub(crate) fn wire(number: u32, bytes: usize) -> Vec<u8> {
    [TRACE, &body(number, bytes), b".\r\n"].concat()
}

pub(crate) fn content(message: &StoredMessage) -> Vec<u8> {
    match message.content() {
        StoredContent::Inline(buffer, range) => buffer[range].to_vec(),
        StoredContent::Large { .. } => panic!("the message is large"),
    }
}

pub(crate) fn segment(number: u32) -> PathBuf {
    PathBuf::from(format!("{ROOT}/shard-000/segment-{number:08}.log"))
}

/// Lets `seconds` pass, turn by turn, as a worker does; gives what the spool reported.
pub(crate) fn pass(bench: &mut Bench, seconds: u64) -> Vec<Event> {
    pass_millis(bench, seconds * 1000)
}

pub(crate) fn pass_millis(bench: &mut Bench, millis: u64) -> Vec<Event> {
    let mut events = Vec::new();
    let limit = bench.world.now().after(Duration::from_millis(millis));
    loop {
        events.extend(bench.turn());
        let next = bench.shard.next_deadline(bench.ring.now()).unwrap_or(limit).min(limit);
        if !bench.world.step_until(next) && bench.world.now() >= limit {
            return events;
        }
    }
}
