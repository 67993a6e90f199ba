//! Every route of the admin API against every kind of token: its status, and that an answer to a tenant's
//! token says nothing of another tenant. The names of the two tenants begin alike. A route that is new has
//! no entry here, and fails the test until it has one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use testbed::http::http;
use testbed::net::{PATIENCE, eventually, free_address};
use testbed::netns;

use crate::g2_explanations::ticket_of;
use crate::house::House;

/// A tenant of the scene, with words that stand nowhere but in what is its own.
struct Tenant {
    name: &'static str,
    domain: &'static str,
    login: &'static str,
    /// In its network.
    inside: IpAddr,
    /// From where its user reads her mailbox.
    outside: &'static str,
    read: &'static str,
    admin: &'static str,
    report: &'static str,
}

const OURS: Tenant = Tenant {
    name: "proseware",
    domain: "home.example",
    login: "terri@home.example",
    inside: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
    outside: "203.0.113.7",
    read: "the-token-to-look-at-proseware",
    admin: "the-token-to-change-proseware",
    report: "the-mailbox-token-of-proseware",
};

const THEIRS: Tenant = Tenant {
    name: "proseware-eu",
    domain: "abroad.example",
    login: "luca@abroad.example",
    inside: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    outside: "203.0.113.9",
    read: "the-token-to-look-at-proseware-eu",
    admin: "the-token-to-change-proseware-eu",
    report: "the-mailbox-token-of-proseware-eu",
};

const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 66));

const READ_ALL: &str = "the-token-to-look-at-all-tenants";
const ADMIN_ALL: &str = "the-token-to-change-all-tenants";

/// Who asks, of whatever belongs to one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// For all tenants, to look.
    ReadAll,
    /// For all tenants, to change.
    AdminAll,
    /// For that tenant, to look.
    ReadOwn,
    /// For that tenant, to change.
    AdminOwn,
    /// The other tenant's, to look.
    ReadForeign,
    /// The other tenant's, to change.
    AdminForeign,
    /// That tenant's mailbox server.
    ReportOwn,
    /// The other tenant's mailbox server.
    ReportForeign,
    /// A token that is none.
    Garbage,
    /// None at all.
    Nobody,
}

const EVERYONE: [Who; 10] = [
    Who::ReadAll,
    Who::AdminAll,
    Who::ReadOwn,
    Who::AdminOwn,
    Who::ReadForeign,
    Who::AdminForeign,
    Who::ReportOwn,
    Who::ReportForeign,
    Who::Garbage,
    Who::Nobody,
];

/// A request for something of a tenant, and its status for each of [`EVERYONE`].
struct Case {
    method: &'static str,
    path: &'static str,
    ask: fn(&Things) -> (String, Value),
    statuses: [u16; EVERYONE.len()],
}

/// What belongs to one tenant.
struct Things {
    tenant: &'static Tenant,
    ticket: String,
    message: String,
}

/// For each of [`EVERYONE`]; a client without a token that opens anything gets 401, whatever the path.
const fn say(known: [u16; 8]) -> [u16; EVERYONE.len()] {
    let [a, b, c, d, e, f, g, h] = known;
    [a, b, c, d, e, f, g, h, 401, 401]
}

fn nothing(path: &str) -> (String, Value) {
    (path.to_owned(), Value::Null)
}

