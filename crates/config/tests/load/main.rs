//! Configurations as people write them, and as they get them wrong.

mod many;

use std::fs;
use std::path::Path;
use std::time::Duration;

use config::{Config, ConfigErrors, Loaded, Warning};
use mail::limits::SessionLimits;
use policy::{Role, TenantIx, Threshold, TlsPolicy, Whom};
use testbed::folder::{Folder, NODE, TENANT};

/// A hash that no password fits.
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA";

const IDENTITY: &str = r#"
[[identity]]
login = "terri"
password = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA"
"#;

trait Load {
    fn load(&self) -> Result<Loaded, ConfigErrors>;

    /// Each error as `file:line key`, and its whole text.
    fn errors(&self) -> Vec<(String, String)>;
}

impl Load for Folder {
    fn load(&self) -> Result<Loaded, ConfigErrors> {
        Config::load(&self.node())
    }

    fn errors(&self) -> Vec<(String, String)> {
        let errors = self.load().expect_err("it must not load");
        errors
            .iter()
            .map(|error| {
                assert!(!error.remedy.is_empty(), "{error}");
                let file = Path::new(&*error.origin.file).file_name().unwrap().to_str().unwrap();
                (format!("{file}:{} {}", error.origin.line, error.key), error.to_string())
            })
            .collect()
    }
}

/// The one error of a configuration.
fn error(node: &str, tenants: &[(&str, &str)]) -> (String, String) {
    let mut errors = Folder::new(node, tenants).errors();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.remove(0)
}

#[test]
fn the_samples_load() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    let read = |name: &str| fs::read_to_string(samples.join(name)).unwrap();
    let folder = Folder::new(&read("gatepost.toml"), &[("proseware", &read("tenants/proseware.toml"))]);
    for directory in ["tls", "tenants/recipients"] {
        fs::create_dir(folder.join(directory)).unwrap();
    }
    let made = rcgen::generate_simple_self_signed(["relay.proseware.example".to_owned()]).unwrap();
    folder.write("tls/tls.crt", &made.cert.pem());
    folder.write("tenants/recipients/proseware.txt", &read("tenants/recipients/proseware.txt"));
    folder.write("admin-tokens.toml", &read("admin-tokens.toml"));
    // As those do who have neither the key nor the host.
    let loaded = Config::review(&folder.node()).unwrap_or_else(|errors| panic!("{errors}"));
    let of_the_host = |warning: &&Warning| !matches!(&*warning.key, "spool.path" | "admin.socket");
    assert_eq!(loaded.warnings.iter().find(of_the_host), None);
    assert!(loaded.node.tls.as_ref().is_some_and(|tls| tls.expiry_unix_seconds.is_some()));

    let node = &loaded.node;
    assert_eq!(&*node.hostname, "relay.proseware.example");
    assert_eq!(node.spool.capacity_bytes, 20 << 30);
    assert_eq!(node.retry.longest, Duration::from_secs(3600));
    assert_eq!(node.listeners[1].policy.role, Role::Submission);
    assert_eq!(node.listeners[1].policy.tls, TlsPolicy::Required);
    assert_eq!(node.submission_port(), Some(587));
    assert_eq!(node.admin.tokens.len(), 1);
    let tenant = loaded.snapshot.tenant_named("proseware").unwrap();
    let limits = loaded.snapshot.limits(tenant);
    assert_eq!(limits.message_bytes_max, Some(25 << 20));
    assert_eq!(limits.allowance(Whom::Tenant).connections_max, Some(500));
    assert_eq!(limits.allowance(Whom::Tenant).rates[0].to_string(), "6000 messages a minute");
    assert!(limits.containment.is_none() && loaded.snapshot.limits.client.is_empty());
    assert!(loaded.snapshot.tenant(tenant).grants.as_ref().is_some_and(|terms| terms.token_sha256.is_some()));
    assert!(loaded.snapshot.identity("Terri@Proseware.example").is_some());
    assert_eq!(loaded.snapshot.network_tenant("198.51.100.7".parse().unwrap()), Some(TenantIx(0)));
}

#[test]
fn the_smallest_configuration_loads() {
    let loaded = Folder::new(NODE, &[("a", TENANT)]).load().unwrap();
    assert_eq!(loaded.node.workers, 0);
    assert_eq!(loaded.node.spool.capacity_bytes, u64::MAX);
    assert_eq!(loaded.node.spool.while_recovering, config::WhileRecovering::Closed);
    assert_eq!(loaded.snapshot.generation, 1);
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let node = NODE.replace("hostname =", "hostnme = \"x\"\nhostname =");
    let (place, text) = error(&node, &[("a", TENANT)]);
    assert_eq!(place, "gatepost.toml:2 node.hostnme");
    assert!(text.ends_with("unknown key; did you mean \"hostname\"?"), "{text}");

    let (place, text) = error(NODE, &[("a", &format!("{TENANT}quux_of_the_day = 1\n"))]);
    assert_eq!(place, "a.toml:4 quux_of_the_day");
    assert!(text.contains("the keys here are name, networks,"), "{text}");
}

