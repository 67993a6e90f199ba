//! Mistakes for which strangers who lay siege wait: a log without a bound, room that is held by words, and what
//! guesses take from those who know.

use super::{Judge, Mutant};

const FOLDS: &str = "crates/ingress/src/folds.rs";
const GUESSES: &str = "crates/ingress/src/guesses.rs";
const LARGE: &str = "crates/ingress/src/handler/large.rs";
const PAGE: &str = "crates/control/src/tickets/page.rs";
const VERIFY: &str = "crates/control/src/verify.rs";

pub(super) const MUTANTS: [Mutant; 9] = [
    Mutant {
        name: "each denial of a client has a line",
        file: FOLDS,
        original: "if self.places[place].lines == LINES_A_WINDOW_MAX {",
        mutated: "if self.places[place].lines == u32::MAX {",
    },
    Mutant {
        name: "a client that takes another's place takes its sum along",
        file: FOLDS,
        original: "            place.sum_up(&mut self.sides, pen);\n            (place.client",
        mutated: "            place.fold.clear();\n            (place.client",
    },
    Mutant {
        name: "each address of an army has a line",
        file: FOLDS,
        original: "let has_line = shared.lines < LINES_OF_SIDE_MAX;",
        mutated: "let has_line = shared.lines < u32::MAX;",
    },
    Mutant {
        name: "strangers take the lines of tenants",
        file: FOLDS,
        original: "        let shared = &mut self.sides[side as usize];\n        if shared.begun",
        mutated: "        let shared = &mut self.sides[0];\n        if shared.begun",
    },
    Mutant {
        name: "each address of a stubborn army has a sum",
        file: FOLDS,
        original: "if shared.sums < SUMS_OF_SIDE_MAX {",
        mutated: "if shared.sums < u32::MAX {",
    },
    Mutant {
        name: "a login that is guessed once takes the place of one that is attacked",
        file: GUESSES,
        original: "(0..self.used).min_by_key(",
        mutated: "(0..self.used).max_by_key(",
    },
    Mutant {
        name: "what a client says it will send is held for it",
        file: LARGE,
        original: "        fits.is_ok()\n",
        mutated: "        fits.is_ok() && self.hold(bytes).is_ok()\n",
    },
    Mutant {
        name: "a true ticket is denied to those beside a guesser",
        file: PAGE,
        original: "        if let Some(record) = self.tickets.find(ticket).await {\n",
        mutated: "        if self.unknown.peek(guesser(client), 1, &UNKNOWN, crate::now()).is_err() {\n            \
                  return self.respond(StatusCode::TOO_MANY_REQUESTS, view, &view.too_many());\n        }\n        \
                  if let Some(record) = self.tickets.find(ticket).await {\n",
    },
    Mutant {
        name: "a password that fitted waits behind those that are guessed",
        file: VERIFY,
        original: "if let Some(network) = login.trusted_network {",
        mutated: "if let Some(network) = login.trusted_network.filter(|_| false) {",
    },
];

pub(super) fn judges(file: &str) -> Option<&'static [Judge]> {
    let judges: &[Judge] = match file {
        FOLDS | GUESSES => &[("gatepost-ingress", &["--lib"])],
        LARGE => &[("gatepost", &["--test", "rows", "e3_sizes"])],
        PAGE => &[("gatepost", &["--test", "rows", "g2_explanations"])],
        _ => return None,
    };
    Some(judges)
}