/// In the order of: read all, admin all, read own, admin own, read foreign, admin foreign, report own, report
/// foreign. Each is asked once; what one of them changes is made good before the next.
const CASES: &[Case] = &[
    Case {
        method: "GET",
        path: "/v1/status",
        ask: |_| nothing("/v1/status"),
        statuses: say([200, 200, 403, 403, 403, 403, 403, 403]),
    },
    Case {
        method: "GET",
        path: "/v1/tenants",
        ask: |_| nothing("/v1/tenants"),
        statuses: say([200, 200, 200, 200, 200, 200, 403, 403]),
    },
    Case {
        method: "GET",
        path: "/v1/tenants/{name}",
        ask: |things| nothing(&format!("/v1/tenants/{}", things.tenant.name)),
        statuses: say([200, 200, 200, 200, 404, 404, 403, 403]),
    },
    Case {
        method: "POST",
        path: "/v1/explain",
        ask: |things| {
            let question = json!({
                "client": things.tenant.inside,
                "from": format!("kim@{}", things.tenant.domain),
                "to": "bob@adatum.example",
            });
            ("/v1/explain".into(), question)
        },
        statuses: say([200, 200, 403, 403, 403, 403, 403, 403]),
    },
    Case {
        method: "GET",
        path: "/v1/tickets/{ticket}",
        ask: |things| nothing(&format!("/v1/tickets/{}", things.ticket)),
        statuses: say([200, 200, 200, 200, 404, 404, 403, 403]),
    },
    Case {
        method: "GET",
        path: "/v1/grants",
        ask: |_| nothing("/v1/grants"),
        statuses: say([200, 200, 200, 200, 200, 200, 403, 403]),
    },
    Case {
        method: "POST",
        path: "/v1/grants",
        ask: |Things { tenant, .. }| {
            ("/v1/grants".into(), json!({ "address": tenant.outside, "login": tenant.login }))
        },
        statuses: say([403, 200, 403, 200, 403, 422, 200, 422]),
    },
    Case {
        method: "DELETE",
        path: "/v1/grants",
        ask: |things| nothing(&format!("/v1/grants?tenant={}", things.tenant.name)),
        statuses: say([403, 200, 403, 200, 403, 200, 403, 403]),
    },
    Case {
        method: "POST",
        path: "/v1/grants/dovecot",
        ask: |Things { tenant, .. }| {
            let login = json!({
                "login": tenant.login, "remote": tenant.outside, "protocol": "imap", "success": true
            });
            ("/v1/grants/dovecot?command=report".into(), login)
        },
        statuses: say([403, 200, 403, 200, 403, 200, 200, 200]),
    },
    Case {
        method: "GET",
        path: "/v1/spool",
        ask: |_| nothing("/v1/spool"),
        statuses: say([200, 200, 200, 200, 200, 200, 403, 403]),
    },
    Case {
        method: "GET",
        path: "/v1/spool/{word}",
        ask: |things| nothing(&format!("/v1/spool/{}", things.message)),
        statuses: say([200, 200, 200, 200, 404, 404, 403, 403]),
    },
    Case {
        method: "POST",
        path: "/v1/spool/{word}",
        ask: |things| ("/v1/spool/hold".into(), json!({ "id": things.message })),
        statuses: say([403, 200, 403, 200, 403, 404, 403, 403]),
    },
    Case {
        method: "GET",
        path: "/v1/suspensions",
        ask: |_| nothing("/v1/suspensions"),
        statuses: say([200, 200, 200, 200, 200, 200, 403, 403]),
    },
    Case {
        method: "POST",
        path: "/v1/suspensions",
        ask: |things| ("/v1/suspensions".into(), json!({ "login": things.tenant.login, "for": "1h" })),
        statuses: say([403, 201, 403, 201, 403, 404, 403, 403]),
    },
    Case {
        method: "DELETE",
        path: "/v1/suspensions",
        ask: |things| nothing(&format!("/v1/suspensions?login={}", things.tenant.login)),
        statuses: say([403, 200, 403, 200, 403, 404, 403, 403]),
    },
];

impl Tenant {
    fn file(&self) -> String {
        let Self { name, domain, login, inside, report, .. } = self;
        format!(
            "name = \"{name}\"\nnetworks = [\"{inside}\"]\nsenders = [\"@{domain}\"]\n\n\
             [[identity]]\nlogin = \"{login}\"\npassword = \"{HASH}\"\nsenders = [\"{login}\"]\n\n\
             [grants]\ntoken = \"{report}\"\n"
        )
    }
}

/// Of a password that no login has.
const HASH: &str =
    "$argon2id$v=19$m=64,t=1,p=1$Z2F0ZXBvc3QtdGVzdGJlZA$gy3clQEqPygPfs6UhRGQ/ygwz5KUDH5sPY76KYmY6IA";

/// A gateway with both tenants, and something of each everywhere.
struct Scene {
    house: House,
    admin: SocketAddr,
    things: [Things; 2],
}

impl Scene {
    /// `None` where this user gets no namespace: the test is noted as skipped. Loopback addresses get no
    /// grants, so it needs one.
    fn start(test: &str) -> Option<Self> {
        let addresses = [OURS.inside, THEIRS.inside, STRANGER].map(|address| format!("{address}/32"));
        if !netns::enter(test, &addresses.each_ref().map(String::as_str)) {
            return None;
        }
        let admin = free_address();
        let tokens = [
            (READ_ALL, "read", None),
            (ADMIN_ALL, "admin", None),
            (OURS.read, "read", Some(&OURS)),
            (OURS.admin, "admin", Some(&OURS)),
            (THEIRS.read, "read", Some(&THEIRS)),
            (THEIRS.admin, "admin", Some(&THEIRS)),
        ];
        let tokens = tokens.map(|(token, role, tenant)| {
            let tenant = tenant.map_or_else(String::new, |tenant| format!("tenant = \"{}\"\n", tenant.name));
            format!("[[token]]\nname = \"x\"\ntoken = \"{token}\"\nrole = \"{role}\"\n{tenant}")
        });
        let house = House::start_with(|configuration| {
            // What is queued stays.
            configuration.next_hop = free_address();
            let section = format!("\n[admin]\naddress = \"{admin}\"\ntokens = \"tokens.toml\"\n");
            configuration.node_extra.push_str(&section);
            configuration.files.push(("tokens.toml".into(), tokens.concat()));
            configuration.tenants = [&OURS, &THEIRS].map(|tenant| (tenant.name.into(), tenant.file())).into();
        });
        let things = [&OURS, &THEIRS].map(|tenant| Self::fill(&house, admin, tenant));
        Some(Self { house, admin, things })
    }

