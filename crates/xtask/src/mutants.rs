//! `cargo xtask mutants`: breaks the decision on purpose, one way at a time, and sees a test go red.
//!
//! Each mutant opens the relay, takes from a tenant what is its own, or takes a defence of the running gateway away,
//! by changing one place of the source in a copy of the repository. What counts is that the tests of `policy` and
//! `config` (the proof that runs at every load among them) notice, and of what lies elsewhere the tests beside it.
//! One that survives fails the chore.

mod delivery;
mod http;
mod outgoing;
mod scheduler;
mod sieges;
mod storage;

use std::fs;
use std::path::Path;

use crate::command::{Failure, cargo, root};

/// One planted mistake.
struct Mutant {
    /// What it makes of the gateway.
    name: &'static str,
    file: &'static str,
    /// Stands in the file once.
    original: &'static str,
    mutated: &'static str,
}

const DECIDE: &str = "crates/policy/src/decide.rs";
const RESPONSIBLE: &str = "crates/policy/src/responsible.rs";
const NETWORK: &str = "crates/policy/src/network.rs";
const TRIE: &str = "crates/policy/src/trie.rs";
const FRONT: &str = "crates/policy/src/front.rs";
const COMPILE: &str = "crates/policy/src/compile.rs";
const PATTERNS: &str = "crates/policy/src/patterns.rs";
const CLAIMS: &str = "crates/policy/src/compile/networks.rs";
const PRESENTED: &str = "crates/policy/src/presented.rs";
const STRANGERS: &str = "crates/policy/src/proof/strangers.rs";
const WIDTH: &str = "crates/policy/src/proof/width.rs";
const LISTS: &str = "crates/policy/src/lists.rs";
const LISTED: &str = "crates/policy/src/listed.rs";
const LOADING: &str = "crates/config/src/lib.rs";
const CERTIFICATE: &str = "crates/config/src/tls.rs";
const PORTS: &str = "crates/config/src/ports.rs";
const RELAY_DOMAINS: &str = "crates/policy/src/compile/relay.rs";
const LISTS_ASKED: &str = "crates/ingress/src/handler/lists.rs";
const FACTS: &str = "crates/policy/src/facts.rs";
const SHARES: &str = "crates/commons/src/places/shares.rs";
const PLACES: &str = "crates/commons/src/places/mod.rs";
const DENIALS: &str = "crates/commons/src/link/denials.rs";
const UNFINISHED: &str = "crates/commons/src/places/unfinished.rs";
const SEATS: &str = "crates/ingress/src/seats.rs";
const PATIENCE: &str = "crates/ingress/src/connections.rs";
const HEADERS: &str = "crates/ingress/src/headers.rs";
const STEPS: &str = "crates/smtp/src/server/session.rs";
const SIZES: &str = "crates/smtp/src/command.rs";
const WATCH: &str = "crates/spool/src/shard/watch.rs";
const COMMIT: &str = "crates/spool/src/shard/commit.rs";
const TICKETS: &str = "crates/control/src/tickets/store.rs";
const PRINTABLE: &str = "crates/mail/src/printable.rs";
const REPLY: &str = "crates/mail/src/reply.rs";
const RUN: &str = "crates/gatepost/src/run.rs";
const WORKER: &str = "crates/gatepost/src/worker.rs";

