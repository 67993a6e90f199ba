//! A whole gateway in a simulated world: the worker as it ships, with a control plane beside it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use commons::{Commons, Places, WorkerLink, WorkerState};
use delivery::{ClientTlsConfigs, Delivery, DeliverySettings, Retry};
use gatepost::worker::{Commits, Life, SPOOL_ROOM, Worker};
use ingress::{Ingress, ListenerSettings};
use observe::{EventLog, Registry, WorkerMetrics};
use policy::{
    CONNECTIONS_DEFAULT, IdentitySource, Limits, LoginRequired, Origin, Role, RouteSource, RouteTls,
    Snapshot, Source, Sourced, TenantSource, TlsPolicy,
};
use ring::Ring;
use ring::sim::{SimRing, World};
use smtp::server::{ServerTls, TlsMode};
use spool::{Options, Spool, SpoolError};
use testbed::random::Random;

use super::control::Control;
use super::{GATEWAY, PORT, SEALED_PORT, SENDER, SUBMISSION_PORT, guard};

/// Where the spool is on the gateway's disk.
pub const SPOOL: &str = "/spool";

/// The longest wait of a site or a job, jitter aside; the first is a second.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What a run chooses of a gateway's settings, to meet recycling, loading and refusals more often.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Threads of the data plane, each with its shard.
    pub workers: usize,
    pub segment_bytes: u64,
    pub capacity_bytes: u64,
    pub hot_bytes_max: usize,
    /// Places for connections, of which strangers may hold half.
    pub places: u32,
    /// What its routes say of TLS.
    pub tls: RouteTls,
}

/// A gateway from its start to its end.
pub struct Gateway {
    pub workers: Vec<Worker<SimRing>>,
    /// Which of them have ended: they have no turns any more.
    ended: Vec<bool>,
    pub control: Control,
    pub commons: Arc<Commons>,
    pub places: Arc<Places>,
    /// What its recovery found wrong.
    pub damage: Vec<String>,
    /// The last turn's moment, and how many turns there were at it.
    last_turns: (ring::Instant, u32),
}

/// Turns at one moment. In this world time stands still while a worker asks for its next turn at once, so that one
/// that has nothing to do and asks all the same would turn for ever.
const TURNS_AT_ONCE_MAX: u32 = 10_000;

impl Gateway {
    /// Starts on what the disk holds.
    pub fn start(
        world: &World,
        tuning: Tuning,
        log: impl Fn() -> EventLog,
        mut random: Random,
    ) -> Result<Self, SpoolError> {
        let (commons, links, control_link) = Commons::new(tuning.workers, snapshot(tuning.tls));
        let mut control_ring = world.host(GATEWAY);
        spool::claim(&mut control_ring, SPOOL.as_ref(), "the simulated gateway")?;
        let registry = Registry::new(tuning.workers, &["smtp", "submission", "submissions"], 1);
        let places = Arc::new(Places::new(tuning.places));
        let mut damage = Vec::new();
        let mut workers = Vec::new();
        for link in links {
            let number = link.worker();
            let mut ring = world.host(GATEWAY);
            let (spool, recovered) =
                Spool::open(&mut ring, options(tuning, number, random.bits()), tuning.workers)?;
            damage.extend(self::damage(&spool));
            let metrics = registry.worker(usize::from(number));
            let mut worker = equip(&places, ring, spool, link, metrics, log());
            worker.recover(recovered);
            commons.set_state(number, WorkerState::Ready);
            workers.push(worker);
        }
        for worker in &mut workers {
            let shares_port = tuning.workers > 1;
            worker.ingress.open(&mut worker.ring, shares_port).expect("the port is free");
        }
        let control = Control::new(control_ring, control_link, hosts(), random);
        let ended = vec![false; tuning.workers];
        let last_turns = (control.ring.now(), 0);
        Ok(Self { workers, ended, control, commons, places, damage, last_turns })
    }

