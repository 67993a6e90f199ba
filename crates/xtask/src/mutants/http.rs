//! Mistakes in what is served over HTTP: who may see what, who makes room, and whose guesses count.

use super::Mutant;

const ACCESS: &str = "crates/control/src/admin/access.rs";
const TENANTS: &str = "crates/control/src/admin/tenants.rs";
const TICKETS: &str = "crates/control/src/admin/tickets.rs";
const GRANTS: &str = "crates/control/src/admin/grants.rs";
const PLACES: &str = "crates/control/src/door/places.rs";
const VISITOR: &str = "crates/control/src/tickets/page/visitor.rs";

pub(super) const MUTANTS: [Mutant; 8] = [
    Mutant {
        name: "a tenant's token is for every tenant whose name begins alike",
        file: ACCESS,
        original: "is_none_or(|own| own == tenant)",
        mutated: "is_none_or(|own| tenant.starts_with(own))",
    },
    Mutant {
        name: "a tenant's token reads every tenant's tickets",
        file: TICKETS,
        original: "Some(tenant) => principal.is_for(tenant),",
        mutated: "Some(_) => true,",
    },
    Mutant {
        name: "a tenant's token lists every tenant",
        file: TENANTS,
        original: ".filter(|tenant| principal.is_for(&tenant.name))",
        mutated: ".filter(|_| true)",
    },
    Mutant {
        name: "a tenant's token lists every tenant's grants",
        file: GRANTS,
        original: "now < grant.until && principal.is_for(&grant.tenant) && filter.means(grant)",
        mutated: "now < grant.until && filter.means(grant)",
    },
    Mutant {
        name: "a tenant's token ends every tenant's grants",
        file: GRANTS,
        original: "|grant: &Grant| principal.is_for(&grant.tenant) && filter.means(grant);",
        mutated: "|grant: &Grant| filter.means(grant);",
    },
    Mutant {
        name: "the youngest connection makes room",
        file: PLACES,
        original: "held.turn, std::cmp::Reverse(held.since))",
        mutated: "held.turn, held.since)",
    },
    Mutant {
        name: "the client with most connections keeps them",
        file: PLACES,
        original: "(self.holders[&held.holder], held.turn,",
        mutated: "(0, held.turn,",
    },
    Mutant {
        name: "anyone says by X-Forwarded-For who asks",
        file: VISITOR,
        original: "if !is_proxy(nearest) {",
        mutated: "if false {",
    },
];
