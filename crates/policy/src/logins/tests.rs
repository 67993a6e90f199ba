use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::snapshot::Snapshot;
use crate::source::{Origin, ReservedSendersSource, Source};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// The third does not fit where it is asked for, the last is no pattern.
const SENDERS: [&str; 5] = [
    "@a.example",
    "x@b.example",
    "@a-domain-whose-name-is-longer-than-what-a-line-of-memory-holds.example",
    "@*",
    "nobody",
];
const LOGINS: [&str; 7] = ["one", "two", "three", "four", "five", "six", "One"];
const NETWORKS: [&str; 6] =
    ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "192.0.2.0/24", "192.0.2.1/24", "2001:db8::/32"];

fn at<T>(value: T) -> Sourced<T> {
    Sourced::new(value, Origin::new("test.toml", 1))
}

fn texts(texts: &[&str]) -> Vec<Sourced<String>> {
    texts.iter().map(|text| at((*text).to_owned())).collect()
}

/// Mostly the first ones: what is no pattern and what another tenant has would be an error each time.
fn senders(least: usize) -> impl Strategy<Value = Vec<Sourced<String>>> {
    prop_oneof![
        9 => subsequence(SENDERS[..4].to_vec(), least..=3),
        1 => subsequence(SENDERS.to_vec(), least..=3),
    ]
    .prop_map(|senders| texts(&senders))
}

fn identity(login: &str) -> impl Strategy<Value = IdentitySource> {
    let login = login.to_owned();
    (senders(0), any::<bool>(), select(vec!["", "$a$b$c"])).prop_map(move |(senders, null_sender, hash)| {
        IdentitySource { senders, null_sender, ..IdentitySource::new(at(login.clone()), hash.to_owned()) }
    })
}