#[test]
fn every_error_is_reported_in_one_run() {
    let node = NODE.replace("127.0.0.1:0", "localhost").replace("\"off\"", "\"of\"");
    let folder = Folder::new(
        &node,
        &[("a", "name = \"a\"\nnetworks = [\n  \"10.0.0\",\n  \"0.0.0.0/0\",\n]\n"), ("b", "= 1")],
    );
    let places: Vec<_> = folder.errors().into_iter().map(|(place, _)| place).collect();
    assert_eq!(
        places,
        [
            "gatepost.toml:9 listener.address",
            "gatepost.toml:11 listener.tls",
            "a.toml:1 senders",
            "a.toml:3 networks",
            "a.toml:4 networks",
            "b.toml:1 ",
        ]
    );
}

#[test]
fn a_malformed_prefix_names_its_line() {
    let (place, text) = error(NODE, &[("a", &TENANT.replace("198.51.100.0/24", "198.51.100.0/33"))]);
    assert_eq!(place, "a.toml:2 networks");
    assert!(
        text.contains("\"198.51.100.0/33\": no address and no network; write a prefix such as"),
        "{text}"
    );
}

#[test]
fn two_tenants_with_one_login_name_both_lines() {
    let one = format!("{TENANT}{IDENTITY}");
    let two = format!("name = \"b\"\nsenders = [\"@b.example\"]\n{}", IDENTITY.replace("terri", "TERRI"));
    let (place, text) = error(NODE, &[("a", &one), ("b", &two)]);
    assert_eq!(place, "b.toml:5 login");
    assert!(text.contains("a.toml:6)"), "{text}");
}

#[test]
fn contradictions_between_tenants_name_both_lines() {
    let relay = "[[relay_domain]]\ndomains = [\"r.example\"]\nnext_hops = [\"m.example\"]\n";
    let one = format!("{TENANT}{relay}");
    let two = format!("name = \"b\"\nsenders = [\"@b.example\"]\nnetworks = [\"198.51.100.0/24\"]\n{relay}");
    let errors = Folder::new(NODE, &[("a", &one), ("b", &two)]).errors();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert_eq!(errors[0].0, "b.toml:3 networks");
    assert!(errors[0].1.contains("a.toml:2)"), "{}", errors[0].1);
    assert_eq!(errors[1].0, "b.toml:5 domains");
    assert!(errors[1].1.contains("a.toml:5)"), "{}", errors[1].1);
}

#[test]
fn a_missing_certificate_names_the_path() {
    let node = format!(
        "{}\n[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n",
        NODE.replace("\"off\"", "\"starttls\"")
    );
    let folder = Folder::new(&node, &[("a", TENANT)]);
    let made = rcgen::KeyPair::generate().unwrap();
    folder.write("tls.key", &made.serialize_pem());
    let errors = folder.errors();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert_eq!(errors[0].0, "gatepost.toml:21 tls.certificate");
    assert!(errors[0].1.contains("tls.crt") && errors[0].1.contains("PEM"), "{}", errors[0].1);
    let (place, _) = error(&NODE.replace("\"off\"", "\"starttls\""), &[("a", TENANT)]);
    assert_eq!(place, "gatepost.toml:7 listener.tls");
}

#[test]
fn limits_say_what_they_count_of_whom_and_in_how_long() {
    let node = format!("{NODE}[limits.client]\nconnections = 20\n[suspension]\nreply = \"temporary\"\n");
    let tenant = format!(
        "{TENANT}[limits]\nconnections = 500\n[limits.identity]\nbytes_per_hour = \"1MiB\"\n\
         recipients_per_day = 1000\n[limits.network]\nmessages_per_second = 5\n[limits.client]\n\
         connections_per_minute = 60\n[containment]\ndenials = \"50/10m\"\nsuspend_for = \"2h\"\n"
    );
    let snapshot = Folder::new(&node, &[("a", &tenant)]).load().unwrap().snapshot;
    assert_eq!(snapshot.limits.client.connections_max, Some(20));
    assert!(snapshot.limits.suspension_is_temporary);
    let limits = snapshot.limits(TenantIx(0));
    let rates = |whom| -> Vec<_> { limits.allowance(whom).rates.iter().map(ToString::to_string).collect() };
    assert_eq!(rates(Whom::Identity), ["1000 recipients a day", "1048576 bytes an hour"]);
    assert_eq!(rates(Whom::Network), ["5 messages a second"]);
    assert_eq!(rates(Whom::Client), ["60 connections a minute"]);
    let containment = limits.containment.as_ref().expect("it is written");
    assert_eq!(containment.denials, Some(Threshold { count: 50, within: Duration::from_secs(600) }));
    assert_eq!((containment.bounces, containment.suspend_for), (None, Duration::from_secs(7200)));
}

