//! Mistakes of which a denied sender hears too little, or the operator: a refusal without its reply, its ticket, its
//! line of the log or its place in a count; and a message that goes on although it was refused.

use super::{Judge, Mutant};

const DENIAL: &str = "crates/ingress/src/handler/denial.rs";
const HANDLER: &str = "crates/ingress/src/handler/mod.rs";
const METER: &str = "crates/ingress/src/handler/meter.rs";

pub(super) const MUTANTS: [Mutant; 8] = [
    Mutant {
        name: "a refusal is noted and not told",
        file: DENIAL,
        original: "decision.write_reply(&ReplyFacts { detail, ..self.reply_facts(paths, ticket) }, reply);",
        mutated: "let _ = ReplyFacts { detail, ..self.reply_facts(paths, ticket) };",
    },
    Mutant {
        name: "a refusal in other words than the usual has no advice and no ticket",
        file: DENIAL,
        original: "decision.add_advice(&self.reply_facts(paths, ticket), reply);",
        mutated: "let _ = ticket;",
    },
    Mutant {
        name: "a ticket is told that no record has",
        file: DENIAL,
        original: "        self.denials.record = Some(denial);\n        link.remember_ticket(",
        mutated: "        drop(denial);\n        link.remember_ticket(",
    },
    Mutant {
        name: "a refusal that the log sums up is in no metric",
        file: DENIAL,
        original: "            denied.count(self.cx.metrics);\n",
        mutated: "",
    },
    Mutant {
        name: "a refusal has no line of the log",
        file: DENIAL,
        original: "        if may_log {\n            self.cx.log.record_and_count",
        mutated: "        if may_log && false {\n            self.cx.log.record_and_count",
    },
    Mutant {
        name: "a refusal is held against no sender",
        file: DENIAL,
        original: "        self.count_refusal(reason);\n",
        mutated: "",
    },
    Mutant {
        name: "a message that was given up is taken at its end",
        file: HANDLER,
        original: "            self.client.transaction = Transaction::GivenUp(GivenUp { responsible, refusal });\n",
        mutated: "            let _ = GivenUp { responsible, refusal };\n",
    },
    Mutant {
        name: "the limits of a grant whose recipient was refused are those of the message",
        file: METER,
        original: "            self.client.account = before;\n",
        mutated: "            let _ = before;\n",
    },
];

pub(super) fn judges(file: &str) -> Option<&'static [Judge]> {
    let judges: &[Judge] = match file {
        DENIAL => &[
            ("gatepost", &["--test", "rows", "g1_reasons"]),
            ("gatepost", &["--test", "rows", "e4_containment"]),
        ],
        HANDLER => &[("gatepost", &["--test", "rows", "c2_headers"])],
        METER => &[("gatepost", &["--test", "rows", "e3_limits"])],
        _ => return None,
    };
    Some(judges)
}
