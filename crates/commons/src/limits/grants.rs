//! Grants: short-lived permissions of one client address to relay as one identity, because that
//! identity has just logged in to its mailbox from there (DESIGN.md A2).
//!
//! Workers read without a lock and without allocation: one load of a counter where there is no
//! grant at all, one atomic pointer and one look-up where there are some. The control plane writes
//! by copying a small part of the table. A grant names its identity by login and tenant and is
//! looked up in the configuration in force whenever it is used, so that it outlives a reload, and
//! ends with a reload that removes the login.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use mail::UnixMillis;
use policy::{IdentityIx, Snapshot};

/// Grants at the same time, over all tenants: 400 logins a second, none from an address seen
/// before, for the default of ten minutes; 50 MiB at 200 bytes each.
pub const GRANTS_MAX: usize = 1 << 18;

/// Identities with a grant for the same address, at most: an address with more people behind it is
/// a shared one, for which a login on the submission port is the way.
pub const GRANTS_PER_ADDRESS_MAX: usize = 16;

/// Parts of the table: a full one holds 1024 addresses, so that an opening copies at most 40 KiB.
const PARTS: usize = 256;

type Part = HashMap<IpAddr, Arc<[Grant]>>;

/// One permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The client address; IPv4 mapped into IPv6 is IPv4.
    pub address: IpAddr,
    /// The tenant's name.
    pub tenant: Arc<str>,
    /// The identity, as the configuration writes its login.
    pub login: Arc<str>,
    /// When it was opened, or renewed last.
    pub opened: UnixMillis,
    /// The first moment at which it is no more.
    pub until: UnixMillis,
}

impl Grant {
    fn is_of(&self, tenant: &str, login: &str) -> bool {
        *self.tenant == *tenant && self.login.eq_ignore_ascii_case(login)
    }
}

/// Why a grant found no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// There are [`GRANTS_MAX`].
    Table,
    /// [`GRANTS_PER_ADDRESS_MAX`] other identities have one for this address.
    Address,
}

/// The table of all grants.
pub struct Grants {
    parts: Box<[ArcSwap<Part>]>,
    held: AtomicUsize,
}

impl Default for Grants {
    fn default() -> Self {
        Self { parts: (0..PARTS).map(|_| ArcSwap::default()).collect(), held: AtomicUsize::new(0) }
    }
}

impl Grants {
    /// The identities of `snapshot` with a grant for `client` at `now`.
    #[must_use]
    pub fn of(&self, client: IpAddr, now: UnixMillis, snapshot: &Snapshot) -> GrantedIdentities {
        let mut granted = GrantedIdentities::default();
        if self.held.load(Ordering::Acquire) == 0 {
            return granted;
        }
        let client = client.to_canonical();
        let part = self.part(client).load();
        let Some(grants) = part.get(&client) else { return granted };
        for grant in grants.iter().filter(|grant| now < grant.until) {
            if let Some(identity) = snapshot.identity(&grant.login)
                && *snapshot.tenant(snapshot.identity_tenant(identity)).name == *grant.tenant
            {
                granted.push(identity);
            }
        }
        granted
    }

    /// Opens a grant, or renews the one that the identity has for this address. For the control plane.
    ///
    /// # Errors
    /// When there is no room; grants that are over count until [`Grants::end_where`] has ended them.
    pub fn open(&self, mut grant: Grant) -> Result<(), NoRoom> {
        grant.address = grant.address.to_canonical();
        let full = self.len() >= GRANTS_MAX;
        let outcome = Cell::new(Ok(0));
        self.part(grant.address).rcu(|part| {
            let known = part.get(&grant.address).map_or(&[][..], |grants| grants);
            let mut kept: Vec<Grant> =
                known.iter().filter(|held| !held.is_of(&grant.tenant, &grant.login)).cloned().collect();
            let added = kept.len() + 1 - known.len();
            let refused = match added {
                0 => None,
                _ if full => Some(NoRoom::Table),
                _ => (known.len() >= GRANTS_PER_ADDRESS_MAX).then_some(NoRoom::Address),
            };
            if let Some(refused) = refused {
                outcome.set(Err(refused));
                return Arc::clone(part);
            }
            outcome.set(Ok(added));
            kept.push(grant.clone());
            let mut grown = Part::clone(part);
            grown.insert(grant.address, kept.into());
            Arc::new(grown)
        });
        let added = outcome.get()?;
        self.held.fetch_add(added, Ordering::AcqRel);
        Ok(())
    }

