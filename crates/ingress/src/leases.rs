//! The connections that one connection counts as: its tenant's, its login's, its network's and its address's.

use commons::{Account, ConnectionLease, Key, Limits};
use policy::{Snapshot, Whom};

/// The connections that this one counts as, as long as it lives.
#[derive(Debug, Default)]
pub(crate) struct Leases([Option<(Key, ConnectionLease)>; 4]);

impl Leases {
    /// Counts the connection for whom `account` says, and no longer for anyone else. The first
    /// who has as many as it may: it is not counted there.
    pub(crate) fn renew(
        &mut self,
        limits: &Limits,
        snapshot: &Snapshot,
        account: &Account,
    ) -> Result<(), (Whom, u32)> {
        for whom in [Whom::Tenant, Whom::Identity, Whom::Network, Whom::Client] {
            let held = &mut self.0[whom as usize];
            if held.as_ref().is_some_and(|(key, _)| Some(*key) != account.key(whom)) {
                *held = None;
            }
        }
        for (whom, key, allowance) in account.subjects(snapshot) {
            let held = &mut self.0[whom as usize];
            if held.is_some() {
                continue;
            }
            let lease = match (whom, allowance.connections_max) {
                // A stranger's address is counted by its places.
                (Whom::Client, _) if account.tenant.is_none() => continue,
                (Whom::Tenant, _) => limits.connect_tenant(snapshot, account.tenant),
                (_, None) => continue,
                (_, Some(limit)) => limits.connection_counts().take(key, limit),
            };
            let Some(lease) = lease else { return Err((whom, allowance.connections_max.unwrap_or(0))) };
            *held = Some((key, lease));
        }
        Ok(())
    }
}