#[test]
fn what_a_session_may_cost_is_the_nodes_to_say_within_bounds() {
    let load = |limits: &str| Folder::new(&format!("{NODE}{limits}"), &[("a", TENANT)]).load();
    let written =
        "[limits]\nsession_errors = 50\nsession_idle_commands = 10\nrecipients_per_message = 100000\n";
    let expected = SessionLimits { errors_max: 50, idle_commands_max: 10, recipients_max: 100_000 };
    assert_eq!(load(written).unwrap().node.clients.sessions, expected);
    let strangers = "[limits.client]\nconnections = 20\n";
    let usual = SessionLimits { errors_max: 20, idle_commands_max: 1000, recipients_max: 10_000 };
    assert_eq!(load(strangers).unwrap().node.clients.sessions, usual);
    let line = NODE.lines().count() + 2;
    for (key, wrong, range) in [
        ("session_errors", "0", "1 to 10000"),
        ("session_errors", "10001", "1 to 10000"),
        ("session_idle_commands", "9", "10 to 1000000"),
        ("session_idle_commands", "\"off\"", "10 to 1000000"),
        ("recipients_per_message", "99", "100 to 100000"),
        ("recipients_per_message", "100001", "100 to 100000"),
    ] {
        let (place, text) = error(&format!("{NODE}[limits]\n{key} = {wrong}\n"), &[("a", TENANT)]);
        assert_eq!(place, format!("gatepost.toml:{line} limits.{key}"));
        assert!(text.contains(&format!("a whole number from {range}")), "{text}");
    }
}

#[test]
fn how_much_a_node_takes_is_said_by_it_and_no_tenant_passes_it() {
    let load = |limits: &str| Folder::new(&format!("{NODE}{limits}"), &[("a", TENANT)]).load().unwrap().node;
    let usual = load("").clients;
    assert_eq!((usual.message_bytes_max, usual.connections_max), (64 << 20, None));
    let written = load("[limits]\nmessage_size = \"100MiB\"\nconnections = 2000\n").clients;
    assert_eq!((written.message_bytes_max, written.connections_max), (100 << 20, Some(2000)));
    let line = NODE.lines().count() + 2;
    for (written, key) in [("connections = 63", "connections"), ("message_size = \"63KiB\"", "message_size")]
    {
        let (place, _) = error(&format!("{NODE}[limits]\n{written}\n"), &[("a", TENANT)]);
        assert_eq!(place, format!("gatepost.toml:{line} limits.{key}"));
    }
    let tenant = format!("{TENANT}[limits]\nmessage_size = \"100MiB\"\n");
    let (place, text) = error(NODE, &[("a", &tenant)]);
    assert_eq!(place, "a.toml:1 limits.message_size");
    assert!(text.contains("this node takes 67108864 at most"), "{text}");
    let raised = format!("{NODE}[limits]\nmessage_size = \"100MiB\"\n");
    assert!(
        Folder::new(&raised, &[("a", &tenant)]).load().is_ok(),
        "within the node's own a tenant may have more"
    );
}

#[test]
fn a_limit_of_nothing_and_a_threshold_without_a_time_are_errors() {
    for (addition, place) in [
        ("[limits]\nmessages_per_minute = 0\n", "a.toml:5 limits.messages_per_minute"),
        ("[limits.identity]\nmessages_per_mnute = 1\n", "a.toml:5 limits.identity.messages_per_mnute"),
        ("[limits.client]\nbytes_per_day = \"much\"\n", "a.toml:5 limits.client.bytes_per_day"),
        ("[containment]\nbounces = 50\n", "a.toml:5 containment.bounces"),
    ] {
        let (found, _) = error(NODE, &[("a", &format!("{TENANT}{addition}"))]);
        assert_eq!(found, place);
    }
}

