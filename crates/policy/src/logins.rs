//! The logins of all tenants: the largest of the tables, and one that few changes touch.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::front::Identity;
use crate::index::IdentityIx;
use crate::names::Names;
use crate::patterns::Patterns;
use crate::source::{IdentitySource, Sourced, TenantSource};

/// The logins of all tenants. The snapshots of configurations that have the same ones share it.
#[derive(Clone, Debug)]
pub(crate) struct Logins {
    pub(crate) identities: Arc<[Identity]>,
    pub(crate) names: Arc<Names<IdentityIx>>,
    /// Sender patterns of identities that are too long to lie in them.
    pub(crate) long_senders: Arc<[Patterns]>,
}

impl Logins {
    pub(crate) fn at(&self, identity: IdentityIx) -> &Identity {
        &self.identities[identity.0 as usize]
    }
}

/// Whether the table of logins that was made of `before` is what would be made of `now`.
///
/// Where a tenant comes, goes or moves, the numbers of others change, and with them the table.
pub(crate) fn are_the_same(before: &[Arc<TenantSource>], now: &[Arc<TenantSource>]) -> bool {
    let same = |(before, now): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(before, now) || has_the_same(before, now);
    before.len() == now.len() && before.iter().zip(now).all(same)
}

/// What an [`Identity`] is made of: its own source, and of its tenant the senders, for a login that
/// has no own ones, and whether there are rules about them. Credentials are read in the source.
fn has_the_same(before: &TenantSource, now: &TenantSource) -> bool {
    let same = |(before, now): (&IdentitySource, &IdentitySource)| {
        let IdentitySource { login, credential: _, scram: _, senders, null_sender } = now;
        before.login.value == login.value
            && are_equal(&before.senders, senders)
            && before.null_sender == *null_sender
    };
    before.identities.len() == now.identities.len()
        && before.identities.iter().zip(&now.identities).all(same)
        && are_equal(&before.senders, &now.senders)
        && before.sender_rules.is_any() == now.sender_rules.is_any()
}

/// Wherever they are written.
fn are_equal(before: &[Sourced<String>], now: &[Sourced<String>]) -> bool {
    before.iter().map(|line| &line.value).eq(now.iter().map(|line| &line.value))
}