    /// Ends the grants of `login` for `address`; gives what it ended. For the control plane.
    pub fn revoke(&self, address: IpAddr, login: &str) -> Vec<Grant> {
        let address = address.to_canonical();
        let is_meant = |grant: &Grant| grant.address == address && grant.login.eq_ignore_ascii_case(login);
        self.end_in(self.part(address), &is_meant)
    }

    /// Ends every grant of which `is_over` says so; gives what it ended. For the control plane.
    pub fn end_where(&self, is_over: impl Fn(&Grant) -> bool) -> Vec<Grant> {
        if self.is_empty() {
            return Vec::new();
        }
        self.parts.iter().flat_map(|part| self.end_in(part, &is_over)).collect()
    }

    /// Every grant, the one that ends first in front. For the control plane.
    #[must_use]
    pub fn list(&self) -> Vec<Grant> {
        let mut grants: Vec<Grant> = Vec::with_capacity(self.len());
        for part in &self.parts {
            grants.extend(part.load().values().flat_map(|grants| grants.iter().cloned()));
        }
        grants.sort_by(|a, b| (a.until, a.address, &a.login).cmp(&(b.until, b.address, &b.login)));
        grants
    }

    /// How many there are, those included that are over and not ended yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn end_in(&self, part: &ArcSwap<Part>, is_over: &impl Fn(&Grant) -> bool) -> Vec<Grant> {
        if !part.load().values().any(|grants| grants.iter().any(is_over)) {
            return Vec::new();
        }
        let ended = Cell::new(Vec::new());
        part.rcu(|part| {
            let mut over = Vec::new();
            let mut rest = Part::clone(part);
            rest.retain(|_, grants| {
                let (gone, kept): (Vec<_>, Vec<_>) = grants.iter().cloned().partition(is_over);
                if !gone.is_empty() {
                    *grants = kept.into();
                    over.extend(gone);
                }
                !grants.is_empty()
            });
            ended.set(over);
            rest
        });
        let ended = ended.take();
        self.held.fetch_sub(ended.len(), Ordering::AcqRel);
        ended
    }

    fn part(&self, address: IpAddr) -> &ArcSwap<Part> {
        // Neighbours of one network fall into different parts; who may open a grant gains nothing by collisions.
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let bits = match address {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 ^ (v6.to_bits() as u64).rotate_left(32),
        };
        &self.parts[(bits.wrapping_mul(GOLDEN) >> (u64::BITS - PARTS.ilog2())) as usize]
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grants").field("held", &self.len()).finish_non_exhaustive()
    }
}

/// The identities that have a grant for a client: for one command, without allocation.
#[derive(Clone, Copy, Debug)]
pub struct GrantedIdentities {
    identities: [IdentityIx; GRANTS_PER_ADDRESS_MAX],
    count: usize,
}

impl Default for GrantedIdentities {
    fn default() -> Self {
        Self { identities: [IdentityIx(0); GRANTS_PER_ADDRESS_MAX], count: 0 }
    }
}

impl GrantedIdentities {
    /// In the order in which they were opened.
    #[must_use]
    pub fn as_slice(&self) -> &[IdentityIx] {
        &self.identities[..self.count]
    }

    fn push(&mut self, identity: IdentityIx) {
        self.identities[self.count] = identity;
        self.count += 1;
    }
}

#[cfg(test)]
mod tests;
