//! A sender that causes a burst of trouble is suspended by itself (relay-control.md E4): the login,
//! or the address in a tenant's network where there is none, and never the tenant.
//!
//! The thresholds are the tenant's own; without one nothing is counted. The data plane counts as it
//! goes: one atomic a denial, bounce or failed login.

use std::net::IpAddr;

use mail::{SuspensionCause, UnixMillis};
use policy::{Snapshot, TenantIx, Threshold};

use crate::{Commons, Rate, Subject, Suspension};

/// Who sent what went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender<'a> {
    /// A login, or the login of a grant.
    Login(&'a str),
    /// A client address that no login stands for.
    Client(IpAddr),
}

/// A sender was suspended just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contained {
    /// Whose sender it is.
    pub tenant: TenantIx,
    /// What it went beyond.
    pub threshold: Threshold,
    /// Until when it is suspended.
    pub until: UnixMillis,
}

impl Commons {
    /// Counts trouble of a `cause` that `sender` made; gives what followed when that was too much.
    /// A login that nobody has, and an address in no tenant's network, have no threshold.
    pub fn incident(
        &self,
        snapshot: &Snapshot,
        sender: Sender<'_>,
        cause: SuspensionCause,
        now: UnixMillis,
    ) -> Option<Contained> {
        let tenant = match sender {
            Sender::Login(login) => snapshot.identity_tenant(snapshot.identity(login)?),
            Sender::Client(ip) => snapshot.network_tenant(ip)?,
        };
        let containment = snapshot.limits(tenant).containment.as_ref()?;
        let threshold = match cause {
            SuspensionCause::Operator => None,
            SuspensionCause::Denials => containment.denials,
            SuspensionCause::Bounces => containment.bounces,
            SuspensionCause::FailedLogins => containment.failed_logins,
        }?;
        let name = &snapshot.tenant(tenant).name;
        let key = self.incidents().key(&(cause, sender, name));
        let rate = Rate::new(u64::from(threshold.count), threshold.within);
        self.incidents().take(key, 1, &rate, now).err()?;
        // Whoever is let go begins anew.
        self.incidents().forget(key);
        let (subject, held) = match sender {
            Sender::Login(login) => (Subject::Login(login.into()), self.suspensions().login(login, now)),
            Sender::Client(ip) => (
                Subject::Client { tenant: Some(name.clone()), ip },
                self.suspensions().client(ip, Some(name), now),
            ),
        };
        if held.is_some() {
            return None;
        }
        let until = now.plus(containment.suspend_for.as_millis() as u64);
        let suspension = Suspension { cause, since: now, until: Some(until) };
        self.suspensions().suspend(&subject, suspension).ok()?;
        Some(Contained { tenant, threshold, until })
    }
}
