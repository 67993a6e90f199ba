//! What limits count and whom they hold: rates, connections at the same time, grants, suspensions.
//!
//! What is counted here has names or [`Key`]s that mean the same in every process.

mod account;
mod containment;
mod counts;
mod grants;
mod key;
mod machine;
mod rates;
mod suspensions;
mod tenants;

use std::fmt;
use std::sync::Arc;

use policy::{Snapshot, TenantIx, Whom};

pub use account::{Account, Over, Use};
pub use containment::{Contained, Sender};
pub use counts::ConnectionCounts;
pub use grants::{GRANTS_MAX, GRANTS_PER_ADDRESS_MAX, Grant, GrantedIdentities, Grants, NoRoom};
pub use key::{Charged, Key};
pub use machine::machine;
pub use rates::{Rate, RateTable};
pub use suspensions::{SUSPENSIONS_MAX, Subject, Suspension, Suspensions, TooManySuspensions};
pub use tenants::ConnectionLease;

use crate::table::Table;
use tenants::Connections;

/// Limits that were charged and have not rested since, at most, before those nearest to free are
/// forgotten: 4 MiB, and a dozen limits of each of 20,000 busy senders.
pub const RATES_MAX: usize = 1 << 18;

/// Logins, networks and addresses whose connections are counted at the same time: 1 MiB.
pub const CONNECTION_COUNTS_MAX: usize = 1 << 17;

/// Addresses and logins whose last login failed, before those nearest to free are forgotten: 1 MiB.
/// Apart from the others, so that an army of guessers displaces only guessers.
pub const LOGIN_FAILURES_MAX: usize = 1 << 16;

/// Pairs of an address and a login that succeeded within a day, before those nearest to the end of it
/// are forgotten: 1 MiB.
pub const LOGIN_SUCCESSES_MAX: usize = 1 << 16;

/// Senders whose denials, bounces and failed logins are counted, before those with the fewest are
/// forgotten: 256 KiB.
pub const INCIDENTS_MAX: usize = 1 << 14;

/// All that limits count and hold. Workers charge and ask it without a lock.
pub struct Limits {
    tenants: Table<Connections>,
    connection_counts: Arc<ConnectionCounts>,
    rates: RateTable,
    login_failures: RateTable,
    login_successes: RateTable,
    incidents: RateTable,
    grants: Grants,
    suspensions: Suspensions,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tenants: Table::default(),
            connection_counts: Arc::new(ConnectionCounts::new(CONNECTION_COUNTS_MAX)),
            rates: RateTable::new(RATES_MAX),
            login_failures: RateTable::new(LOGIN_FAILURES_MAX),
            login_successes: RateTable::new(LOGIN_SUCCESSES_MAX),
            incidents: RateTable::new(INCIDENTS_MAX),
            grants: Grants::default(),
            suspensions: Suspensions::default(),
        }
    }
}

impl Limits {
    /// Counts a connection for its tenant; `None` at the tenant's limit. A stranger's connection
    /// (no tenant) counts for none and always passes here.
    #[must_use]
    pub fn connect_tenant(&self, snapshot: &Snapshot, tenant: Option<TenantIx>) -> Option<ConnectionLease> {
        let Some(tenant) = tenant else { return Some(ConnectionLease::uncounted()) };
        let tenant = snapshot.tenant(tenant);
        self.tenants
            .get_or_insert(&tenant.name, Connections::default)
            .take(tenant.limits.allowance(Whom::Tenant).connections_max)
    }

    /// What mailbox logins have opened: the control plane writes, workers read.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Connections at the same time of logins, networks and addresses.
    #[must_use]
    pub fn connection_counts(&self) -> &Arc<ConnectionCounts> {
        &self.connection_counts
    }

    /// What limits were charged: messages, recipients, bytes, connections.
    #[must_use]
    pub fn rates(&self) -> &RateTable {
        &self.rates
    }

    /// What failed logins were charged.
    #[must_use]
    pub fn login_failures(&self) -> &RateTable {
        &self.login_failures
    }

    /// From where logins succeeded, as charges that flow off.
    #[must_use]
    pub fn login_successes(&self) -> &RateTable {
        &self.login_successes
    }

    /// Who is suspended.
    #[must_use]
    pub fn suspensions(&self) -> &Suspensions {
        &self.suspensions
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}