    /// A ticket and a queued message of `tenant`.
    fn fill(house: &House, admin: SocketAddr, tenant: &'static Tenant) -> Things {
        let own = format!("kim@{}", tenant.domain);
        let mut dialog = house.connect(tenant.inside);
        dialog.command("MAIL FROM:<kim@foreign.example>", 250);
        let ticket = ticket_of(&dialog.command("RCPT TO:<bob@adatum.example>", 553));
        house.connect(tenant.inside).deliver(&own, &["bob@adatum.example"], b"Subject: x\r\n\r\nwaits\r\n");
        let path = format!("/v1/spool?sender={own}");
        let mut message = String::new();
        let is_listed = eventually(PATIENCE, || {
            let (_, listed) = ask(admin, Some(ADMIN_ALL), "GET", &path, &Value::Null);
            listed["messages"][0]["id"].as_str().is_some_and(|id| {
                id.clone_into(&mut message);
                true
            })
        });
        assert!(is_listed, "the message of {} is queued", tenant.name);
        Things { tenant, ticket, message }
    }

    /// Every tenant has a grant, and one suspended login that nothing else needs.
    fn restore(&self) {
        for Things { tenant, message, .. } in &self.things {
            let grant = json!({ "address": tenant.outside, "login": tenant.login });
            let lift = format!("/v1/suspensions?login={}", tenant.login);
            let suspend = json!({ "client": "203.0.113.200", "tenant": tenant.name });
            for (method, path, body) in [
                ("DELETE", &*lift, Value::Null),
                ("POST", "/v1/grants", grant),
                ("POST", "/v1/suspensions", suspend),
                ("POST", "/v1/spool/release", json!({ "id": message })),
            ] {
                let (status, answer) = ask(self.admin, Some(ADMIN_ALL), method, path, &body);
                assert!(status < 300, "{method} {path}: {status} {answer}");
            }
        }
    }

    fn token(who: Who, own: &Tenant, foreign: &Tenant) -> Option<&'static str> {
        match who {
            Who::ReadAll => Some(READ_ALL),
            Who::AdminAll => Some(ADMIN_ALL),
            Who::ReadOwn => Some(own.read),
            Who::AdminOwn => Some(own.admin),
            Who::ReadForeign => Some(foreign.read),
            Who::AdminForeign => Some(foreign.admin),
            Who::ReportOwn => Some(own.report),
            Who::ReportForeign => Some(foreign.report),
            Who::Garbage => Some("the-token-to-change-all-tenant"),
            Who::Nobody => None,
        }
    }

    /// The tenants that have a grant.
    fn granted(&self) -> BTreeSet<String> {
        let (_, listed) = ask(self.admin, Some(ADMIN_ALL), "GET", "/v1/grants", &Value::Null);
        let grants = listed["grants"].as_array().expect("a list");
        grants.iter().map(|grant| grant["tenant"].as_str().expect("a name").to_owned()).collect()
    }

    /// Whether the message of `things` is held.
    fn is_held(&self, things: &Things) -> bool {
        let path = format!("/v1/spool/{}", things.message);
        ask(self.admin, Some(ADMIN_ALL), "GET", &path, &Value::Null).1["state"] == "held"
    }
}

fn ask(admin: SocketAddr, token: Option<&str>, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = bearer.iter().map(|bearer| ("Authorization", &**bearer)).collect();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (status, answer) = http(admin, method, path, &headers, &body).expect("the admin API answers");
    let answer = serde_json::from_str(&answer)
        .unwrap_or_else(|error| panic!("{method} {path} answers no JSON: {error}: {answer}"));
    (status, answer)
}

/// Whether an answer says anything of `tenant`: a text in it that is its name, or holds what is its own.
fn tells_of(answer: &Value, things: &Things) -> bool {
    let Things { tenant, ticket, message } = things;
    match answer {
        Value::String(text) => {
            let marks = [tenant.domain, tenant.outside, ticket, message, &format!("/{}.toml", tenant.name)];
            text == tenant.name || marks.iter().any(|mark| text.contains(mark))
        }
        Value::Array(values) => values.iter().any(|value| tells_of(value, things)),
        Value::Object(values) => values.values().any(|value| tells_of(value, things)),
        _ => false,
    }
}