#[test]
fn dns_is_read_as_people_write_it() {
    let text = format!(
        "{NODE}[dns]\nservers = [\"192.0.2.53\", \"[2001:db8::53]:5353\"]\ntimeout = \"2s\"\n\
         [[lists.dnsbl]]\nzone = \"Zen.example.\"\n\
         [[lists.dnsbl]]\nzone = \"b.example\"\nname = \"B\"\nanswers = [\"127.0.0.4\"]\n"
    );
    let dns = Folder::new(&text, &[("a", TENANT)]).load().expect("it is right").node.dns;
    let servers: Vec<String> = dns.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.53:53", "[2001:db8::53]:5353"]);
    assert_eq!(dns.timeout.as_secs(), 2);
    let lists: Vec<_> = dns.lists.iter().map(|list| (&*list.zone, &*list.name, list.answers.len())).collect();
    assert_eq!(lists, [("zen.example", "Zen.example", 0), ("b.example", "B", 1)]);
}

#[test]
fn what_is_wrong_with_dns_is_named_by_its_line() {
    for (text, place) in [
        ("[dns]\nservers = [\"ns.example\"]\n", "dns.servers"),
        ("[dns]\ntimeout = \"0s\"\n", "dns.timeout"),
        ("[[lists.dnsbl]]\nname = \"x\"\n", "dnsbl.zone"),
        ("[[lists.dnsbl]]\nzone = \"x@y\"\n", "dnsbl.zone"),
        ("[[lists.dnsbl]]\nzone = \"x\"\nanswers = [\"192.0.2.1\"]\n", "dnsbl.answers"),
    ] {
        let (found, message) = error(&format!("{NODE}{text}"), &[("a", TENANT)]);
        assert!(found.ends_with(place), "{found}: {message}");
    }
}

#[test]
fn a_relay_domain_that_asks_its_next_hop_is_no_reason_to_warn() {
    let relay = "[[relay_domain]]\ndomains = [\"r.example\"]\nnext_hops = [\"192.0.2.9:25\"]\n";
    for (keys, warns) in [("", true), ("recipients = \"call-ahead\"\n", false)] {
        let loaded =
            Folder::new(NODE, &[("a", &format!("{TENANT}{relay}{keys}"))]).load().expect("it is right");
        let warned = loaded.warnings.iter().any(|warning| warning.to_string().contains("call-ahead"));
        assert_eq!(warned, warns, "{:?}", loaded.warnings);
        assert_eq!(loaded.snapshot.call_ahead("r.example").is_some(), !warns);
    }
}

#[test]
fn a_verifier_that_looks_unlike_what_unknown_logins_show_is_warned_of() {
    let login = |name: &str, scram: &str| format!("[[identity]]\nlogin = \"{name}\"\nscram = \"{scram}\"\n");
    let (usual, unusual) = (SCRAM, SCRAM.replace("$4096:", "$8192:"));
    let warned = |scram: &str| {
        let tenant = format!("{TENANT}{}{}{}", login("t", usual), login("k", scram), login("a", usual));
        let loaded = Folder::new(NODE, &[("a", &tenant)]).load().expect("it is right");
        let warnings = loaded.warnings.iter().map(ToString::to_string);
        warnings.filter(|warning| warning.contains("iterations")).collect::<Vec<_>>()
    };
    assert!(warned(usual).is_empty());
    let [warning] = &warned(&unusual)[..] else { panic!("one warning") };
    assert!(warning.contains("a.toml:8") && warning.contains("\"k\""), "{warning}");
}