static MUTANTS: [Mutant; 74] = [
    Mutant {
        name: "one client's denials take all records",
        file: DENIALS,
        original: "let most = u32::try_from(self.blank.len()).unwrap_or(u32::MAX);",
        mutated: "let most = u32::MAX;",
    },
    Mutant {
        name: "an outcome without room waits for files that may never return",
        file: WATCH,
        original: "let is_out = self.watch.has_vanished\n",
        mutated: "let is_out = self.watch.has_vanished\n            && self.latched\n",
    },
    Mutant {
        name: "an excluded range is a network",
        file: NETWORK,
        original: "EXCLUDED => NetworkMatch::Excluded,",
        mutated: "EXCLUDED => NetworkMatch::Tenant(TenantIx(0)),",
    },
    Mutant {
        name: "strangers are the first tenant's",
        file: NETWORK,
        original: "NOBODY => NetworkMatch::Stranger,",
        mutated: "NOBODY => NetworkMatch::Tenant(TenantIx(0)),",
    },
    Mutant {
        name: "the table begins with everyone in a network",
        file: NETWORK,
        original: "Self { v4: Trie::build(v4, NOBODY), v6: Trie::build(v6, NOBODY) }",
        mutated: "Self { v4: Trie::build(v4, TENANTS), v6: Trie::build(v6, TENANTS) }",
    },
    Mutant {
        name: "the widest of two nested prefixes wins",
        file: TRIE,
        original: "ranges.sort_unstable_by_key(|range| (range.bits, range.len));",
        mutated: "ranges.sort_unstable_by_key(|range| (range.bits, 128 - range.len));",
    },
    Mutant {
        name: "a prefix holds one bit less than it says",
        file: TRIE,
        original: "    (first ^ key) <= (key ^ (key - 1))",
        mutated: "    (first ^ key) <= (key ^ (key - 1)) << 1",
    },
    Mutant {
        name: "a directory loses what is around its prefixes",
        file: TRIE,
        original: "let mut cells = vec![outside; 1 << bits];",
        mutated: "let mut cells = vec![0; 1 << bits];",
    },
    Mutant {
        name: "a prefix fills but the first of its cells in a directory",
        file: TRIE,
        original: "cells[first..first + slots].fill(range.answer);",
        mutated: "cells[first..first + slots.min(1)].fill(range.answer);",
    },
    Mutant {
        name: "what lies deeper forgets the prefix around it",
        file: TRIE,
        original: "let outside = wider.map_or(outside, |&(_, answer)| answer);",
        mutated: "let _ = wider;",
    },
    Mutant {
        name: "a prefix ends within what is skipped",
        file: TRIE,
        original: "differ.leading_zeros().min(shortest - above).min(",
        mutated: "differ.leading_zeros().min(shortest - above + 1).min(",
    },
    Mutant {
        name: "IPv4 in IPv6 form is another address",
        file: NETWORK,
        original: "let answer = match ip.to_canonical() {",
        mutated: "let answer = match ip {",
    },
    Mutant {
        name: "a number that may be octal is taken for a decimal one",
        file: NETWORK,
        original: "let ip: IpAddr = address.parse().map_err(|_| {",
        mutated: "let plain = |part: &str| part.parse::<u32>().map_or(part.to_owned(), |number| number.to_string());\n    let parts: Vec<_> = address.split('.').map(plain).collect();\n    let ip: IpAddr = parts.join(\".\").parse().map_err(|_| {",
    },
    Mutant {
        name: "an address of every host is a relay domain",
        file: RELAY_DOMAINS,
        original: "            ip.is_loopback()\n                || ip.is_unspecified()",
        mutated: "            ip.is_broadcast()\n                || ip.is_unspecified()",
    },
    Mutant {
        name: "the key of another certificate is presented",
        file: CERTIFICATE,
        original: "match CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider()) {",
        mutated: "let provider = aws_lc_rs::default_provider();\n    let key = provider.key_provider.load_private_key(private);\n    match key.map(|key| CertifiedKey::new(chain, key)) {",
    },
    Mutant {
        name: "two sections share a port by a wildcard",
        file: PORTS,
        original: "    wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())",
        mutated: "    wide.is_unspecified() && wide == narrow",
    },
    Mutant {
        name: "a network may be of any width",
        file: CLAIMS,
        original: "if tenant.is_some() && counted.prefix_len() < bits_min {",
        mutated: "if tenant.is_some() && counted.prefix_len() < bits_min.min(0) {",
    },
    Mutant {
        name: "a prefix of two tenants belongs to the first",
        file: CLAIMS,
        original: "(Some(a), Some(b)) if a != b => {",
        mutated: "(Some(a), Some(b)) if a != b => return,\n            (Some(a), Some(b)) if a == TenantIx(u32::MAX) || b == TenantIx(u32::MAX) => {",
    },
    Mutant {
        name: "whoever says where it is from is there",
        file: FACTS,
        original: "match self.identity.is_some() || self.client.to_canonical().is_unspecified() {",
        mutated: "match self.identity.is_some() {",
    },
    Mutant {
        name: "submission needs no login",
        file: DECIDE,
        original: "match (listener.role, facts.identity) {",
        mutated: "let role = if facts.tls { Role::Relay } else { listener.role };\n        match (role, facts.identity) {",
    },
    Mutant {
        name: "TLS is never required",
        file: DECIDE,
        original: "if tls_required && !facts.tls {",
        mutated: "if tls_required && !facts.tls && tenant.is_some() {",
    },
    Mutant {
        name: "routing tricks are plain addresses",
        file: DECIDE,
        original: "(ForwardPath::Address(address), None) => {",
        mutated: "(ForwardPath::Address(address), _) => {",
    },
    Mutant {
        name: "any domain literal is a relay domain",
        file: DECIDE,
        original: "if self.relay_domains.get(address.domain()).is_some() =>",
        mutated: "if true =>",
    },
    Mutant {
        name: "strict mode is not asked for everything",
        file: DECIDE,
        original: "if self.front(ix).login_required != level {",
        mutated: "if self.front(ix).login_required != level || level == LoginRequired::Always {",
    },
    Mutant {
        name: "strict mode is not asked for relaying",
        file: RESPONSIBLE,
        original: "self.strict_login(facts, network, LoginRequired::Outside, trace)",
        mutated: "self.strict_login(facts, network, LoginRequired::Always, trace)",
    },
    Mutant {
        name: "a list of recipients takes everyone",
        file: DECIDE,
        original: "let is_known = !relay.is_listed",
        mutated: "let is_known = true || !relay.is_listed",
    },
    Mutant {
        name: "two tenants share a transaction",
        file: DECIDE,
        original: "if transaction_tenant.is_some_and(|other| other != tenant) {",
        mutated: "if transaction_tenant.is_some_and(|other| other != tenant && other.0 > 7) {",
    },
    Mutant {
        name: "nobody is the first tenant",
        file: RESPONSIBLE,
        original: "let network = network.tenant().map(Responsible::Network);",
        mutated: "let network = Some(Responsible::Network(network.tenant().unwrap_or(TenantIx(0))));",
    },
    Mutant {
        name: "everyone owns every sender",
        file: RESPONSIBLE,
        original: "None => Ownership::Foreign(self.first_sender(responsible.identity(), tenant)),",
        mutated: "None => Ownership::Owned(self.first_sender(responsible.identity(), tenant)),",
    },
    Mutant {
        name: "a login sends as all its tenant's senders",
        file: RESPONSIBLE,
        original: "&& senders.is_any()",
        mutated: "&& senders.is_any() && false",
    },
    Mutant {
        name: "<> is anyone's",
        file: RESPONSIBLE,
        original: "if allowed { Ownership::Owned(origin) } else { Ownership::Foreign(origin) }",
        mutated: "if allowed || true { Ownership::Owned(origin) } else { Ownership::Foreign(origin) }",
    },
    Mutant {
        name: "reserved senders are everyone's",
        file: RESPONSIBLE,
        original: "return if may {",
        mutated: "return if may || !responsible.identity().is_some() {",
    },
    Mutant {
        name: "a denial of ownership is passed over",
        file: RESPONSIBLE,
        original: "if ownership.is_owned() {\n            return Ok(responsible);",
        mutated: "if ownership.is_owned() || from.address().is_none() {\n            return Ok(responsible);",
    },
    Mutant {
        name: "a pattern holds what merely ends like it",
        file: PATTERNS,
        original: "let begins_a_part = start == 0\n        || match ending {",
        mutated: "let begins_a_part = start < usize::MAX\n        || match ending {",
    },
    Mutant {
        name: "a pattern holds every address of its length",
        file: PATTERNS,
        original: "begins_a_part && text[start..].eq_ignore_ascii_case(ending)",
        mutated: "begins_a_part && text[start..].len() == ending.len()",
    },
    Mutant {
        name: "a pattern in place holds what merely ends like it",
        file: FRONT,
        original: "before == **form || text.is_empty()",
        mutated: "before.is_some() || before == **form || text.is_empty()",
    },
    Mutant {
        name: "a pattern in place holds every address of its length",
        file: FRONT,
        original: "if address[start..].eq_ignore_ascii_case(text) && best",
        mutated: "if address[start..].len() == text.len() && best",
    },
    Mutant {
        name: "a list too long for its place is another's",
        file: FRONT,
        original: "longer[*list as usize].most_specific(address)",
        mutated: "longer[*list as usize / 2].most_specific(address)",
    },
    Mutant {
        name: "the rules of a tenant about senders are not those of its logins",
        file: COMPILE,
        original: "has_own_senders: !own.is_empty(),\n            has_sender_rules,",
        mutated: "has_own_senders: !own.is_empty(),\n            has_sender_rules: false,",
    },
    Mutant {
        name: "the own senders of a tenant come in from strangers",
        file: RESPONSIBLE,
        original: "if is_own || !claims() {",
        mutated: "if is_own || claims() {",
    },
    Mutant {
        name: "the proof takes no decision for one that looked at a path",
        file: PRESENTED,
        original: "self.seen.set(true);",
        mutated: "self.seen.set(false);",
    },
    Mutant {
        name: "the proof has no witnesses",
        file: STRANGERS,
        original: "is_witness: kinds.insert((is_ipv4, owner))",
        mutated: "is_witness: kinds.insert((is_ipv4, owner)) & false",
    },
    Mutant {
        name: "the proof leaves out the last address of each range",
        file: STRANGERS,
        original: "(first < last).then_some(last)",
        mutated: "(first < last).then_some(last).filter(|_| false)",
    },
    Mutant {
        name: "IPv4 behind a translator has no width",
        file: WIDTH,
        original: "let IpNet::V6(v6) = net else { return net };",
        mutated: "let IpNet::V6(v6) = net else { return net };\n    if true {\n        return net;\n    }",
    },
    Mutant {
        name: "a reload is not judged by the listeners that run",
        file: LOADING,
        original: "listeners.extend(as_they_run(&kept.listeners, &listeners));",
        mutated: "listeners.extend(as_they_run(&[], &listeners));",
    },
    Mutant {
        name: "strangers in the clear are the first tenant's",
        file: DECIDE,
        original: "            None => self.network(facts.client),",
        mutated: "            None => match self.network(facts.client) {\n                \
                  NetworkMatch::Stranger if !facts.tls => NetworkMatch::Tenant(TenantIx(0)),\n                \
                  network => network,\n            },",
    },
    Mutant {
        name: "the last client of a block is not on the list",
        file: LISTS,
        original: "(bits <= last).then_some(",
        mutated: "(bits < last).then_some(",
    },
    Mutant {
        name: "a blocked recipient is taken",
        file: LISTED,
        original: "if let Some(list) = found {\n",
        mutated: "if let Some(list) = found && rule == Rule::SenderList {\n",
    },
    Mutant {
        name: "a tenant's allow list lifts the node's block",
        file: LISTED,
        original: "            .or_else(|| address_lists(node, None, from, to, tenant, trace))",
        mutated: "            .or_else(|| address_lists(node, own, from, to, tenant, trace))",
    },
    Mutant {
        name: "nobody heeds what a list says of a recipient",
        file: LISTS_ASKED,
        original: "let Some(decision) = listed.map(|listed| listed.decision) else { return false };",
        mutated: "let Some(decision) = listed.map(|listed| listed.decision).filter(|_| false) else { return false };",
    },
    Mutant {
        name: "nothing is kept for those who come after strangers",
        file: SHARES,
        original: "let levels = &Holder::ALL[holder as usize..];",
        mutated: "let levels = &Holder::ALL[(holder as usize).max(2)..];",
    },
    Mutant {
        name: "what is refused stays taken",
        file: SHARES,
        original: "for &before in &levels[..taken] {",
        mutated: "for &before in &levels[..taken.min(0)] {",
    },
    Mutant {
        name: "a client that logs in keeps a stranger's place",
        file: PLACES,
        original: "self.of.shares.pass(self.holder, Holder::Login, 1)",
        mutated: "self.of.shares.pass(self.holder, self.holder, 1)",
    },
    Mutant {
        name: "an address may hold any number",
        file: PLACES,
        original: "self.addresses.take(address, address_max)",
        mutated: "self.addresses.take(address, address_max.max(1 << 16))",
    },
    Mutant {
        name: "strangers may fill the disk",
        file: UNFINISHED,
        original: "Shares::new(bytes_max / 2, bytes_max, bytes_max)",
        mutated: "Shares::new(bytes_max, bytes_max, bytes_max)",
    },
    Mutant {
        name: "no client gives way to a newcomer",
        file: SEATS,
        original: "is_of_less || comes_first || held >= own + UNFAIR_MIN",
        mutated: "(is_of_less || comes_first || held >= own + UNFAIR_MIN) && false",
    },
    Mutant {
        name: "a newcomer takes an equal's place",
        file: SEATS,
        original: "is_of_less || comes_first || held >= own + UNFAIR_MIN",
        mutated: "is_of_less || comes_first || held + UNFAIR_MIN >= own",
    },
    Mutant {
        name: "mail carried no longer keeps a place from a client that does nothing",
        file: SEATS,
        original: "    pub(crate) fn carried(&mut self, key: Handle, now: Instant) {\n        if self.has(key) {",
        mutated: "    pub(crate) fn carried(&mut self, key: Handle, now: Instant) {\n        if self.has(key) && self.seats[key.index() as usize].is_busy {",
    },
    Mutant {
        name: "the silent are waited for as ever while places are short",
        file: SEATS,
        original: "[Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(60)]",
        mutated: "[Duration::from_secs(300), Duration::from_secs(300), Duration::from_secs(300)]",
    },
    Mutant {
        name: "any byte is a reason to wait on",
        file: PATIENCE,
        original: "        if connection.session.steps() != before.0 {",
        mutated: "        if true || connection.session.steps() != before.0 {",
    },
    Mutant {
        name: "a message may come as slowly as it likes",
        file: STEPS,
        original: "const STEP_BYTES: usize = 8 << 10;",
        mutated: "const STEP_BYTES: usize = 1;",
    },
    Mutant {
        name: "a message is one step however long it is",
        file: STEPS,
        original: "        if self.step_bytes >= STEP_BYTES {",
        mutated: "        if self.step_bytes >= STEP_BYTES << 20 {",
    },
    Mutant {
        name: "each line of a login is a step",
        file: STEPS,
        original: "if is_line && !matches!(self.state, State::Login(..)) {",
        mutated: "if is_line {",
    },
    Mutant {
        name: "a size past 64 bits is no number",
        file: SIZES,
        original: "parameters.size = Some(value.parse().unwrap_or(u64::MAX));",
        mutated: "parameters.size = Some(value.parse().ok().ok_or(Fault::Size)?);",
    },
    Mutant {
        name: "the hops of one message are those of the next on its connection",
        file: HEADERS,
        original: "        self.received = 0;",
        mutated: "        self.received += 0;",
    },
    Mutant {
        name: "a file whose name is gone is as good as any",
        file: WATCH,
        original: "        if is_elsewhere {\n",
        mutated: "        if is_elsewhere && false {\n",
    },
    Mutant {
        name: "another file of the same name is ours",
        file: WATCH,
        original: "ring.identity(file).is_ok_and(|own| own != *found)",
        mutated: "ring.identity(file).is_ok_and(|own| own != *found && false)",
    },
    Mutant {
        name: "a group written after its files had vanished is promised",
        file: COMMIT,
        original: "(waiter, self.watch.has_vanished)",
        mutated: "(waiter, false)",
    },
    Mutant {
        name: "the oldest ticket goes, whosever it is",
        file: TICKETS,
        original: "*charge > HANDFUL",
        mutated: "*charge > u64::MAX - HANDFUL",
    },
    Mutant {
        name: "a separator of lines is shown as it is",
        file: PRINTABLE,
        original: "'\\u{2028}' | '\\u{2029}'",
        mutated: "'\\u{2028}'",
    },
    Mutant {
        name: "a reply may be in eight bits",
        file: REPLY,
        original: "        if text.is_ascii() {\n",
        mutated: "        if text.is_ascii() || true {\n",
    },
    Mutant {
        name: "SIGTERM cuts what is under way",
        file: WORKER,
        original: "Life::Draining(end) => now < end && !self.is_idle(),",
        mutated: "Life::Draining(_) => false,",
    },
    Mutant {
        name: "nothing is saved at the end of a spool that has vanished",
        file: WORKER,
        original: "                    if self.spool.stats().vanished {",
        mutated: "                    if self.spool.stats().vanished && false {",
    },
    Mutant {
        name: "the longest wait is the first",
        file: RUN,
        original: "longest: plan.node.retry.longest,",
        mutated: "longest: plan.node.retry.first,",
    },
];

