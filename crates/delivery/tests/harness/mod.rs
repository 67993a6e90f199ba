//! A gateway's outgoing half in a simulated world, and destinations that do as they are told.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod destination;
mod given;
mod log;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use commons::{
    Answer, Commons, ControlLink, ExchangeFailure, Exchanger, Question, QueueAct, QueueActed, QueueAnswer,
    QueuePage, QueuePageRequest, QueueRequest, QueueTask, ResolveFailure, SiteFailure, SnapshotCache,
    WorkerLink,
};
use delivery::{ClientTlsConfigs, Context, Delivery, DeliverySettings, Retry};
use mail::{Address, Envelope, MessageId, ReversePath, UnixMillis};
use observe::{EventLog, Form, LogWriter, Registry, WorkerMetrics};
use policy::{RouteTls, Snapshot};
use ring::sim::{SimOptions, SimRing, World};
use ring::{Completion, Instant, Ring};
use spool::{Content, Event, LargeKey, NewMessage, Options, Spool};

use destination::Destination;
use given::{GROUND, Ground, snapshot, snapshot_of};
use log::Log;

pub(crate) const RETRY: Retry = Retry {
    first: Duration::from_secs(5),
    longest: Duration::from_secs(3600),
    expire: Duration::from_secs(5 * 86_400),
};

pub(crate) fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