/// What a change of a tenant's file may be.
#[derive(Clone, Debug)]
enum Change {
    Nothing,
    Senders(Vec<Sourced<String>>),
    Login(IdentitySource),
    NoLogin(usize),
    LoginAgain(usize, IdentitySource),
    Networks(Vec<&'static str>),
    Rules(Option<&'static str>),
    NullSender(bool),
    Line(u32),
}

fn change() -> impl Strategy<Value = Change> {
    let login = || select(LOGINS.to_vec()).prop_flat_map(identity);
    prop_oneof![
        Just(Change::Nothing),
        senders(1).prop_map(Change::Senders),
        login().prop_map(Change::Login),
        (0..3_usize).prop_map(Change::NoLogin),
        (0..3_usize, login()).prop_map(|(place, login)| Change::LoginAgain(place, login)),
        subsequence(NETWORKS.to_vec(), 0..=1).prop_map(Change::Networks),
        prop::option::of(select(LOGINS.to_vec())).prop_map(Change::Rules),
        any::<bool>().prop_map(Change::NullSender),
        (2..9_u32).prop_map(Change::Line),
    ]
}

impl Change {
    fn make(self, tenant: &mut TenantSource) {
        match self {
            Self::Nothing => {}
            Self::Senders(senders) => tenant.senders = senders,
            Self::Login(identity) => tenant.identities.push(identity),
            Self::NoLogin(place) if place < tenant.identities.len() => {
                tenant.identities.remove(place);
            }
            Self::NoLogin(_) => tenant.identities.reverse(),
            Self::LoginAgain(place, again) => {
                // Half of the time under the name that it has.
                if let Some(identity) = tenant.identities.get_mut(place) {
                    let login = if again.null_sender { &again.login } else { &identity.login }.clone();
                    *identity = IdentitySource { login, ..again };
                }
            }
            Self::Networks(nets) => {
                tenant.networks = nets.iter().map(|net| at(net.parse().unwrap())).collect();
            }
            Self::Rules(None) => tenant.sender_rules.plus_addressing ^= true,
            Self::Rules(Some(login)) => tenant.sender_rules.reserved.push(ReservedSendersSource {
                origin: Origin::new("test.toml", 1),
                senders: texts(&SENDERS[..1]),
                identities: texts(&[login]),
            }),
            Self::NullSender(null_sender) => tenant.null_sender.value = null_sender,
            Self::Line(line) => {
                let identities = tenant
                    .identities
                    .iter_mut()
                    .flat_map(|identity| std::iter::once(&mut identity.login).chain(&mut identity.senders));
                for text in identities.chain(&mut tenant.senders).chain([&mut tenant.name]) {
                    text.origin.line = line;
                }
            }
        }
    }
}

/// What may become of the tenants at a reload.
#[derive(Clone, Debug)]
enum Step {
    Changed(usize, Change),
    Added(usize, &'static str),
    Removed(usize),
    Swapped(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5_usize, change()).prop_map(|(place, change)| Step::Changed(place, change)),
        1 => (0..5_usize, select(NAMES.to_vec())).prop_map(|(place, name)| Step::Added(place, name)),
        1 => (0..5_usize).prop_map(Step::Removed),
        1 => (0..5_usize).prop_map(Step::Swapped),
    ]
}

fn take(steps: Vec<Step>, tenants: &mut Vec<Arc<TenantSource>>) {
    for step in steps {
        let count = tenants.len();
        match step {
            Step::Changed(place, change) if place < count => change.make(Arc::make_mut(&mut tenants[place])),
            Step::Added(place, name) if place <= count => {
                let senders = texts(&SENDERS[..1]);
                let named = TenantSource::named(at(name.to_owned()));
                tenants.insert(place, Arc::new(TenantSource { senders, ..named }));
            }
            Step::Removed(place) if place < count => drop(tenants.remove(place)),
            Step::Swapped(place) if place + 1 < count => tenants.swap(place, place + 1),
            _ => {}
        }
    }
}

/// Three tenants with two logins each.
fn tenants() -> impl Strategy<Value = Vec<Arc<TenantSource>>> {
    let tenant = |index: usize| {
        let logins = [identity(LOGINS[2 * index]), identity(LOGINS[2 * index + 1])];
        (senders(1), logins).prop_map(move |(senders, identities)| {
            let named = TenantSource::named(at(NAMES[index].to_owned()));
            Arc::new(TenantSource { senders, identities: identities.into(), ..named })
        })
    };
    [tenant(0), tenant(1), tenant(2)].prop_map(Vec::from)
}

/// The whole of it, or everything that is wrong.
fn shown<T: std::fmt::Debug>(compiled: &T) -> String {
    format!("{compiled:#?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_compiled_after_another_is_what_is_compiled_from_nothing(
        mut tenants in tenants(),
        reloads in prop::collection::vec(prop::collection::vec(step(), 1..3), 1..6),
    ) {
        let first = Snapshot::compile(&Source::of(tenants.to_vec()));
        prop_assume!(first.is_ok());
        let mut in_force = first.unwrap();
        for steps in reloads {
            take(steps, &mut tenants);
            let source = Source::of(tenants.to_vec());
            let after = Snapshot::compile_after(&in_force, &source);
            prop_assert_eq!(shown(&after), shown(&Snapshot::compile(&source)));
            if let Ok(after) = after {
                in_force = after;
            }
        }
    }
}

#[test]
fn the_table_is_shared_while_every_login_stays_as_it_was() {
    let tenant = |name: &str, login: &str| {
        let identities = vec![IdentitySource::new(at(login.to_owned()), String::new())];
        let named = TenantSource::named(at(name.to_owned()));
        Arc::new(TenantSource { senders: texts(&SENDERS[..1]), identities, ..named })
    };
    let tenants = [tenant("a", "one"), tenant("b", "two")];
    let before = Snapshot::compile(&Source::of(tenants.to_vec())).unwrap();
    let is_shared = |change: &dyn Fn(&mut TenantSource)| {
        let mut tenants = tenants.clone();
        change(Arc::make_mut(&mut tenants[1]));
        let after = Snapshot::compile_after(&before, &Source::of(tenants.to_vec())).unwrap();
        let (old, new) = (&before.logins, &after.logins);
        let shared = Arc::ptr_eq(&old.names, &new.names);
        assert_eq!(Arc::ptr_eq(&old.identities, &new.identities), shared);
        shared
    };
    assert!(is_shared(&|tenant| tenant.identities[0].credential = "$a$b$c".to_owned()));
    assert!(is_shared(&|tenant| tenant.networks = vec![at("192.0.2.0/24".parse().unwrap())]));
    assert!(is_shared(&|tenant| tenant.null_sender.value = true));
    assert!(!is_shared(&|tenant| tenant.identities[0].login.value = "three".to_owned()));
    assert!(!is_shared(&|tenant| tenant.identities[0].null_sender = true));
    assert!(!is_shared(&|tenant| tenant.identities[0].senders = texts(&SENDERS[1..2])));
    assert!(!is_shared(&|tenant| tenant.senders = texts(&SENDERS[1..2])));
    assert!(!is_shared(&|tenant| tenant.sender_rules.plus_addressing = true));
    assert!(!is_shared(&|tenant| tenant.identities.clear()));
}
