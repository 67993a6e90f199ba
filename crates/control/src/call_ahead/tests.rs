//! Who waits how long, by a separate clock: no socket is used.

use std::sync::atomic::{AtomicUsize, Ordering};

use commons::{Commons, WorkerLink};
use policy::{
    CONNECTIONS_DEFAULT, LoginRequired, Origin, RelayDomainSource, Route, RouteSource, RouteTls, Snapshot,
    Source, Sourced, TenantSource,
};
use ring::Handle;
use tokio::sync::Notify;
use tokio::sync::oneshot::{Sender, channel};

use super::dialog::Later;
use super::*;

/// A next hop that knows every mailbox, and answers about those who begin with "slow" when it is told to; and
/// time that passes when it is told to.
#[derive(Default)]
struct World {
    called: AtomicUsize,
    released: Notify,
    clock: Mutex<Clock>,
}

/// How much has passed, and who waits until when.
#[derive(Default)]
struct Clock {
    now: Duration,
    sleepers: Vec<(Duration, Sender<()>)>,
}

impl World {
    fn pass(&self, time: Duration) {
        let mut clock = self.clock.lock().unwrap();
        clock.now += time;
        let now = clock.now;
        for (_, sleeper) in clock.sleepers.extract_if(.., |(until, _)| *until <= now) {
            let _ = sleeper.send(());
        }
    }
}

impl Outside for Arc<World> {
    fn call<'a>(&'a self, _: &'a Route, address: Address<'a>, _: bool) -> Later<'a, Option<Heard>> {
        Box::pin(async move {
            self.called.fetch_add(1, Ordering::SeqCst);
            if address.text().starts_with("slow") {
                self.released.notified().await;
            }
            Some(Heard::Known)
        })
    }

    fn after(&self, time: Duration) -> Later<'static, ()> {
        let (wake, woken) = channel();
        let mut clock = self.clock.lock().unwrap();
        let until = clock.now + time;
        clock.sleepers.push((until, wake));
        Box::pin(async {
            let _ = woken.await;
        })
    }
}

/// A desk, the worker that asks it, and its next hop.
struct Stage {
    ahead: CallAhead,
    link: WorkerLink,
    world: Arc<World>,
    asked: u32,
}

impl Stage {
    fn new() -> Self {
        let (_, mut links, control) = Commons::new(1, snapshot());
        let world = Arc::new(World::default());
        let ahead = CallAhead::over(control, Box::new(world.clone()));
        Self { ahead, link: links.remove(0), world, asked: 0 }
    }

    /// Asks as the worker would; gives the question's number.
    fn ask(&mut self, stranger: Option<u8>, name: &str) -> u32 {
        self.asked += 1;
        let (worker, key) = (0, Handle::fixed(self.asked));
        let stranger = stranger.map(|last| IpAddr::from([192, 0, 2, last]));
        let address: Box<str> = format!("{name}@proseware.example").into();
        let question = commons::Question::CallAhead { worker, key, stranger, address: address.clone() };
        self.link.ask(question).expect("there is room");
        self.ahead.ask(Waiter { worker, key }, stranger, address);
        self.asked
    }

    /// The answers that are there, once all have had their say.
    async fn answers(&self) -> Vec<(u32, RecipientFinding)> {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let answers = std::iter::from_fn(|| self.link.answer());
        let answers = answers.map(|answer| match answer {
            Answer::Recipient { key, finding, .. } => (key.index(), finding),
            other => panic!("{other:?} was not asked for"),
        });
        answers.collect()
    }

    fn called(&self) -> usize {
        self.world.called.load(Ordering::SeqCst)
    }
}

