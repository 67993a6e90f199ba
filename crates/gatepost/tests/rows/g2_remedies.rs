//! G2: the change that an explanation names turns the denial. Each row is denied with that remedy, word
//! for word; then the change is made, of the files or of the session and of nothing else, and it is
//! accepted. Here are the remedies that a configuration and a session decide; `live` has those that only
//! a running gateway meets with.

mod live;

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use config::{Config, Loaded};
use mail::{ForwardPath, Reason, ReversePath};
use policy::{Decision, Explanation, Facts, Remedy};
use testbed::net::free_address;
use testbed::proseware::{self, HOTEL, INSIDE, LOGIN};

use crate::tenant::{write_login, write_sections};

const KIM: &str = "kim@proseware.example";
const ANN: &str = "ann@contoso.example";
const BOB: &str = "bob@adatum.example";
const STRANGER: &str = "eve@stranger.example";
/// In the range that proseware excludes from its network.
const EXCLUDED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 1, 200));
/// In the network of contoso, which must log in all the same.
const CONTOSO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 5, 1));
const BLOCKED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 3, 66));

/// Who shows that a remedy works.
enum Shown {
    /// A row of [`ROWS`].
    Offline,
    /// A row of [`live::ROWS`].
    Live,
    /// None: no change of the configuration or by the sender does it.
    Never(&'static str),
}

/// A new kind of remedy does not compile until it is said here who shows that it works.
fn shown(remedy: Remedy) -> Shown {
    match remedy {
        Remedy::StartTls
        | Remedy::LogIn
        | Remedy::LogInOrAddNetwork
        | Remedy::PlainAddress
        | Remedy::ListRecipient
        | Remedy::AddSender
        | Remedy::UseReservedLogin
        | Remedy::AllowNullSender
        | Remedy::SeparateTransaction
        | Remedy::TakeOffList => Shown::Offline,
        Remedy::CorrectCredentials
        | Remedy::Wait
        | Remedy::LiftSuspension
        | Remedy::CorrectDomain
        | Remedy::OwnHeaderFrom
        | Remedy::EndLines
        | Remedy::SmallerMessage
        | Remedy::FewerRecipients => Shown::Live,
        Remedy::None => Shown::Never("there is nothing to change"),
        Remedy::TryAgain => Shown::Never("the host that could not be asked must answer again"),
        Remedy::BreakLoop => Shown::Never("the next hop must send the mail elsewhere"),
        Remedy::MendSpool => Shown::Never("the storage must have room, and work"),
    }
}

#[test]
fn every_remedy_is_shown_to_work_or_named_as_one_that_no_change_here_can() {
    let offline: HashSet<_> = ROWS.iter().map(|row| row.remedy).collect();
    let live: HashSet<_> = live::ROWS.iter().chain(live::BY_DNS).map(|row| row.remedy).collect();
    let given = Reason::ALL.into_iter().flat_map(Decision::refusals_for).map(|decision| decision.remedy);
    let given: HashSet<_> = given.collect();
    for &remedy in &given {
        let by = (offline.contains(&remedy), live.contains(&remedy));
        match shown(remedy) {
            Shown::Offline => assert!(by.0, "{remedy:?} has no row here"),
            Shown::Live => assert!(by.1, "{remedy:?} has no row in a running gateway"),
            Shown::Never(why) => assert_eq!(by, (false, false), "{remedy:?} has a row, though {why}"),
        }
    }
    assert!(
        offline.union(&live).all(|remedy| given.contains(remedy)),
        "a row has a remedy that no decision gives"
    );
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
struct Session {
    client: IpAddr,
    listener: &'static str,
    tls: bool,
    login: Option<&'static str>,
    from: &'static str,
    /// A recipient that was accepted before, in the same transaction.
    before: Option<&'static str>,
    to: &'static str,
}

/// One line of the files: in which, what stands there, and what takes its place.
type Edit = (&'static str, &'static str, &'static str);

/// A change that a remedy names.
enum Change {
    Session(Session),
    Files(&'static [Edit]),
}

struct Row {
    remedy: Remedy,
    /// The remedy in words; the folder of the configuration is left out of paths.
    words: &'static str,
    denied: Session,
    /// Each of them turns it.
    changes: &'static [Change],
}

/// From `client` to the relay listener.
const fn relaying(client: IpAddr, from: &'static str, to: &'static str) -> Session {
    Session { client, listener: "smtp", tls: false, login: None, from, before: None, to }
}

/// From a hotel to the submission listener, over TLS.
const fn submitting(login: &'static str, from: &'static str, to: &'static str) -> Session {
    Session { client: HOTEL, listener: "submission", tls: true, login: Some(login), from, before: None, to }
}

const NETWORKS: &str = "networks = [\"127.0.1.0/24\"]";
const SENDERS: &str = "senders = [\"@proseware.example\"]";

const ROWS: &[Row] = &[
    Row {
        remedy: Remedy::StartTls,
        words: "start TLS before MAIL",
        denied: Session { listener: "inner", ..relaying(INSIDE, KIM, BOB) },
        changes: &[Change::Session(Session { listener: "inner", tls: true, ..relaying(INSIDE, KIM, BOB) })],
    },
    Row {
        remedy: Remedy::LogIn,
        words: "log in on listener submission",
        denied: Session { login: None, ..submitting(LOGIN, LOGIN, BOB) },
        changes: &[Change::Session(submitting(LOGIN, LOGIN, BOB))],
    },
    Row {
        remedy: Remedy::LogIn,
        words: "log in, or set login_required = \"never\" at tenants/contoso.toml:4",
        denied: relaying(CONTOSO, ANN, BOB),
        changes: &[
            Change::Session(Session { client: CONTOSO, ..submitting(ANN, ANN, BOB) }),
            Change::Files(&[(
                "tenants/contoso.toml",
                "login_required = \"always\"",
                "login_required = \"never\"",
            )]),
        ],
    },
    Row {
        remedy: Remedy::LogInOrAddNetwork,
        words: "log in on a submission listener as a login of tenant proseware, or add \"127.0.3.9\" to its \
                networks (tenants/proseware.toml:3)",
        denied: relaying(HOTEL, LOGIN, BOB),
        changes: &[
            Change::Session(submitting(LOGIN, LOGIN, BOB)),
            Change::Files(&[(PROSEWARE, NETWORKS, "networks = [\"127.0.1.0/24\", \"127.0.3.9\"]")]),
        ],
    },
    Row {
        remedy: Remedy::LogInOrAddNetwork,
        words: "log in on a submission listener, or add \"127.0.3.9\" to the networks and \
                \"eve@stranger.example\" to the senders of a tenant",
        denied: relaying(HOTEL, STRANGER, BOB),
        changes: &[Change::Files(&[
            (PROSEWARE, NETWORKS, "networks = [\"127.0.1.0/24\", \"127.0.3.9\"]"),
            (PROSEWARE, SENDERS, "senders = [\"@proseware.example\", \"eve@stranger.example\"]"),
        ])],
    },
    Row {
        remedy: Remedy::LogInOrAddNetwork,
        words: "log in on a submission listener, or add \"127.0.3.9\" to the networks of a tenant with \
                null_sender = true",
        denied: relaying(HOTEL, "", BOB),
        changes: &[Change::Files(&[
            (PROSEWARE, NETWORKS, "networks = [\"127.0.1.0/24\", \"127.0.3.9\"]"),
            (PROSEWARE, "null_sender = false", "null_sender = true"),
        ])],
    },
    Row {
        remedy: Remedy::LogInOrAddNetwork,
        words: "log in on a submission listener, or list 127.0.1.200 in the networks of its tenant: it is \
                more specific than the excluded range 127.0.1.128/25 at tenants/proseware.toml:1",
        denied: relaying(EXCLUDED, KIM, BOB),
        changes: &[Change::Files(&[(PROSEWARE, NETWORKS, "networks = [\"127.0.1.0/24\", \"127.0.1.200\"]")])],
    },
    Row {
        remedy: Remedy::LogInOrAddNetwork,
        words: "log in as the tenant, or set own_senders_from_strangers = \"accept\" at \
                tenants/contoso.toml:5",
        denied: relaying(HOTEL, ANN, "ben@contoso.example"),
        changes: &[
            Change::Session(submitting(ANN, ANN, "ben@contoso.example")),
            Change::Files(&[(
                "tenants/contoso.toml",
                "own_senders_from_strangers = \"deny\"",
                "own_senders_from_strangers = \"accept\"",
            )]),
        ],
    },
    Row {
        remedy: Remedy::PlainAddress,
        words: "write the recipient as name@domain, with nothing else in it",
        denied: relaying(INSIDE, KIM, "bob%adatum.example@proseware.example"),
        changes: &[Change::Session(relaying(INSIDE, KIM, BOB))],
    },
    Row {
        remedy: Remedy::ListRecipient,
        words: "add new@listed.example to the list of recipients at tenants/proseware.toml:28",
        denied: relaying(HOTEL, STRANGER, "new@listed.example"),
        changes: &[Change::Files(&[(
            "listed.txt",
            "old@listed.example",
            "old@listed.example\nnew@listed.example",
        )])],
    },
    Row {
        remedy: Remedy::AddSender,
        words: "add \"eve@stranger.example\" to the senders of tenant proseware at tenants/proseware.toml:5",
        denied: relaying(INSIDE, STRANGER, BOB),
        changes: &[Change::Files(&[(
            PROSEWARE,
            SENDERS,
            "senders = [\"@proseware.example\", \"eve@stranger.example\"]",
        )])],
    },
    Row {
        remedy: Remedy::AddSender,
        words: "add \"kim@proseware.example\" to the senders of login terri@proseware.example at \
                tenants/proseware.toml:15",
        denied: submitting(LOGIN, KIM, BOB),
        changes: &[Change::Files(&[(
            PROSEWARE,
            "senders = [\"terri@proseware.example\"]",
            "senders = [\"terri@proseware.example\", \"kim@proseware.example\"]",
        )])],
    },
    Row {
        remedy: Remedy::UseReservedLogin,
        words: "log in as press, or add an identity to the block at tenants/proseware.toml:32",
        denied: submitting("other", "news@press.example", BOB),
        changes: &[
            Change::Session(submitting("press", "news@press.example", BOB)),
            Change::Files(&[(PROSEWARE, "identities = [\"press\"]", "identities = [\"press\", \"other\"]")]),
        ],
    },
    Row {
        remedy: Remedy::AllowNullSender,
        words: "set null_sender = true for tenant proseware (tenants/proseware.toml:2)",
        denied: relaying(INSIDE, "", BOB),
        changes: &[Change::Files(&[(PROSEWARE, "null_sender = false", "null_sender = true")])],
    },
    Row {
        remedy: Remedy::AllowNullSender,
        words: "set null_sender = true for login other (tenants/proseware.toml:23)",
        denied: submitting("other", "", BOB),
        changes: &[Change::Files(&[(
            PROSEWARE,
            "login = \"other\"",
            "login = \"other\"\nnull_sender = true",
        )])],
    },
    Row {
        remedy: Remedy::SeparateTransaction,
        words: "send to this recipient in a transaction of its own: clients do so after the 452",
        denied: Session { before: Some(BOB), ..relaying(INSIDE, KIM, "ben@contoso.example") },
        changes: &[Change::Session(relaying(INSIDE, KIM, "ben@contoso.example"))],
    },
    Row {
        remedy: Remedy::TakeOffList,
        words: "take the entry off the list, or list the client in allowed_clients (clients.txt:2)",
        denied: relaying(BLOCKED, STRANGER, LOGIN),
        changes: &[
            Change::Files(&[("clients.txt", "127.0.3.66", "")]),
            Change::Files(&[("allowed.txt", "# clients", "127.0.3.66")]),
        ],
    },
    Row {
        remedy: Remedy::TakeOffList,
        words: "take the entry off the list, or list the sender in allowed_senders (senders.txt:1)",
        denied: relaying(HOTEL, "spam@adatum.example", LOGIN),
        changes: &[
            Change::Files(&[("senders.txt", "spam@adatum.example", "")]),
            Change::Files(&[("allowed_senders.txt", "# senders", "spam@adatum.example")]),
        ],
    },
    Row {
        remedy: Remedy::TakeOffList,
        words: "take the entry off the list, or list the recipient in allowed_recipients (recipients.txt:1)",
        denied: relaying(INSIDE, KIM, "trap@adatum.example"),
        changes: &[
            Change::Files(&[("recipients.txt", "trap@adatum.example", "")]),
            Change::Files(&[("allowed_recipients.txt", "# recipients", "trap@adatum.example")]),
        ],
    },
];

const PROSEWARE: &str = "tenants/proseware.toml";

/// The files of two tenants: proseware by its networks and logins, contoso by its logins only.
fn write_files(directory: &Path) {
    let mut configuration = proseware::configuration(free_address(), free_address());
    configuration.listen("submission", "submission", "required");
    configuration.listen("inner", "relay", "required");
    let keys = "excluded_networks = [\"127.0.1.128/25\"]\nnull_sender = false\n";
    crate::tenant::write_keys(&mut configuration, keys.trim_end());
    write_login(&mut configuration, "press", "");
    write_login(&mut configuration, "other", "");
    let next_hop = configuration.next_hop;
    write_sections(
        &mut configuration,
        &format!(
            "[[relay_domain]]\ndomains = [\"listed.example\"]\nrecipients = \"../listed.txt\"\n\
             next_hops = [\"{next_hop}\"]\ntls = \"off\"\n\n\
             [[reserved_senders]]\nsenders = [\"@press.example\"]\nidentities = [\"press\"]\n"
        ),
    );
    let password = configuration.tenants[0].1.lines().find(|line| line.starts_with("password"));
    let contoso = format!(
        "name = \"contoso\"\nnetworks = [\"127.0.5.0/24\"]\nsenders = [\"@contoso.example\"]\n\
         login_required = \"always\"\nown_senders_from_strangers = \"deny\"\n\n[[relay_domain]]\n\
         domains = [\"contoso.example\"]\nnext_hops = [\"{next_hop}\"]\ntls = \"off\"\n\n\
         [[identity]]\nlogin = \"{ANN}\"\n{}\n",
        password.expect("the login has one")
    );
    configuration.tenants.push(("contoso".into(), contoso));
    configuration.node_extra.push_str("\n[lists]\n");
    for (key, file, content) in [
        ("blocked_clients", "clients.txt", "# blocked\n127.0.3.66\n"),
        ("blocked_senders", "senders.txt", "spam@adatum.example\n"),
        ("blocked_recipients", "recipients.txt", "trap@adatum.example\n"),
        ("allowed_clients", "allowed.txt", "# clients\n"),
        ("allowed_senders", "allowed_senders.txt", "# senders\n"),
        ("allowed_recipients", "allowed_recipients.txt", "# recipients\n"),
    ] {
        configuration.node_extra.push_str(&format!("{key} = \"{file}\"\n"));
        configuration.files.push((file.into(), content.into()));
    }
    configuration.files.push(("listed.txt".into(), "old@listed.example\n".into()));
    let _ = configuration.write(directory);
}

#[track_caller]
fn load(directory: &Path) -> Loaded {
    Config::load(&directory.join("gatepost.toml")).unwrap_or_else(|errors| panic!("{errors}"))
}

impl Session {
    /// What `loaded` decides about it.
    fn explain(&self, loaded: &Loaded) -> Explanation {
        let snapshot = &loaded.snapshot;
        let mut listeners = loaded.node.listeners.iter().map(|listener| &listener.policy);
        let listener = listeners.find(|listener| *listener.name == *self.listener).expect("it is configured");
        let identity = self.login.map(|login| snapshot.identity(login).expect("it is configured"));
        let facts = Facts { listener, client: self.client, tls: self.tls, identity, grants: &[] };
        let from = ReversePath::parse(self.from).expect("a sender");
        let explain = |to: &str, tenant| {
            let to = ForwardPath::parse(to).expect("a recipient");
            let explanation = snapshot.explain_recipient(&facts, from, to, tenant);
            // What MAIL is refused for, no recipient comes to.
            match snapshot.explain_mail(&facts, from) {
                mail if !mail.decision.verdict.is_accept() => mail,
                _ => explanation,
            }
        };
        let tenant = self.before.and_then(|before| {
            let decision = explain(before, None).decision;
            assert!(decision.verdict.is_accept(), "{before} is accepted");
            decision.tenant
        });
        explain(self.to, tenant)
    }
}

#[test]
fn the_change_that_a_remedy_names_turns_the_denial() {
    for Row { remedy, words, denied, changes } in ROWS {
        for change in *changes {
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let directory = folder.path();
            write_files(directory);
            let before = denied.explain(&load(directory));
            assert!(!before.decision.verdict.is_accept(), "{denied:?} is not denied");
            assert_eq!(before.decision.remedy, *remedy, "{denied:?}");
            let told = before.remedy.expect("a denial names its remedy");
            assert_eq!(told.replace(&format!("{}/", directory.display()), ""), *words);
            let session = match change {
                Change::Session(session) => *session,
                Change::Files(edits) => {
                    for edit in *edits {
                        apply(directory, edit);
                    }
                    *denied
                }
            };
            let after = session.explain(&load(directory));
            assert!(after.decision.verdict.is_accept(), "{words}: {session:?} is still denied: {after:?}");
        }
    }
}

/// Makes one edit, which must find its line.
#[track_caller]
fn apply(directory: &Path, (file, from, to): &Edit) {
    let path = directory.join(file);
    let text = fs::read_to_string(&path).expect("the file was written");
    assert_eq!(text.matches(from).count(), 1, "{from:?} in {file}");
    fs::write(path, text.replace(from, to)).expect("the test folder can be written");
}