#[test]
fn every_route_has_its_cases() {
    let routes: BTreeSet<_> = control::admin_routes().into_iter().collect();
    let cases: BTreeSet<_> = CASES.iter().map(|case| (case.method, case.path)).collect();
    assert_eq!(cases, routes, "add a case for each route, with the status for each role");
}

#[test]
fn every_role_gets_what_is_its_business_and_nothing_of_another_tenants() {
    let Some(scene) =
        Scene::start("admin_routes::every_role_gets_what_is_its_business_and_nothing_of_another_tenants")
    else {
        return;
    };
    let [ours, theirs] = &scene.things;
    scene.restore();
    for (own, foreign) in [(ours, theirs), (theirs, ours)] {
        for Case { method, path, ask: request, statuses } in CASES {
            for (&who, &expected) in EVERYONE.iter().zip(statuses) {
                // A wrong token has to wait for its answer, and it is the same for both tenants.
                if matches!(who, Who::Garbage | Who::Nobody) && own.tenant.name != OURS.name {
                    continue;
                }
                if *method != "GET" {
                    scene.restore();
                }
                let (asked, body) = request(own);
                let token = Scene::token(who, own.tenant, foreign.tenant);
                let (status, answer) = ask(scene.admin, token, method, &asked, &body);
                let case = format!("{who:?} {method} {path} of {}: {status} {answer}", own.tenant.name);
                assert_eq!(status, expected, "{case}");
                // What it asked for by name is said back to it; the rest would be news.
                let is_foreign = matches!(who, Who::ReadForeign | Who::AdminForeign | Who::ReportForeign);
                if is_foreign && status < 400 {
                    assert!(!tells_of(&answer, own), "{case}");
                } else if matches!(who, Who::ReadOwn | Who::AdminOwn | Who::ReportOwn) {
                    assert!(!tells_of(&answer, foreign), "{case}");
                    let is_a_list = *method == "GET" && status == 200;
                    assert!(!is_a_list || tells_of(&answer, own), "its own is there: {case}");
                } else if matches!(who, Who::Garbage | Who::Nobody) {
                    assert!(!tells_of(&answer, own) && !tells_of(&answer, foreign), "{case}");
                }
                let may = matches!(who, Who::AdminAll | Who::AdminOwn);
                if *method == "DELETE" && *path == "/v1/grants" {
                    assert_eq!(!scene.granted().contains(own.tenant.name), may, "{case}");
                }
                assert!(scene.granted().contains(foreign.tenant.name), "{case}");
                assert_eq!(
                    scene.is_held(own),
                    may && *path == "/v1/spool/{word}" && *method == "POST",
                    "{case}"
                );
            }
        }
    }
    drop(scene.house);
}

#[test]
fn a_tenants_token_ends_the_grants_of_that_tenant_alone_whatever_it_names() {
    let Some(scene) =
        Scene::start("admin_routes::a_tenants_token_ends_the_grants_of_that_tenant_alone_whatever_it_names")
    else {
        return;
    };
    for (own, foreign) in [(&OURS, &THEIRS), (&THEIRS, &OURS)] {
        for name in [
            format!("address={}", foreign.outside),
            format!("login={}", foreign.login),
            format!("tenant={}", foreign.name),
        ] {
            scene.restore();
            let path = format!("/v1/grants?{name}");
            let (status, answer) = ask(scene.admin, Some(own.admin), "DELETE", &path, &Value::Null);
            assert_eq!((status, answer), (200, json!({ "revoked": [] })), "{name}");
            assert_eq!(scene.granted().len(), 2, "{name}");
        }
    }
}

#[test]
fn the_ticket_of_a_stranger_is_for_those_who_see_all_tenants() {
    let Some(scene) = Scene::start("admin_routes::the_ticket_of_a_stranger_is_for_those_who_see_all_tenants")
    else {
        return;
    };
    let mut dialog = scene.house.connect(STRANGER);
    dialog.command("MAIL FROM:<x@elsewhere.example>", 250);
    let ticket = ticket_of(&dialog.command("RCPT TO:<bob@adatum.example>", 550));
    let path = format!("/v1/tickets/{ticket}");
    for (token, expected) in
        [(READ_ALL, 200), (ADMIN_ALL, 200), (OURS.admin, 404), (THEIRS.admin, 404), (OURS.report, 403)]
    {
        assert_eq!(ask(scene.admin, Some(token), "GET", &path, &Value::Null).0, expected, "{token}");
    }
}