fn snapshot() -> Snapshot {
    let origin = Origin::new("gatepost.toml", 1);
    let at = |text: &str| Sourced::new(text.to_owned(), origin.clone());
    let relay_domain = RelayDomainSource {
        domains: vec![at("proseware.example")],
        route: RouteSource {
            origin: origin.clone(),
            recipient_domains: Vec::new(),
            next_hops: vec!["mail.proseware.example:25".parse().expect("a next hop")],
            tls: RouteTls::Off,
            connections_max: CONNECTIONS_DEFAULT,
        },
        recipients: None,
        call_ahead: true,
    };
    let tenant = TenantSource {
        name: at("proseware"),
        networks: Vec::new(),
        excluded_networks: Vec::new(),
        senders: vec![at("@proseware.example")],
        login_required: Sourced::new(LoginRequired::Never, origin.clone()),
        null_sender: Sourced::new(false, origin.clone()),
        sender_rules: policy::SenderRulesSource::default(),
        lists: policy::ListsSource::default(),
        relay_domains: vec![relay_domain],
        routes: Vec::new(),
        identities: Vec::new(),
        limits: policy::Limits::default(),
        grants: None,
    };
    let source = Source {
        generation: 1,
        origin,
        routes: Vec::new(),
        lists: policy::ListsSource::default(),
        limits: Default::default(),
        tenants: vec![tenant.into()],
    };
    Snapshot::compile(&source).expect("it compiles")
}

use RecipientFinding::{Good, Undecided};

#[tokio::test]
async fn a_client_waits_for_five_seconds_and_the_answer_is_there_when_it_comes_again() {
    let mut stage = Stage::new();
    let first = stage.ask(Some(1), "slow");
    assert_eq!(stage.answers().await, []);
    stage.world.pass(Duration::from_millis(4_999));
    assert_eq!(stage.answers().await, []);
    let joined = stage.ask(None, "slow");
    stage.world.pass(Duration::from_millis(1));
    assert_eq!(stage.answers().await, [(first, Undecided), (joined, Undecided)]);
    // The call goes on; no client waits for it any more.
    let late = stage.ask(None, "slow");
    assert_eq!(stage.answers().await, [(late, Undecided)]);
    stage.world.released.notify_one();
    assert_eq!(stage.answers().await, []);
    let again = stage.ask(Some(2), "slow");
    assert_eq!(stage.answers().await, [(again, Good)]);
    assert_eq!(stage.called(), 1);
}

#[tokio::test]
async fn guessing_strangers_hold_up_neither_who_is_known_nor_the_tenants_own_senders() {
    let mut stage = Stage::new();
    let kim = stage.ask(Some(99), "kim");
    assert_eq!(stage.answers().await, [(kim, Good)]);
    for number in 0..20 {
        stage.ask(Some(number), &format!("slow{number}"));
    }
    assert_eq!(stage.answers().await, []);
    assert_eq!(stage.called(), 1 + STRANGERS_CALLS_PER_HOP_MAX);
    let known = stage.ask(Some(100), "kim");
    assert_eq!(stage.answers().await, [(known, Good)]);
    let own = stage.ask(None, "lee");
    assert_eq!(stage.answers().await, [(own, Good)]);
    // Who has waited for a turn and had none is let go, and was not asked for.
    stage.world.pass(WAIT_MAX);
    assert_eq!(stage.answers().await.len(), 20);
    assert_eq!(stage.called(), 2 + STRANGERS_CALLS_PER_HOP_MAX);
    stage.world.released.notify_waiters();
    let again = stage.ask(Some(19), "anew");
    assert_eq!(stage.answers().await, [(again, Good)]);
}

#[tokio::test]
async fn one_stranger_has_few_questions_at_once_and_others_have_theirs() {
    let mut stage = Stage::new();
    stage.ask(Some(1), "slow1");
    stage.ask(Some(1), "slow2");
    let third = stage.ask(Some(1), "slow3");
    assert_eq!(stage.answers().await, [(third, Undecided)]);
    let other = stage.ask(Some(2), "kim");
    assert_eq!(stage.answers().await, [(other, Good)]);
}

#[tokio::test]
async fn next_hops_that_never_end_a_call_are_down_for_a_while() {
    let mut stage = Stage::new();
    stage.ask(None, "slow");
    assert_eq!(stage.answers().await, []);
    stage.world.pass(CALL_MAX);
    assert_eq!(stage.answers().await.len(), 1);
    let other = stage.ask(None, "kim");
    assert_eq!(stage.answers().await, [(other, Undecided)], "and no client waits for them");
    assert_eq!(stage.called(), 1);
}
