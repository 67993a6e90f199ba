use std::collections::HashMap;

use std::net::IpAddr;

use commons::{Commons, Question, WorkerLink};
use policy::{Origin, Snapshot, Source};
use ring::Handle;

use super::*;

const HOME: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
const ELSEWHERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));
const RIGHT: &str = "correct horse";
const WRONG: &str = "battery staple";

/// A pool that no thread takes from: its queue is as full as a storm makes it.
struct Stage {
    link: WorkerLink,
    control: ControlLink,
    pool: Verifiers,
    waiting: Receiver<Waiting>,
}

impl Stage {
    fn new() -> Self {
        let source = Source {
            generation: 1,
            origin: Origin::new("gatepost.toml", 1),
            routes: Vec::new(),
            limits: Default::default(),
            lists: Default::default(),
            tenants: Vec::new(),
        };
        let (_commons, mut links, control) = Commons::new(1, Snapshot::compile(&source).unwrap());
        let (pool, waiting) = Verifiers::without_threads(&control);
        Self { link: links.remove(0), control, pool, waiting }
    }

    fn ask(&self, key: u32, credential: &str, trusted_network: Option<IpAddr>, password: &str) {
        let login = Login {
            worker: 0,
            key: Handle::fixed(key),
            credential: credential.into(),
            login: "terri".into(),
            trusted_network,
            password: password.to_owned().into(),
        };
        self.link.ask(Question::Verify(login)).unwrap();
        let Some(Question::Verify(login)) = self.control.question() else { panic!("it was asked") };
        self.pool.verify(login);
    }

    /// What has been answered since, by key.
    fn answers(&self) -> HashMap<u32, Verification> {
        let answers = std::iter::from_fn(|| self.link.answer());
        let verified = answers.map(|answer| match answer {
            Answer::Verified { key, outcome, .. } => (key.index(), outcome),
            other => panic!("{other:?}"),
        });
        verified.collect()
    }
}

#[test]
fn a_storm_is_told_to_come_again_and_what_fitted_before_passes_through_it_from_where_it_came() {
    let stage = Stage::new();
    let fingerprint = stage.pool.successes.lock().fingerprint("terri", "hash", HOME.unwrap(), RIGHT);
    stage.pool.successes.lock().remember(fingerprint, Instant::now());
    let storm = WAITING_MAX as u32 + 3;
    for key in 0..storm {
        stage.ask(key, "hash", None, WRONG);
    }
    // A right password from elsewhere, whether or not another login of it fitted there, is one of the storm.
    stage.ask(storm, "hash", None, RIGHT);
    stage.ask(storm + 1, "hash", ELSEWHERE, RIGHT);
    stage.ask(storm + 2, "hash", HOME, RIGHT);
    let expected = (WAITING_MAX as u32..storm + 2).map(|key| (key, Verification::Busy));
    assert_eq!(stage.answers(), expected.chain([(storm + 2, Verification::Fits)]).collect());
    assert_eq!(stage.waiting.len(), WAITING_MAX);
}

#[test]
fn a_success_is_remembered_for_a_trusted_network_alone() {
    let stage = Stage::new();
    let credential = password::hash(RIGHT);
    for (key, network) in [None, ELSEWHERE].into_iter().enumerate() {
        stage.ask(key as u32, &credential, network, RIGHT);
    }
    while let Ok(waiting) = stage.waiting.try_recv() {
        verify_one(waiting, &stage.control, &stage.pool.successes);
    }
    assert_eq!(stage.answers(), HashMap::from([(0, Verification::Fits), (1, Verification::Fits)]));
    for (key, network) in [None, HOME, ELSEWHERE].into_iter().enumerate() {
        stage.ask(key as u32, &credential, network, RIGHT);
    }
    assert_eq!(stage.answers(), HashMap::from([(2, Verification::Fits)]));
    assert_eq!(stage.waiting.len(), 2);
}