/// Everything of a worker but ingress.
pub(crate) struct Gateway {
    pub(crate) ring: SimRing,
    pub(crate) shard: Spool,
    pub(crate) delivery: Delivery,
    link: WorkerLink,
    control: Rc<ControlLink>,
    snapshots: SnapshotCache,
    metrics: Arc<WorkerMetrics>,
    registry: Registry,
    // Before its writer, which writes what it holds to its end.
    log: EventLog,
    log_writer: Option<LogWriter>,
    next_id: u32,
    large: Option<LargeKey>,
    /// Names that the resolver knows.
    pub(crate) names: Vec<(&'static str, IpAddr)>,
    /// What it says of domains: the hosts that take their mail, with their preferences.
    pub(crate) domains: HashMap<String, Result<Exchanges, ExchangeFailure>>,
    /// Questions about domains that were put.
    pub(crate) domains_asked: usize,
}

/// Hosts that take a domain's mail, with their preferences.
pub(crate) type Exchanges = Vec<(u16, &'static str)>;

macro_rules! context {
    ($gateway:ident) => {
        &mut Context {
            ring: &mut $gateway.ring,
            spool: &mut $gateway.shard,
            link: &$gateway.link,
            snapshots: &mut $gateway.snapshots,
            metrics: &$gateway.metrics,
            log: &mut $gateway.log,
        }
    };
}

impl Gateway {
    fn new(world: &World, snapshot: Snapshot, retry: Retry) -> Self {
        Self::of_workers(world, snapshot, retry, 1, true).remove(0)
    }

    /// Workers that share what workers share; `is_closed` says that mail by MX may go to private addresses.
    fn of_workers(
        world: &World,
        snapshot: Snapshot,
        retry: Retry,
        count: usize,
        is_closed: bool,
    ) -> Vec<Self> {
        let (_, links, control) = Commons::new(count, snapshot);
        let control = Rc::new(control);
        let settings = (retry, count, is_closed);
        links.into_iter().map(|link| Self::of(world, link, control.clone(), settings, GROUND)).collect()
    }

    fn of(
        world: &World,
        link: WorkerLink,
        control: Rc<ControlLink>,
        (retry, count, private_destinations): (Retry, usize, bool),
        ground: Ground,
    ) -> Self {
        let worker = link.worker();
        let mut ring = world.host(ip(1));
        link.attach(ring.waker());
        let options = Options {
            directory: PathBuf::from("/spool"),
            shard: worker,
            segment_bytes: ground.segment_bytes,
            capacity_bytes: 64 << 20,
            segments_max: spool::SEGMENTS_MAX,
            hot_bytes_max: 8 << 20,
            compaction_bytes_per_second: ground.compaction_bytes_per_second,
            token_room: 2,
            salt: 7,
        };
        let (shard, recovered) = Spool::open(&mut ring, options, count).expect("the spool opens");
        let registry = Registry::new(1, &["smtp"], 16);
        registry.set_policy(1, ["proseware"].into_iter());
        let tls = ClientTlsConfigs::new(rustls::RootCertStore::empty()).expect("a configuration");
        let hostname = "relay.example".into();
        let settings =
            DeliverySettings { hostname, worker, retry, tls, connections_max: 256, private_destinations };
        let mut gateway = Self {
            ring,
            shard,
            delivery: Delivery::new(settings),
            snapshots: link.commons().snapshot_cache(),
            link,
            control,
            metrics: registry.worker(0),
            registry,
            log: EventLog::discarding(),
            log_writer: None,
            next_id: world.random(1 << 20) as u32,
            large: None,
            names: Vec::new(),
            domains: HashMap::new(),
            domains_asked: 0,
        };
        for message in recovered {
            gateway.delivery.recovered(context!(gateway), &message);
        }
        gateway
    }

    /// Turns until nothing is asked any more: the world then knows the gateway's next deadline.
    pub(crate) fn turn(&mut self) {
        while self.turn_once() {}
    }

    fn turn_once(&mut self) -> bool {
        let mut asked = false;
        let mut completions = Vec::new();
        let deadlines = [self.delivery.next_deadline(), self.shard.next_deadline(self.ring.now())];
        let deadline = deadlines.into_iter().flatten().min();
        self.ring.turn(deadline, &mut completions).expect("a simulated ring turns");
        for completion in completions {
            match &completion {
                Completion::File { .. } => self.shard.complete(&mut self.ring, completion),
                _ => self.delivery.complete(context!(self), completion),
            }
            self.take_events();
        }
        self.delivery.tick(context!(self));
        while let Some(question) = self.control.question() {
            asked = true;
            let answer = self.know(question);
            self.control.answer(0, answer);
        }
        while let Some(answer) = self.link.answer() {
            match answer {
                Answer::Resolved { key, result, ttl } => {
                    self.delivery.resolved(context!(self), key, result, ttl);
                }
                Answer::Exchangers { key, result, ttl } => {
                    self.delivery.exchangers(context!(self), key, result, ttl);
                }
                other => panic!("not asked: {other:?}"),
            }
        }
        self.take_events();
        self.shard.flush(&mut self.ring);
        self.take_events();
        asked || self.delivery.next_deadline() == Some(Instant::default())
    }

    /// The resolver.
    fn know(&mut self, question: Question) -> Answer {
        let ttl = Duration::from_secs(60);
        match question {
            Question::Resolve { key, host, .. } => {
                let found = self.names.iter().find(|name| *name.0 == *host).map(|name| vec![name.1]);
                Answer::Resolved { key, result: found.ok_or(ResolveFailure::Missing), ttl }
            }
            Question::Exchangers { key, domain, .. } => {
                self.domains_asked += 1;
                let found = self.domains.get(&*domain).cloned().unwrap_or(Err(ExchangeFailure::Missing));
                let exchanger = |(preference, host): (u16, &str)| Exchanger { preference, host: host.into() };
                let result = found.map(|hosts| hosts.into_iter().map(exchanger).collect());
                Answer::Exchangers { key, result, ttl }
            }
            other => panic!("delivery does not ask {other:?}"),
        }
    }

    fn take_events(&mut self) {
        while let Some(event) = self.shard.poll() {
            match event {
                Event::Committed { key, message, .. } => {
                    self.delivery.enqueue(context!(self), key, message);
                }
                Event::LargeFinished { large, .. } => self.large = Some(large),
                other => self.delivery.spool_event(context!(self), other),
            }
        }
    }

    pub(crate) fn drain(&mut self) {
        self.delivery.drain(context!(self));
    }

    fn append(&mut self, from: &str, to: &[&str], content: Content<'_>, is_declared: bool) -> MessageId {
        self.next_id += 1;
        let arrived = UnixMillis(self.ring.unix_millis());
        let id = MessageId::new(arrived, self.link.worker(), self.next_id);
        let mut envelope = Envelope::default();
        envelope.begin(ReversePath::parse(from).expect("a reverse-path"));
        for to in to {
            envelope.push_recipient(Address::parse(to).expect("an address"));
        }
        envelope.set_eight_bit(is_declared);
        let message = NewMessage {
            id,
            arrived,
            tenant: "proseware",
            identity: "",
            envelope: &envelope,
            head: b"Received: by relay.example\r\n",
            content,
        };
        self.shard.append(&message, Some(ring::Handle::fixed(0))).expect("the spool has room");
        id
    }

    /// What is wrong with the sites that fail.
    pub(crate) fn failing_sites(&self) -> Vec<(Box<str>, Arc<SiteFailure>)> {
        self.link.commons().sites().failing()
    }

    /// Has the log written into what is given, which is whole once the gateway is dropped.
    pub(crate) fn keep_log(&mut self) -> Log {
        let log = Log::default();
        let writer = LogWriter::start(log.clone(), Form::Json, "relay.example", &self.registry);
        let writer = writer.expect("a thread starts");
        self.log = writer.log();
        self.log_writer = Some(writer);
        log
    }

    /// What came of the queue requests that were made, one at a time.
    pub(crate) fn queue_answer(&self) -> Option<QueueAnswer> {
        self.control.queue_answer().map(|(_, answer)| answer)
    }

    /// What a metric says.
    pub(crate) fn metric(&self, line: &str) -> u64 {
        let text = self.registry.text();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse::<f64>().expect("a number") as u64)
    }

    pub(crate) fn commons(&self) -> &commons::Commons {
        self.link.commons()
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.metric("gatepost_deliveries_total{tenant=\"proseware\",outcome=\"delivered\"}")
    }
}

/// A gateway and its destinations.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) gateway: Gateway,
    /// The workers after the first. The control plane answers the first alone: theirs is mail by addresses.
    pub(crate) others: Vec<Gateway>,
    pub(crate) destinations: Vec<Destination>,
    next_hops: Vec<&'static str>,
    connections_max: u32,
    retry: Retry,
}