#[test]
fn a_password_in_the_clear_is_refused_and_never_shown() {
    let tenant = format!("{TENANT}[[identity]]\nlogin = \"t\"\npassword = \"hunter2\"\n");
    let (place, text) = error(NODE, &[("a", &tenant)]);
    assert_eq!(place, "a.toml:6 identity.password");
    assert!(text.contains("gatepost password") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_secret_without_quotes_is_named_by_its_type_and_never_shown() {
    let identity = format!("{TENANT}[[identity]]\nlogin = \"t\"\n");
    for (added, place, kind) in [
        ("password = 12345678\n", "a.toml:6 identity.password", "integer"),
        ("password = \"HASH\"\nscram = 1234.5678\n", "a.toml:7 identity.scram", "float"),
        ("password = \"HASH\"\n[grants]\ntoken = 12345678\n", "a.toml:8 grants.token", "integer"),
        ("password = \"HASH\"\n[grants]\nsha256 = 12345678\n", "a.toml:8 grants.sha256", "integer"),
        ("password = word12345678\n", "a.toml:6 ", "not TOML"),
    ] {
        let tenant = format!("{identity}{added}").replace("HASH", HASH);
        let errors = Folder::new(NODE, &[("a", &tenant)]).errors();
        assert!(errors.iter().any(|(found, text)| found == place && text.contains(kind)), "{errors:?}");
        assert!(!format!("{errors:?}").contains("5678"), "{errors:?}");
    }
    let (place, text) = error(&format!("{NODE}[login]\nsecret = 12345678\n"), &[]);
    assert!(place.ends_with("login.secret") && !text.contains("5678"), "{place}: {text}");
}

#[test]
fn a_secret_may_lie_in_a_file() {
    let tenant = format!("{TENANT}[[identity]]\nlogin = \"t\"\npassword = \"file:t.secret\"\n");
    let folder = Folder::new(NODE, &[("a", &tenant)]);
    assert_eq!(folder.errors()[0].0, "a.toml:6 identity.password");
    folder.write("tenants/t.secret", &format!("{HASH}\n"));
    let snapshot = folder.load().unwrap().snapshot;
    assert_eq!(snapshot.credential(snapshot.identity("t").unwrap()), HASH);
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_one_clear_error() {
    let errors = Config::load(Path::new("/nonexistent/gatepost.toml")).unwrap_err();
    assert_eq!(errors.count(), 1);
    assert!(errors.to_string().starts_with("/nonexistent/gatepost.toml: cannot read the file"), "{errors}");
    let (place, _) = error("[node\n", &[]);
    assert_eq!(place, "gatepost.toml:1 ");
    let mut node = Folder::new(NODE, &[]);
    fs::remove_dir(node.join("tenants")).unwrap();
    assert_eq!(node.errors()[0].0, "gatepost.toml:14 policy.tenants");
    node = Folder::new("", &[]);
    let missing: Vec<_> = node.errors().into_iter().map(|(place, _)| place).collect();
    for section in ["[node]", "[spool]", "[[listener]]", "[policy]"] {
        assert!(missing.contains(&format!("gatepost.toml:1 {section}")), "{missing:?}");
    }
}

#[test]
fn wrong_kinds_of_values_say_what_to_write() {
    for (from, to, place) in [
        ("hostname = \"relay.example\"", "hostname = 5", "gatepost.toml:2 node.hostname"),
        ("hostname = \"relay.example\"", "hostname = \"a b\"", "gatepost.toml:2 node.hostname"),
        ("path = \"spool\"", "path = \"spool\"\ncapacity = \"much\"", "gatepost.toml:6 spool.capacity"),
        (
            "path = \"spool\"",
            "path = \"spool\"\nwhile_recovering = \"open\"",
            "gatepost.toml:6 spool.while_recovering",
        ),
        ("[spool]", "workers = -1\n[spool]", "gatepost.toml:4 node.workers"),
        ("[spool]", "workers = \"4\"\n[spool]", "gatepost.toml:4 node.workers"),
        ("\"smarthost.example\"", "\"2001:db8::1\"", "gatepost.toml:18 next_hops"),
        ("role = \"relay\"", "role = \"submission\"", "gatepost.toml:11 listener.tls"),
        ("hostname = \"relay.example\"", "hostname = \"<script>\"", "gatepost.toml:2 node.hostname"),
        (
            "[policy]",
            "[tickets]\ncontact = \"<script>alert(1)</script>\"\n[policy]",
            "gatepost.toml:14 tickets.contact",
        ),
        (
            "[policy]",
            "[tickets]\npublic_url = \"http//why\"\n[policy]",
            "gatepost.toml:14 tickets.public_url",
        ),
        (
            "[policy]",
            "[tickets]\npublic_url = \"https://why.example/?t=\"\n[policy]",
            "gatepost.toml:14 tickets.public_url",
        ),
        ("[policy]", "[tickets]\nproxies = [\"10.8.0.300\"]\n[policy]", "gatepost.toml:14 tickets.proxies"),
        ("[policy]", "[tickets]\nproxies = [\"0.0.0.0/0\"]\n[policy]", "gatepost.toml:14 tickets.proxies"),
    ] {
        let (found, text) = error(&NODE.replace(from, to), &[("a", TENANT)]);
        assert_eq!(found.replace("route.", ""), place, "{text}");
    }
}

#[test]
fn what_is_legal_but_unwise_is_warned_of() {
    let node = NODE.replace("tls = \"off\"", "tls = \"off\"\nauth_without_tls = true");
    let tenant = "name = \"a\"\nnetworks = [\"127.0.0.1\", \"10.2.0.0/16\", \"fd00::/64\"]\n\
                  senders = [\"@*\"]\n[[relay_domain]]\ndomains = [\"r.example\"]\nnext_hops = [\"m.example\"]\n";
    let loaded = Folder::new(&node, &[("a", tenant)]).load().unwrap();
    let keys: Vec<_> = loaded.warnings.iter().map(|warning| warning.key.as_str()).collect();
    // Where tests keep their files may be unwise, too.
    let keys: Vec<_> = keys.into_iter().filter(|key| *key != "spool.path").collect();
    assert_eq!(
        keys,
        [
            "listener.auth_without_tls",
            "networks",
            "networks",
            "networks",
            "senders",
            "relay_domain.recipients"
        ]
    );
}

#[test]
fn a_network_in_anothers_network_is_warned_of_and_an_equal_one_is_an_error() {
    let tenant = |name: &str, nets: &str| {
        format!("name = \"{name}\"\nnetworks = [{nets}]\nsenders = [\"@{name}.example\"]\n")
    };
    let wide = tenant("wide", "\"198.51.100.0/24\", \"198.51.100.64/26\"");
    let overlaps = |narrow: &str| {
        let folder = Folder::new(NODE, &[("wide", &wide), ("narrow", &tenant("narrow", narrow))]);
        let warnings = folder.load().unwrap().warnings;
        let of_networks = warnings.iter().filter(|warning| warning.key == "networks");
        of_networks.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(overlaps("\"203.0.113.0/24\"").is_empty());
    let [warning] = &*overlaps("\"198.51.100.7\"") else { panic!("one warning") };
    assert!(
        warning.contains("198.51.100.7/32 of tenant narrow lies in 198.51.100.0/24 of tenant wide"),
        "{warning}"
    );
    let [warning] = &*overlaps("\"198.51.100.65\"") else { panic!("one warning") };
    assert!(warning.contains("lies in 198.51.100.64/26"), "{warning}");
    // The same address in another form.
    let [form, warning] = &*overlaps("\"::ffff:198.51.100.128/121\"") else { panic!("two warnings") };
    assert!(form.contains("write it as IPv4") && warning.contains("lies in 198.51.100.0/24"), "{warning}");
    let folder = Folder::new(NODE, &[("wide", &wide), ("narrow", &tenant("narrow", "\"198.51.100.0/24\""))]);
    assert_eq!(folder.errors().len(), 1);
}

#[test]
fn an_excluded_range_in_anothers_network_is_warned_of() {
    let warnings = |wide: &str, narrow: &str| {
        let tenant =
            |name: &str, nets: &str| format!("name = \"{name}\"\nsenders = [\"@{name}.example\"]\n{nets}\n");
        let folder =
            Folder::new(NODE, &[("wide", &tenant("wide", wide)), ("narrow", &tenant("narrow", narrow))]);
        let warnings = folder.load().unwrap_or_else(|errors| panic!("{errors}")).warnings;
        let of_networks = warnings.iter().filter(|warning| warning.key != "spool.path");
        of_networks.map(ToString::to_string).collect::<Vec<_>>()
    };
    let wide = "networks = [\"198.51.100.0/24\"]";
    for excluded in ["198.51.100.7", "198.51.100.64/26", "::ffff:198.51.100.64/122"] {
        let [warning] = &*warnings(wide, &format!("excluded_networks = [\"{excluded}\"]")) else {
            panic!("one")
        };
        assert!(
            warning.contains("excluded_networks: ") && warning.contains("its clients are strangers"),
            "{warning}"
        );
    }
    for excluded in ["198.51.0.0/16", "203.0.113.0/24"] {
        assert_eq!(warnings(wide, &format!("excluded_networks = [\"{excluded}\"]")), [""; 0], "{excluded}");
    }
    let excluded = "excluded_networks = [\"198.51.100.64/26\"]";
    assert_eq!(warnings(&format!("{wide}\n{excluded}"), ""), [""; 0], "its own");
    // Strangers already.
    assert_eq!(warnings(&format!("{wide}\n{excluded}"), "excluded_networks = [\"198.51.100.65\"]"), [""; 0]);
}

#[test]
fn a_tenants_rules_about_senders_are_read() {
    let rules = "plus_addressing = true\nown_senders_from_strangers = \"deny\"\n";
    let reserved = "[[reserved_senders]]\nsenders = [\"@b.example\"]\nidentities = [\"terri\"]\n";
    let folder = |rules: &str, reserved: &str| {
        Folder::new(NODE, &[("t", &format!("{TENANT}{rules}{reserved}{IDENTITY}"))])
    };
    assert!(folder(rules, reserved).load().is_ok());
    let lines = |rules: &str, reserved: &str| {
        folder(rules, reserved).errors().into_iter().map(|(line, _)| line).collect::<Vec<_>>()
    };
    assert_eq!(lines("own_senders_from_strangers = \"no\"\n", ""), ["t.toml:4 own_senders_from_strangers"]);
    assert_eq!(lines("", &reserved.replace("terri", "kim")), ["t.toml:6 identities"]);
    assert_eq!(
        lines("", "[[reserved_senders]]\nsenders = [\"@b.example\"]\n"),
        ["t.toml:4 reserved_senders"]
    );
}

#[test]
fn lists_are_read_from_their_files_and_what_is_wrong_in_them_names_its_line() {
    let tenant = format!("{TENANT}[lists]\nblocked_senders = \"lists/senders.txt\"\n");
    let node =
        format!("{NODE}[lists]\nblocked_clients = \"clients.txt\"\nallowed_clients = \"friends.txt\"\n");
    let folder = Folder::new(&node, &[("a", &tenant)]);
    let missing = [
        "a.toml:5 lists.blocked_senders",
        "gatepost.toml:21 lists.allowed_clients",
        "gatepost.toml:20 lists.blocked_clients",
    ];
    let mut found: Vec<_> = folder.errors().into_iter().map(|(line, _)| line).collect();
    found.sort();
    let mut expected = missing.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
    fs::create_dir(folder.join("tenants/lists")).unwrap();
    folder.write("tenants/lists/senders.txt", "# comment\nspam@d.example\n@e.example # why\n*.f.example\n");
    folder.write("clients.txt", "192.0.2.0/24\n\n2001:db8::1\n");
    folder.write("friends.txt", "192.0.2.7\n");
    let snapshot = folder.load().unwrap().snapshot;
    let client = |client: &str| snapshot.decide_client(client.parse().unwrap(), &mut policy::NoTrace);
    assert_eq!(&**client("192.0.2.1").unwrap().list, "clients");
    assert!(client("192.0.2.7").is_none() && client("192.0.3.1").is_none());
    folder.write("clients.txt", "192.0.2.1/24\nhost.example\n");
    folder.write("tenants/lists/senders.txt", "\nnobody@\n");
    let mut found: Vec<_> = folder.errors().into_iter().map(|(line, _)| line).collect();
    found.sort();
    assert_eq!(
        found,
        [
            "clients.txt:1 lists.blocked_clients",
            "clients.txt:2 lists.blocked_clients",
            "senders.txt:2 lists.blocked_senders"
        ]
    );
    // Each list by its own key.
    let kinds = ["clients", "senders", "recipients"];
    let keys: Vec<_> =
        kinds.iter().flat_map(|kind| [format!("allowed_{kind}"), format!("blocked_{kind}")]).collect();
    let node = format!("{NODE}[lists]\n");
    let node = keys.iter().fold(node, |node, key| format!("{node}{key} = \"{key}.txt\"\n"));
    let folder = Folder::new(&node, &[("a", TENANT)]);
    keys.iter().for_each(|key| folder.write(&format!("{key}.txt"), "@ @\n"));
    let mut found: Vec<_> = folder.errors().into_iter().map(|(line, _)| line).collect();
    found.sort();
    let mut expected: Vec<_> = keys.iter().map(|key| format!("{key}.txt:1 lists.{key}")).collect();
    expected.sort();
    assert_eq!(found, expected);
}

const SCRAM: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

#[test]
fn a_verifier_is_enough_to_log_in_and_a_login_without_one_among_others_is_warned_about() {
    let one = format!("{TENANT}[[identity]]\nlogin = \"t\"\nscram = \"{SCRAM}\"\n");
    let loaded = Folder::new(NODE, &[("a", &one)]).load().unwrap();
    let terri = loaded.snapshot.identity("T").unwrap();
    assert_eq!(loaded.snapshot.scram(terri).unwrap().to_string(), SCRAM);
    assert_eq!(loaded.snapshot.credential(terri), "");
    let warned = |loaded: &config::Loaded| {
        loaded.warnings.iter().filter(|warning| warning.to_string().contains("identity.scram")).count()
    };
    assert_eq!(warned(&loaded), 0);
    let two = format!("{one}[[identity]]\nlogin = \"k\"\npassword = \"{HASH}\"\n");
    assert_eq!(warned(&Folder::new(NODE, &[("a", &two)]).load().unwrap()), 1);
}

#[test]
fn credentials_may_lie_in_a_file_beside_the_tenants() {
    let tenant = format!(
        "{TENANT}credentials = \"a.credentials\"\n[[identity]]\nlogin = \"T\"\n[[identity]]\nlogin = \"k\"\n"
    );
    let folder = Folder::new(NODE, &[("a", &tenant)]);
    let place = |folder: &Folder| folder.errors()[0].0.clone();
    assert_eq!(place(&folder), "a.toml:4 credentials");
    folder.write("tenants/a.credentials", &format!("# ours\nt {HASH} {SCRAM}\n\nk {SCRAM}\nx {SCRAM}\n"));
    let loaded = folder.load().unwrap();
    let identity = |login| loaded.snapshot.identity(login).unwrap();
    assert_eq!(loaded.snapshot.credential(identity("t")), HASH);
    assert!(loaded.snapshot.scram(identity("t")).is_some() && loaded.snapshot.scram(identity("k")).is_some());
    let warning = loaded.warnings.iter().find(|warning| warning.to_string().contains("credentials")).unwrap();
    assert!(warning.to_string().contains("a.credentials:5"), "{warning}");

    for (lines, expected) in [
        (format!("t {SCRAM}\n"), "a.toml:7 identity.password"),
        (format!("t {SCRAM}\nT {SCRAM}\nk {SCRAM}\n"), "a.credentials:2 credentials"),
        (format!("t hunter2\nk {SCRAM}\n"), "a.credentials:1 credentials"),
        (format!("t\nk {SCRAM}\n"), "a.credentials:1 credentials"),
    ] {
        folder.write("tenants/a.credentials", &lines);
        assert_eq!(place(&folder), expected, "{lines}");
        assert!(!folder.errors().iter().any(|(_, text)| text.contains("hunter2")));
    }
}

#[test]
fn what_is_no_verifier_or_no_number_of_failures_is_an_error() {
    let tenant = format!("{TENANT}[[identity]]\nlogin = \"t\"\nscram = \"hunter2\"\n");
    let (place, text) = error(NODE, &[("a", &tenant)]);
    assert_eq!(place, "a.toml:6 identity.scram");
    assert!(text.contains("gatepost password") && !text.contains("hunter2"), "{text}");
    for (written, key) in [("failures_per_ip = \"ten\"", "failures_per_ip"), ("secret = \"short\"", "secret")]
    {
        let (place, _) = error(&format!("{NODE}[login]\n{written}\n"), &[("a", TENANT)]);
        assert!(place.ends_with(&format!("login.{key}")), "{place}");
    }
}

#[test]
fn what_is_read_otherwise_than_it_is_meant_is_refused() {
    let relay = "[[relay_domain]]\ndomains = [\"DOMAIN\"]\nnext_hops = [\"m.example\"]\n";
    for (tenant, place) in [
        (TENANT.replace("198.51.100.0/24", "198.051.100.0/24"), "a.toml:2 networks"),
        (TENANT.replace("198.51.100.0/24", "198.51.100.00"), "a.toml:2 networks"),
        (TENANT.replace("198.51.100.0/24", "198.51.100.0/+24"), "a.toml:2 networks"),
        (format!("{TENANT}{}", relay.replace("DOMAIN", "[127.0.0.1]")), "a.toml:5 domains"),
        (format!("{TENANT}{}", relay.replace("DOMAIN", "[IPv6:::1]")), "a.toml:5 domains"),
        (format!("{TENANT}{}", relay.replace("DOMAIN", "[169.254.1.1]")), "a.toml:5 domains"),
    ] {
        assert_eq!(error(NODE, &[("a", &tenant)]).0, place, "{tenant}");
    }
    let literal = format!("{TENANT}{}", relay.replace("DOMAIN", "[192.0.2.1]"));
    Folder::new(NODE, &[("a", &literal)]).load().unwrap_or_else(|errors| panic!("{errors}"));
}

#[test]
fn the_key_of_another_certificate_is_refused() {
    let folder = Folder::new(&format!("{NODE}[tls]\ncertificate = \"a\"\nkey = \"b\"\n"), &[("a", TENANT)]);
    let [one, other] =
        [(); 2].map(|()| rcgen::generate_simple_self_signed(["relay.example".to_owned()]).unwrap());
    folder.write("a", &one.cert.pem());
    folder.write("b", &one.signing_key.serialize_pem());
    let loaded = folder.load().unwrap_or_else(|errors| panic!("{errors}"));
    assert!(loaded.node.tls.is_some_and(|tls| tls.presented.is_some()));
    folder.write("b", &other.signing_key.serialize_pem());
    assert_eq!(folder.errors()[0].0, "gatepost.toml:21 tls.key");
}

#[test]
fn a_port_is_of_one_section_however_its_address_is_written() {
    let sections = ["metrics", "tickets", "admin"];
    for (listener, other, is_refused) in [
        ("127.0.0.1:2525", "127.0.0.1:2525", true),
        ("0.0.0.0:2525", "127.0.0.1:2525", true),
        ("127.0.0.1:2525", "[::]:2525", true),
        ("[::1]:2525", "127.0.0.1:2525", false),
        ("127.0.0.1:2525", "127.0.0.2:2525", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
    ] {
        for section in sections {
            let node =
                NODE.replace("127.0.0.1:0", listener) + &format!("[{section}]\naddress = \"{other}\"\n");
            let loaded = Folder::new(&node, &[("a", TENANT)]).load();
            let found = loaded.err().map(|errors| errors.iter().next().unwrap().key.clone());
            let expected = is_refused.then(|| format!("{section}.address"));
            assert_eq!(found, expected, "{listener} and {other}");
        }
    }
}
