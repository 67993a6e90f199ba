//! Mistakes in the schedule: a site that is forgotten, a message that is served twice, a limit that holds
//! nothing back, a waiter that is never woken.

use super::Mutant;

const TURN: &str = "crates/scheduler/src/turn.rs";
const TREE: &str = "crates/scheduler/src/tree.rs";
const HANDLE: &str = "crates/scheduler/src/handle.rs";

pub(super) static MUTANTS: [Mutant; 8] = [
    Mutant {
        name: "the schedule forgets a site that gets mail while it rests",
        file: TREE,
        original: "            if self.sites[site].standing == Standing::Resting {\n                self.stand(site, Standing::None);\n            }\n",
        mutated: "",
    },
    Mutant {
        name: "the schedule forgets a site whose back-off ends",
        file: TURN,
        original: "            self.backlog.tree.call(site);\n            if self.is_stopped() {",
        mutated: "            if self.is_stopped() {",
    },
    Mutant {
        name: "the schedule serves a message twice",
        file: TURN,
        original: "        self.backlog.tree.take_turn(&mut self.backlog.jobs.jobs, site, job);\n        self.backlog.set_state(job, State::Active);",
        mutated: "        self.backlog.tree.pass_turn(site);\n        self.backlog.set_state(job, State::Active);",
    },
    Mutant {
        name: "the schedule forgets the leases it asks for in the limit of connections",
        file: "crates/scheduler/src/lib.rs",
        original: "self.connections.len() + self.asking < self.settings.connections_max",
        mutated: "self.connections.len() < self.settings.connections_max",
    },
    Mutant {
        name: "the schedule gives a connection one message too many",
        file: HANDLE,
        original: "entry.messages >= self.settings.messages_per_connection_max",
        mutated: "entry.messages > self.settings.messages_per_connection_max",
    },
    Mutant {
        name: "the schedule never wakes a waiter for a lease",
        file: TURN,
        original: "let may = self.woken > 0 || self.starves_until()",
        mutated: "let may = self.woken > 9 || self.starves_until()",
    },
    Mutant {
        name: "the schedule never wakes a waiter for a place",
        file: TURN,
        original: "first(Standing::Crowded, self.may_connect())",
        mutated: "first(Standing::Crowded, false)",
    },
    Mutant {
        name: "the schedule leaves queues behind when their domain moves",
        file: TREE,
        original: "        if owner.unsettled > 0 && !was_settling {",
        mutated: "        if owner.unsettled > 0 && !was_settling && before == NONE {",
    },
];