    /// Lets both planes do what is due.
    pub fn turn(&mut self) {
        let now = self.control.ring.now();
        let turns = if self.last_turns.0 == now { self.last_turns.1 + 1 } else { 1 };
        assert!(turns <= TURNS_AT_ONCE_MAX, "a worker spins");
        self.last_turns = (now, turns);
        let mut completions = Vec::new();
        let deadline = self.control.deadline();
        self.control.ring.turn(deadline, &mut completions).expect("a simulated ring turns");
        self.control.turn();
        for (worker, has_ended) in self.workers.iter_mut().zip(&mut self.ended) {
            *has_ended = *has_ended || !worker.turn().expect("a simulated ring turns");
        }
    }

    /// Messages that will be tried.
    pub fn queued_messages(&self) -> usize {
        let waiting =
            |delivery: &Delivery| delivery.queued_messages() - delivery.quarantined_messages() as usize;
        self.workers.iter().map(|worker| waiting(&worker.delivery)).sum()
    }

    pub fn is_latched(&self) -> bool {
        self.workers.iter().any(|worker| worker.spool.stats().latched)
    }

    /// Messages that have become durable since its start.
    pub fn committed(&self) -> u64 {
        self.workers.iter().map(|worker| worker.spool.stats().committed).sum()
    }

    /// No mail is queued and nothing is on its way to the disk.
    pub fn has_written_all(&self) -> bool {
        self.queued_messages() == 0 && self.workers.iter().all(|worker| worker.spool.idle())
    }

    /// It was asked to end and has.
    pub fn has_drained(&self) -> bool {
        self.ended.iter().all(|has_ended| *has_ended)
    }

    /// Something was under way when it ended.
    pub fn was_cut_short(&self) -> bool {
        !self.workers.iter().all(Worker::is_idle)
    }
}

fn equip(
    places: &Arc<Places>,
    mut ring: SimRing,
    spool: Spool,
    link: WorkerLink,
    metrics: Arc<WorkerMetrics>,
    log: EventLog,
) -> Worker<SimRing> {
    let worker = link.worker();
    let ingress = Ingress::new(ingress_settings(worker, places), &mut ring);
    let mut seed = [0; 8];
    ring.random(&mut seed);
    let delivery = Delivery::new(DeliverySettings {
        hostname: "relay.example".into(),
        worker,
        retry: Retry {
            first: Duration::from_secs(1),
            longest: LONGEST_WAIT,
            expire: Duration::from_secs(5 * 86_400),
        },
        tls: ClientTlsConfigs::new(super::guard::roots()).expect("a configuration"),
        connections_max: 256,
        private_destinations: true,
        seed: u64::from_le_bytes(seed),
    });
    link.attach(ring.waker());
    let snapshots = link.commons().snapshot_cache();
    Worker {
        ring,
        ingress,
        spool,
        delivery,
        link,
        snapshots,
        metrics,
        log,
        completions: Vec::new(),
        commits: Commits::default(),
        life: Life::default(),
    }
}

/// What the recovery of a shard found wrong.
pub fn damage(spool: &Spool) -> Vec<String> {
    let recovery = spool.recovery();
    let damaged = recovery.damage.iter().map(ToString::to_string);
    let missing = recovery.bodies_missing.iter().map(|id| format!("the body of {id} is missing"));
    damaged.chain(missing).collect()
}

/// A shard of the spool of the gateway.
pub fn options(tuning: Tuning, shard: u8, salt: u64) -> Options {
    Options {
        directory: SPOOL.into(),
        shard,
        segment_bytes: tuning.segment_bytes,
        capacity_bytes: tuning.capacity_bytes,
        segments_max: spool::SEGMENTS_MAX,
        hot_bytes_max: tuning.hot_bytes_max,
        compaction_bytes_per_second: spool::COMPACTION_BYTES_PER_SECOND_DEFAULT,
        token_room: SPOOL_ROOM,
        salt,
    }
}

