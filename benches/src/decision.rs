//! A whole decision at RCPT over the largest table: any tenant, any client, any login.

use std::net::IpAddr;

use mail::{ForwardPath, ReversePath, Verdict};
use policy::{Facts, Listener, NoTrace, Role, Snapshot, TlsPolicy};

use crate::measure::{Effort, each};
use crate::table;

/// Commands that are decided: far more than a cache holds the tenants of.
const COMMANDS: usize = 1 << 17;

/// What a decision may take in the median.
const BOUND_NANOS: f64 = 300.0;

/// A recipient command, as a session would put it.
pub(crate) struct Command {
    is_submission: bool,
    client: IpAddr,
    login: Option<String>,
    pub(crate) from: String,
    pub(crate) to: String,
    is_accepted: bool,
}

/// Who sends what where.
const KINDS: [&str; 4] = [
    "its network relays as one of its senders",
    "its login relays as itself",
    "a stranger sends to a relay domain",
    "a stranger asks to relay, and is denied",
];

pub(crate) fn run(effort: Effort) {
    let size = effort.largest();
    println!("decision: {size:?}; at most {BOUND_NANOS} ns");
    let source = table::source(size, 1);
    let snapshot = Snapshot::compile(&source).unwrap_or_else(|errors| panic!("{errors:?}"));
    let mut random = fastrand::Rng::with_seed(3);
    let mut mixed = Vec::new();
    for (kind, name) in KINDS.iter().enumerate() {
        let commands: Vec<_> = (0..effort.of(COMMANDS))
            .map(|_| {
                let tenant = random.usize(..source.tenants.len());
                command(kind, tenant, &source.tenants[tenant], source.tenants.len(), &mut random)
            })
            .collect();
        measure(effort, &format!("  {name}"), &snapshot, commands.iter());
        mixed.extend(commands);
    }
    random.shuffle(&mut mixed);
    measure(effort, "  all of them mixed", &snapshot, mixed.iter());
}

/// A command of the kind for `tenant`.
pub(crate) fn command(
    kind: usize,
    tenant: usize,
    source: &policy::TenantSource,
    tenants: usize,
    random: &mut fastrand::Rng,
) -> Command {
    // 240.0.0.0/4 is in no network.
    let stranger = IpAddr::from(random.u32(0xf000_0000..).to_be_bytes());
    let other = random.usize(..tenants);
    let command = Command {
        is_submission: false,
        client: stranger,
        login: None,
        from: format!("someone@adatum{}.example", random.u32(..)),
        to: format!("bob{}@adatum{}.example", random.u16(..), random.u32(..)),
        is_accepted: true,
    };
    match kind {
        0 => Command {
            client: table::within(random.choice(&source.networks).expect("it has some").value, random),
            from: format!("app{}@{}", random.u16(..), table::domain(tenant)),
            ..command
        },
        1 => {
            let login = table::login(tenant, random.usize(..source.identities.len()));
            Command { is_submission: true, from: login.clone(), login: Some(login), ..command }
        }
        2 => Command {
            to: format!("{}@{}", table::recipient(random.usize(..8)), table::domain(other)),
            ..command
        },
        _ => Command { is_accepted: false, ..command },
    }
}

pub(crate) fn listeners() -> [Listener; 2] {
    [(Role::Relay, "smtp"), (Role::Submission, "submission")].map(|(role, name)| Listener {
        name: name.into(),
        role,
        tls: TlsPolicy::StartTls,
        auth_without_tls: false,
    })
}

/// The facts of a command, known before its decision as they are in a session.
pub(crate) fn facts<'a>(snapshot: &Snapshot, listeners: &'a [Listener; 2], command: &Command) -> Facts<'a> {
    Facts {
        listener: &listeners[usize::from(command.is_submission)],
        client: command.client,
        tls: true,
        grants: &[],
        identity: command.login.as_deref().map(|login| snapshot.identity(login).expect("it is there")),
    }
}

/// Decides; true where the recipient is taken.
pub(crate) fn decide(
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    from: ReversePath<'_>,
    to: ForwardPath<'_>,
) -> bool {
    snapshot.decide_recipient(facts, from, to, None, &mut NoTrace).verdict == Verdict::Accept
}

fn measure<'a>(effort: Effort, name: &str, snapshot: &Snapshot, commands: impl Iterator<Item = &'a Command>) {
    let listeners = listeners();
    let parsed: Vec<_> = commands
        .map(|command| {
            let facts = facts(snapshot, &listeners, command);
            let from = ReversePath::parse(&command.from).expect("it is a path");
            let to = ForwardPath::parse(&command.to).expect("it is a path");
            // A longer prefix of another tenant may hold the address: then the sender is not its own.
            let own = !command.is_accepted || command.login.is_some() || facts.identity.is_none();
            assert!(own && (command.is_accepted || !decide(snapshot, &facts, from, to)));
            (facts, from, to)
        })
        .collect();
    let taken = parsed.iter().filter(|(facts, from, to)| decide(snapshot, facts, *from, *to)).count();
    let name = format!("{name} ({}% taken)", taken * 100 / parsed.len());
    each(effort, &name, &parsed, |(facts, from, to)| usize::from(decide(snapshot, facts, *from, *to)));
}