impl Scene {
    pub(crate) fn new(seed: u64, next_hops: &[&'static str]) -> Self {
        Self::with(seed, next_hops, 20, RETRY)
    }

    pub(crate) fn with(seed: u64, next_hops: &[&'static str], connections_max: u32, retry: Retry) -> Self {
        let world = World::new(seed, SimOptions::default());
        let gateway = Gateway::new(&world, snapshot(next_hops, connections_max), retry);
        let next_hops = next_hops.to_vec();
        let (others, destinations) = (Vec::new(), Vec::new());
        Self { world, gateway, others, destinations, next_hops, connections_max, retry }
    }

    /// One whose spool has segments of a few groups, of which none is emptied, and who sends one message at a time.
    pub(crate) fn crowded(seed: u64, next_hops: &[&'static str]) -> Self {
        let mut scene = Self::with(seed, next_hops, 1, RETRY);
        let world = World::new(seed, SimOptions::default());
        let (_, mut links, control) = Commons::new(1, snapshot(next_hops, 1));
        let ground = Ground { segment_bytes: 32 << 10, compaction_bytes_per_second: 0 };
        scene.gateway = Gateway::of(&world, links.remove(0), Rc::new(control), (RETRY, 1, true), ground);
        scene.world = world;
        scene
    }

    /// One whose route says this about TLS.
    pub(crate) fn sealed(seed: u64, next_hops: &[&'static str], tls: RouteTls) -> Self {
        let mut scene = Self::new(seed, next_hops);
        scene.world.crash(ip(1));
        let snapshot = snapshot_of(next_hops, scene.connections_max, tls);
        scene.gateway = Gateway::new(&scene.world, snapshot, RETRY);
        scene
    }

    /// One whose gateway has two workers.
    pub(crate) fn of_two(seed: u64, next_hops: &[&'static str], connections_max: u32) -> Self {
        let mut scene = Self::with(seed, next_hops, connections_max, RETRY);
        scene.world.crash(ip(1));
        let mut workers =
            Gateway::of_workers(&scene.world, snapshot(next_hops, connections_max), RETRY, 2, true);
        scene.gateway = workers.remove(0);
        scene.others = workers;
        scene
    }

    /// Sends from the second worker.
    pub(crate) fn send_from_second(&mut self, from: &str, to: &[&str], body: &str) -> MessageId {
        self.others[0].append(from, to, Content::Inline(body.as_bytes()), false)
    }

    /// One whose mail goes by MX, to public addresses only: as gateways are where nothing else is written.
    pub(crate) fn in_public(seed: u64) -> Self {
        let world = World::new(seed, SimOptions::default());
        let gateway = Gateway::of_workers(&world, snapshot(&[], 20), RETRY, 1, false).remove(0);
        let (others, destinations, next_hops) = (Vec::new(), Vec::new(), Vec::new());
        Self { world, gateway, others, destinations, next_hops, connections_max: 20, retry: RETRY }
    }

    /// Asks something about the queue and lets everyone act until it is answered.
    pub(crate) fn ask_queue(&mut self, task: QueueTask) -> QueueAnswer {
        self.gateway.control.ask_queue(0, QueueRequest { number: 1, task }).expect("there is room");
        let limit = self.world.now().after(Duration::from_secs(60));
        loop {
            let goes_on = self.step(limit);
            if let Some(answer) = self.gateway.queue_answer() {
                return answer;
            }
            assert!(goes_on, "the queue does not answer");
        }
    }

    /// A page of the queue, with where each message's recipients stand.
    pub(crate) fn page(&mut self, wanted: QueuePageRequest) -> QueuePage {
        match self.ask_queue(QueueTask::Page(wanted)) {
            QueueAnswer::Page(page) => page,
            other => panic!("a page was asked for, not {other:?}"),
        }
    }

    /// Everything that is queued, acted upon.
    pub(crate) fn act(&mut self, act: QueueAct) -> QueueActed {
        let page = self.page(QueuePageRequest { messages_max: 500, ..Default::default() });
        let messages = page.messages.iter().map(|message| (message.slot, message.id)).collect();
        match self.ask_queue(QueueTask::Act { act, messages, by: "uid 0".into() }) {
            QueueAnswer::Acted(acted) => acted,
            other => panic!("an act was asked for, not {other:?}"),
        }
    }

    /// Starts a destination on host `last` that does as `behave` says.
    pub(crate) fn destination(&mut self, last: u8, behave: impl FnMut(&str) -> String + 'static) -> usize {
        self.destination_at(ip(last), behave)
    }

    /// The same at an address of any kind.
    pub(crate) fn destination_at(
        &mut self,
        address: IpAddr,
        behave: impl FnMut(&str) -> String + 'static,
    ) -> usize {
        self.destinations.push(Destination::start(&self.world, address, Box::new(behave)));
        self.destinations.len() - 1
    }

    pub(crate) fn send(&mut self, from: &str, to: &[&str], body: &str) -> MessageId {
        self.gateway.append(from, to, Content::Inline(body.as_bytes()), false)
    }

    /// The same with BODY=8BITMIME.
    pub(crate) fn send_declared(&mut self, from: &str, to: &[&str], body: &str) -> MessageId {
        self.gateway.append(from, to, Content::Inline(body.as_bytes()), true)
    }

    /// Sends a body of `bytes` that goes to a file of its own; gives it.
    pub(crate) fn send_large(&mut self, from: &str, to: &[&str], bytes: usize) -> Vec<u8> {
        let mut body = b"Subject: large\r\n\r\n".to_vec();
        let mut number = 0;
        while body.len() < bytes {
            number += 1;
            body.extend_from_slice(format!("line {number} of a large message\r\n").as_bytes());
        }
        self.send_large_body(from, to, &body);
        body
    }

    /// Sends a body that goes to a file of its own.
    pub(crate) fn send_large_body(&mut self, from: &str, to: &[&str], body: &[u8]) {
        let bytes = body.len();
        let gateway = &mut self.gateway;
        let large = gateway
            .shard
            .large_begin(&mut gateway.ring, bytes as u64, ring::Handle::fixed(0))
            .expect("there is room");
        for piece in body.chunks(32 << 10) {
            gateway.shard.large_write(&mut gateway.ring, large, piece);
        }
        gateway.shard.large_finish(&mut gateway.ring, large);
        self.until("the large body is durable", |scene| scene.gateway.large.is_some());
        let large = self.gateway.large.take().expect("just seen");
        self.gateway.append(from, to, Content::Large(large), false);
    }

    /// Power fails at the gateway; it starts again on what its disk has.
    pub(crate) fn crash(&mut self) {
        self.world.crash(ip(1));
        let snapshot = snapshot(&self.next_hops, self.connections_max);
        self.gateway = Gateway::new(&self.world, snapshot, self.retry);
    }

    /// Lets everyone act until `time` from now has passed.
    pub(crate) fn pass(&mut self, time: Duration) {
        let limit = self.world.now().after(time);
        while self.step(limit) {}
    }

    /// Lets everyone act until `done`, for ten days at most.
    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let limit = self.world.now().after(Duration::from_secs(10 * 86_400));
        while !done(self) {
            assert!(self.step(limit), "ten days have passed, and not yet: {what}");
        }
    }

    /// Lets this time pass while the gateway gets no turn: a busy machine.
    pub(crate) fn pass_by(&mut self, time: Duration) {
        let limit = self.world.now().after(time);
        while self.world.step_until(limit) {
            for destination in &mut self.destinations {
                destination.turn();
            }
        }
    }

    fn step(&mut self, limit: Instant) -> bool {
        self.gateway.turn();
        for other in &mut self.others {
            other.turn();
        }
        for destination in &mut self.destinations {
            destination.turn();
        }
        self.world.step_until(limit)
    }

    /// Bodies that destination `index` took responsibility for.
    pub(crate) fn taken(&self, index: usize) -> usize {
        self.destinations[index].taken.len()
    }
}