/// The hosts of the destinations.
pub fn destinations() -> [IpAddr; 3] {
    [1, 2, 3].map(|last| IpAddr::V4(Ipv4Addr::new(10, 0, 2, last)))
}

/// Their names, in the same order.
pub const NAMES: [&str; 3] = ["mx1.far.example", "mx2.far.example", "mx.other.example"];

fn hosts() -> Vec<(String, IpAddr)> {
    NAMES.iter().map(|&name| name.to_owned()).zip(destinations()).collect()
}

fn ingress_settings(worker: u8, places: &Arc<Places>) -> ingress::Settings {
    let session = |tls, tls_config| {
        Arc::new(smtp::server::Settings {
            hostname: "relay.example".into(),
            tls,
            tls_config,
            auth_without_tls: true,
            message_bytes_max: None,
            limits: mail::limits::SessionLimits::default(),
        })
    };
    let clear = session(TlsMode::Off, None);
    let sealed = session(TlsMode::Implicit, Some(Arc::new(ServerTls::new(guard::gateways(), None))));
    let listeners = [
        ("smtp", Role::Relay, PORT, TlsPolicy::Off, &clear),
        ("submission", Role::Submission, SUBMISSION_PORT, TlsPolicy::Off, &clear),
        ("submissions", Role::Submission, SEALED_PORT, TlsPolicy::Implicit, &sealed),
    ];
    let listener = |(name, role, port, tls, session): (&str, _, _, _, &Arc<_>)| ListenerSettings {
        policy: policy::Listener { name: name.into(), role, tls, auth_without_tls: true },
        session: Arc::clone(session),
        address: SocketAddr::new(GATEWAY, port),
    };
    ingress::Settings {
        hostname: "relay.example".into(),
        worker,
        places: Arc::clone(places),
        leaving_max: 4,
        backlog: ingress::BACKLOG,
        contact: None,
        submission_port: None,
        dns_lists: false,
        unfinished: Arc::new(commons::Unfinished::new(32 << 20, 16 << 20)),
        public_url: None,
        peers: ingress::Peers::default(),
        login: ingress::LoginSettings::with_secret([7; 32]),
        listeners: listeners.map(listener).into(),
    }
}

fn at<T>(value: T) -> Sourced<T> {
    Sourced::new(value, Origin::new("simulated.toml", 1))
}

fn route(domain: &str, next_hops: &[&str], tls: RouteTls) -> RouteSource {
    RouteSource {
        origin: Origin::new("simulated.toml", 1),
        recipient_domains: vec![at(domain.to_owned())],
        next_hops: next_hops.iter().map(|hop| hop.parse().expect("a host name")).collect(),
        tls,
        connections_max: CONNECTIONS_DEFAULT.min(3),
    }
}

fn snapshot(tls: RouteTls) -> Snapshot {
    let tenant = TenantSource {
        name: at("proseware".to_owned()),
        networks: vec![at("10.0.1.0/24".parse().expect("a network"))],
        excluded_networks: Vec::new(),
        senders: vec![at(SENDER.to_owned())],
        login_required: at(LoginRequired::Never),
        null_sender: at(true),
        sender_rules: policy::SenderRulesSource::default(),
        lists: policy::ListsSource::default(),
        relay_domains: Vec::new(),
        routes: Vec::new(),
        identities: vec![IdentitySource {
            login: at("app".to_owned()),
            credential: "$argon2id$".to_owned(),
            scram: None,
            senders: Vec::new(),
            null_sender: false,
        }],
        limits: Limits::default(),
        grants: None,
    };
    let source = Source {
        generation: 1,
        origin: Origin::new("simulated.toml", 1),
        routes: vec![
            route("other.example", &["mx.other.example"], tls),
            route("*", &["mx1.far.example", "mx2.far.example"], tls),
        ],
        limits: Default::default(),
        lists: policy::ListsSource::default(),
        tenants: vec![tenant.into()],
    };
    Snapshot::compile(&source).expect("the configuration is sound")
}
