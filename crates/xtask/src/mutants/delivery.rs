//! Mistakes in sending on: next hops that are stormed or waited for without end, mail that is said to be
//! delivered and is not, and what a restart or another worker forgets.

use super::Mutant;

const CONNECTIONS: &str = "crates/delivery/src/connections.rs";
const TRANSACTION: &str = "crates/delivery/src/transaction.rs";
const SCHEDULE: &str = "crates/delivery/src/schedule.rs";
const SITE: &str = "crates/delivery/src/site.rs";
const SHARED: &str = "crates/commons/src/sites/site.rs";
const SITES: &str = "crates/commons/src/sites/mod.rs";
pub(super) const ARENA: &str = "crates/ring/src/arena.rs";

pub(super) static MUTANTS: [Mutant; 16] = [
    Mutant {
        name: "what comes too late reaches the next in its place",
        file: ARENA,
        original: "self.places.get(handle.index).filter(|place| place.generation == handle.generation)?.value()",
        mutated: "self.places.get(handle.index)?.value()",
    },
    Mutant {
        name: "what an address is asked for counts for the next address too",
        file: CONNECTIONS,
        original: "        self.connections.renew(key)\n",
        mutated: "        key\n",
    },
    Mutant {
        name: "a connection that ends before MAIL is followed by the next at once",
        file: TRANSACTION,
        original: "if connection.messages > 0 {\n            // A server may close",
        mutated: "if connection.messages < u32::MAX {\n            // A server may close",
    },
    Mutant {
        name: "a connection that breaks within a transaction is no failure of the site",
        file: TRANSACTION,
        original: "self.finish(cx, key, &reply, heard_from);\n        \
                   self.site_of_connection_failed(cx, key, reply);",
        mutated: "self.finish(cx, key, &reply, heard_from);",
    },
    Mutant {
        name: "connections that break together are a failure each",
        file: SHARED,
        original: ".filter(|known| !known.rest(now, longest).is_zero())",
        mutated: ".filter(|_| false)",
    },
    Mutant {
        name: "an attempt tries every address there is",
        file: CONNECTIONS,
        original: "if connection.tried >= ADDRESSES_TRIED_MAX {",
        mutated: "if connection.tried >= 10 * ADDRESSES_TRIED_MAX {",
    },
    Mutant {
        name: "mail does not expire where its site fails",
        file: SCHEDULE,
        original: "if unix_now.since(arrived) >= expire {",
        mutated: "if unix_now.since(arrived) >= expire && expire == 0 {",
    },
    Mutant {
        name: "a mute next hop is waited for without end",
        file: CONNECTIONS,
        original: "_ => self.lost(cx, key, Self::own_reply(2, \"the next hop did not answer in time\")),",
        mutated: "_ => self.arm(key, now),",
    },
    Mutant {
        name: "an early 250 is taken for half a body",
        file: TRANSACTION,
        original: "if matches!(connection.body, Body::None) {\n            self.finish",
        mutated: "if matches!(connection.body, Body::None) || reply.is_positive() {\n            self.finish",
    },
    Mutant {
        name: "a connection is kept after a failed piece",
        file: TRANSACTION,
        original: "self.unreadable(cx, job, error);\n        }\n        self.close(cx, key);",
        mutated: "self.unreadable(cx, job, error);\n        }\n        \
                  self.connections[key].phase = Phase::Idle;\n        self.next_job(cx, key);",
    },
    Mutant {
        name: "retry times are forgotten at a restart",
        file: SCHEDULE,
        original: "_ if !wait.is_zero() => self.defer(job, now.after(wait)),",
        mutated: "_ if wait == Duration::MAX => self.defer(job, now.after(wait)),",
    },
    Mutant {
        name: "attempts are forgotten at a restart",
        file: SCHEDULE,
        original: "let attempts = part.iter().map(|recipient| recipient.3).max().unwrap_or(0);",
        mutated: "let attempts = part.iter().map(|_| 0).max().unwrap_or(0);",
    },
    Mutant {
        name: "each worker has a back-off of its own",
        file: SITES,
        original: "self.by_key.get_or_insert(key, || Site::new(self.wakers.clone(), self.failing.clone()))",
        mutated: "let _ = key;\n        Arc::new(Site::new(self.wakers.clone(), self.failing.clone()))",
    },
    Mutant {
        name: "a lease is never yielded to another worker",
        file: TRANSACTION,
        original: "let yields = connection.messages > 0 &&",
        mutated: "let yields = connection.messages > MESSAGES_PER_CONNECTION_MAX &&",
    },
    Mutant {
        name: "a lease that was yielded is taken again before the other worker has it",
        file: SCHEDULE,
        original: "let yields = now < site.yields_until;",
        mutated: "let yields = false;",
    },
    Mutant {
        name: "a next hop that failed is not avoided",
        file: SITE,
        original: "hop.avoided_until = now.after(HOP_AVOIDED);",
        mutated: "hop.avoided_until = now;",
    },
];