/// Every mutant there is.
fn all() -> impl Iterator<Item = &'static Mutant> {
    let others = [
        &delivery::MUTANTS[..],
        &http::MUTANTS,
        &outgoing::MUTANTS,
        &scheduler::MUTANTS,
        &sieges::MUTANTS,
        &storage::MUTANTS,
    ];
    MUTANTS.iter().chain(others.into_iter().flatten())
}

/// Plants each mutant in a copy of the working tree, and runs the tests there.
pub(crate) fn run(only: Option<&str>) -> Result<(), Failure> {
    let copy = root().join("target/mutants");
    copy_sources(&copy)?;
    let mut survivors = Vec::new();
    let chosen = all().filter(|mutant| only.is_none_or(|words| mutant.name.contains(words)));
    for mutant in chosen {
        let path = copy.join(mutant.file);
        let sound = read(&path)?;
        write(&path, &sound.replacen(mutant.original, mutant.mutated, 1))?;
        let outcome = judge(&copy, mutant.file);
        write(&path, &sound)?;
        match outcome? {
            true => println!("mutants: caught: {}", mutant.name),
            false => {
                println!("mutants: SURVIVED: {}", mutant.name);
                survivors.push(mutant.name);
            }
        }
    }
    if survivors.is_empty() { Ok(()) } else { Err(Failure(format!("survived: {}", survivors.join(", ")))) }
}

