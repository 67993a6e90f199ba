use std::collections::BTreeMap;
use std::sync::Arc;

use mail::ScramVerifier;

use crate::source::{IdentitySource, TenantSource};

/// What stands in for a login that does not exist, so that it looks like one that does.
#[derive(Debug)]
pub struct StandIn {
    /// What a password is held against, so that the answer takes as long as for most: a credential of
    /// the commonest form and cost, which no password fits. Empty where no identity has one.
    pub credential: Box<str>,
    /// The shape of most SCRAM verifiers; `None` where no identity has a verifier.
    pub scram_shape: Option<ScramShape>,
}

impl StandIn {
    pub(crate) fn of(tenants: &[Arc<TenantSource>]) -> Self {
        Self { credential: credential(tenants), scram_shape: ScramShape::commonest(tenants) }
    }
}

/// What of a SCRAM verifier is shown to anyone who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScramShape {
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// The length of the salt.
    pub salt_bytes: usize,
}

impl ScramShape {
    /// That of a verifier.
    #[must_use]
    pub fn of(verifier: &ScramVerifier) -> Self {
        Self { iterations: verifier.iterations, salt_bytes: verifier.salt.len() }
    }

    fn commonest(tenants: &[Arc<TenantSource>]) -> Option<Self> {
        let mut counts = BTreeMap::new();
        let identities = tenants.iter().flat_map(|tenant| &tenant.identities);
        for verifier in identities.filter_map(|identity| identity.scram.as_ref()) {
            *counts.entry(Self::of(verifier)).or_insert(0_u32) += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(shape, _)| shape)
    }
}

/// What distinguishes the cost of a credential: of a hash all that stands before its salt, and how
/// long its salt and the hash itself are; of a verifier the length of its salt and its iterations.
type Cost<'a> = (&'a str, usize, usize);

/// A credential that costs what most of them cost to hold a password against, and that no password
/// fits: the commonest with zeros for what a password would have to become. Empty where there is none.
fn credential(tenants: &[Arc<TenantSource>]) -> Box<str> {
    let mut counts: BTreeMap<Cost<'_>, (usize, &IdentitySource)> = BTreeMap::new();
    for identity in tenants.iter().flat_map(|tenant| &tenant.identities) {
        let Some(cost) = cost(identity) else { continue };
        counts.entry(cost).or_insert((0, identity)).0 += 1;
    }
    let commonest = counts.into_values().max_by_key(|(count, _)| *count);
    commonest.map_or_else(String::new, |(_, identity)| without_secret(identity)).into()
}

/// Of what a password is held against: the hash where there is one, else the verifier.
fn cost(identity: &IdentitySource) -> Option<Cost<'_>> {
    match parts(&identity.credential) {
        Some((head, salt, hash)) => Some((head, salt.len(), hash.len())),
        None => identity.scram.as_ref().map(|known| ("", known.salt.len(), known.iterations as usize)),
    }
}

fn without_secret(identity: &IdentitySource) -> String {
    match (parts(&identity.credential), &identity.scram) {
        (Some((head, salt, hash)), _) => format!("{head}${salt}${}", "A".repeat(hash.len())),
        (None, Some(known)) => {
            ScramVerifier { stored_key: [0; 32], server_key: [0; 32], ..known.clone() }.to_string()
        }
        (None, None) => String::new(),
    }
}

/// The parts of a hash in PHC form: its kind and parameters, its salt, the hash itself.
fn parts(credential: &str) -> Option<(&str, &str, &str)> {
    let (rest, hash) = credential.rsplit_once('$')?;
    let (head, salt) = rest.rsplit_once('$')?;
    Some((head, salt, hash))
}
