//! Mistakes in sending on: next hops that are stormed or waited for without end, mail that is said to be
//! delivered and is not, and what a restart or another worker forgets.

use super::Mutant;

const CONNECTIONS: &str = "crates/delivery/src/connections.rs";
const TRANSACTION: &str = "crates/delivery/src/transaction.rs";
const SCHEDULE: &str = "crates/delivery/src/schedule.rs";
const DESK: &str = "crates/delivery/src/desk.rs";
const INTAKE: &str = "crates/delivery/src/intake.rs";
const TASKS: &str = "crates/delivery/src/tasks.rs";
const SHELL: &str = "crates/delivery/src/lib.rs";
const EXCHANGE: &str = "crates/delivery/src/exchange.rs";
const SITE: &str = "crates/delivery/src/site.rs";
const SHARED: &str = "crates/commons/src/sites/site.rs";
const SITES: &str = "crates/commons/src/sites/mod.rs";
pub(super) const ARENA: &str = "crates/ring/src/arena.rs";

pub(super) static MUTANTS: [Mutant; 22] = [
    Mutant {
        name: "what comes too late reaches the next in its place",
        file: ARENA,
        original: "self.places.get(handle.index).filter(|place| place.generation == handle.generation)?.value()",
        mutated: "self.places.get(handle.index)?.value()",
    },
    Mutant {
        name: "what an address is asked for counts for the next address too",
        file: CONNECTIONS,
        original: "let renewed = self.all.renew(key);",
        mutated: "let renewed = key;",
    },
    Mutant {
        name: "a connection that ends before MAIL is followed by the next at once",
        file: TRANSACTION,
        original: "if self.all[key].messages > 0 {\n            // A server may close",
        mutated: "if self.all[key].messages < u32::MAX {\n            // A server may close",
    },
    Mutant {
        name: "a connection that breaks within a transaction is no failure of the site",
        file: TRANSACTION,
        original: "self.finish(cx, desk, key, &reply, heard_from);\n        self.site_failed(cx, desk, key, reply);",
        mutated: "self.finish(cx, desk, key, &reply, heard_from);",
    },
    Mutant {
        name: "connections that break together are a failure each",
        file: SHARED,
        original: ".filter(|known| !known.rest(now, longest).is_zero())",
        mutated: ".filter(|_| false)",
    },
    Mutant {
        name: "an attempt tries every address there is",
        file: SCHEDULE,
        original: "const ADDRESSES_TRIED_MAX: u8 = 10;",
        mutated: "const ADDRESSES_TRIED_MAX: u8 = 100;",
    },
    Mutant {
        name: "mail does not expire where its site fails",
        file: TASKS,
        original: "(Task::Expire, Ok(stored)) => self.expire(cx, job, &stored),",
        mutated: "(Task::Expire, Ok(_)) => self.schedule.tell(cx, Event::GivenBack { job, interrupted: false }),",
    },
    Mutant {
        name: "a mute next hop is waited for without end",
        file: CONNECTIONS,
        original: "Task::Sending(_) | Task::Over => self.lost(key, reply),",
        mutated: "Task::Sending(_) | Task::Over => self.arm(key, cx.ring.now()),",
    },
    Mutant {
        name: "an early 250 is taken for half a body",
        file: TRANSACTION,
        original: "if wire.is_body_out() {\n            self.finish",
        mutated: "if wire.is_body_out() || reply.is_positive() {\n            self.finish",
    },
    Mutant {
        name: "a connection is kept after a failed piece",
        file: TRANSACTION,
        original: "desk.unreadable(cx, transaction.job, error);\n        }\n        self.close(cx, desk, key);",
        mutated: "desk.unreadable(cx, transaction.job, error);\n        }\n        \
                  self.wire(key).unwrap().task = Task::Idle;\n        self.boundary(cx, desk, key);",
    },
    Mutant {
        name: "retry times are forgotten at a restart",
        file: INTAKE,
        original: "until => Start::Deferred(until),",
        mutated: "_ => Start::Due,",
    },
    Mutant {
        name: "attempts are forgotten at a restart",
        file: INTAKE,
        original: "let attempts = part.iter().map(|one| one.attempts).max().unwrap_or(0);",
        mutated: "let attempts = 0;",
    },
    Mutant {
        name: "each worker has a back-off of its own",
        file: SITES,
        original: "self.by_key.get_or_insert(key, || Site::new(self.wakers.clone(), self.failing.clone()))",
        mutated: "let _ = key;\n        Arc::new(Site::new(self.wakers.clone(), self.failing.clone()))",
    },
    Mutant {
        name: "a lease is never yielded to another worker",
        file: DESK,
        original: "let wanted = site.shared.is_wanted(worker);",
        mutated: "let wanted = false;",
    },
    Mutant {
        name: "a lease that was yielded is taken again before the other worker has it",
        file: DESK,
        original: "let is_granted = if now < site.yields_until {",
        mutated: "let is_granted = if false {",
    },
    Mutant {
        name: "a next hop that failed is not avoided",
        file: SITE,
        original: ".avoided_until = now.after(HOP_AVOIDED);",
        mutated: ".avoided_until = now;",
    },
    Mutant {
        name: "domains with the same hosts are a site each",
        file: DESK,
        original: "let site = exchange::key(&found);",
        mutated: "let site = format!(\"{},{name}\", exchange::key(&found));",
    },
    Mutant {
        name: "a domain may name anything as its hosts",
        file: EXCHANGE,
        original: "found.retain(|mx_host| is_host(&mx_host.host));",
        mutated: "found.retain(|mx_host| !mx_host.host.is_empty());",
    },
    Mutant {
        name: "what another worker found to work is tried when this one's rest is over",
        file: INTAKE,
        original: "self.look_at_latest(cx, message);",
        mutated: "",
    },
    Mutant {
        name: "mail is not routed again by another configuration",
        file: SCHEDULE,
        original: "if self.generation != Some(generation) {",
        mutated: "if self.generation.is_none() {",
    },
    Mutant {
        name: "mail that no tenant answers for is sent like any other",
        file: INTAKE,
        original: "Way::Nowhere => u32::MAX,",
        mutated: "Way::Nowhere => generation,",
    },
    Mutant {
        name: "a worker that waits is not told that a lease came back",
        file: SHELL,
        original: "if cx.link.lease_came_free() {",
        mutated: "if cx.link.lease_came_free() && false {",
    },
];