/// A package, and what to run of its tests.
type Judge = (&'static str, &'static [&'static str]);

/// The tests that may notice, the quick ones first.
fn judges(file: &str) -> &'static [Judge] {
    let of = [outgoing::judges, sieges::judges, storage::judges];
    if let Some(judges) = of.into_iter().find_map(|judges| judges(file)) {
        return judges;
    }
    match file {
        LISTS_ASKED => &[("gatepost", &["--test", "rows", "e2_lists"])],
        HEADERS => &[("gatepost", &["--test", "rows", "b3_chains"])],
        PATIENCE => &[("gatepost", &["--test", "patience"])],
        SHARES | PLACES | DENIALS | UNFINISHED => &[("gatepost-commons", &["--lib"])],
        SEATS => &[("gatepost-ingress", &[])],
        STEPS | SIZES => &[("gatepost-smtp", &[])],
        delivery::ARENA => &[("gatepost-ring", &["--lib", "arena"])],
        WATCH | COMMIT => &[("gatepost-spool", &["--test", "vanished"])],
        TICKETS => &[("gatepost-control", &["--lib", "tickets"])],
        PRINTABLE | REPLY => &[("gatepost-mail", &["--lib"])],
        RUN => &[("gatepost", &["--test", "wiring"])],
        WORKER => &[("gatepost", &["--test", "wiring"]), ("gatepost", &["--test", "vanished"])],
        _ if file.starts_with("crates/scheduler/") => &[("gatepost-scheduler", &[])],
        _ if delivery::MUTANTS.iter().any(|mutant| mutant.file == file) => &[("gatepost-delivery", &[])],
        _ if file.starts_with("crates/control/src/admin/") => {
            &[("gatepost", &["--test", "rows", "admin_routes"])]
        }
        _ if file.starts_with("crates/control/") => &[("gatepost-control", &["--lib"])],
        _ => &[("gatepost-policy", &[]), ("gatepost-config", &[])],
    }
}

/// Whether a test goes red. A mutant that does not even compile is a mistake of this list.
fn judge(copy: &Path, file: &str) -> Result<bool, Failure> {
    for (package, tests) in judges(file) {
        let chore = |words: &[&str]| {
            cargo(words.iter().chain(*tests).copied())
                .args(["--quiet", "--package", package, "--manifest-path"])
                .args([copy.join("Cargo.toml")])
                // Its own: cargo tells crates apart by where they lie below the workspace, and would
                // take a mutant for the crate itself.
                .env("CARGO_TARGET_DIR", copy.join("target"))
                .env("RUSTFLAGS", "-A warnings")
                .into_inner()
                .output()
                .map_err(|error| Failure(format!("cannot run cargo: {error}")))
        };
        let built = chore(&["test", "--no-run"])?;
        if !built.status.success() {
            return Err(Failure(format!("it does not compile: {}", String::from_utf8_lossy(&built.stderr))));
        }
        if !chore(&["test"])?.status.success() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes `copy` what the working tree is.
pub(crate) fn copy_sources(copy: &Path) -> Result<(), Failure> {
    for name in String::from_utf8_lossy(&crate::command::git(&["ls-files"])?).lines() {
        let (from, to) = (root().join(name), copy.join(name));
        // A file that is listed may just have been deleted.
        let Ok(bytes) = fs::read(&from) else { continue };
        let failed = |error| Failure(format!("cannot copy {name}: {error}"));
        fs::create_dir_all(to.parent().unwrap_or(copy)).map_err(failed)?;
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        fs::write(&to, bytes).map_err(failed)?;
    }
    remove_strays(copy, copy)
}

/// Removes what an earlier run copied into `folder` and the repository no longer has: cargo would find its tests.
fn remove_strays(copy: &Path, folder: &Path) -> Result<(), Failure> {
    let failed = |error| Failure(format!("cannot tidy {}: {error}", folder.display()));
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.strip_prefix(copy).unwrap_or(&path);
        if path.is_dir() && name != Path::new("target") {
            remove_strays(copy, &path)?;
        } else if path.is_file() && name != Path::new("Cargo.lock") && !root().join(name).is_file() {
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure(format!("cannot read {}: {error}", path.display())))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure(format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_still_finds_its_place() {
        for mutant in all() {
            let text = read(&root().join(mutant.file)).unwrap();
            assert_eq!(text.matches(mutant.original).count(), 1, "{}: {}", mutant.file, mutant.name);
            assert_ne!(mutant.original, mutant.mutated);
        }
    }
}
