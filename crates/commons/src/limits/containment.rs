//! A sender that causes a burst of trouble is suspended by itself (DESIGN.md E4): the login,
//! or the address in a tenant's network where there is none, and never the tenant.
//!
//! The thresholds are the tenant's own; without one nothing is counted. The data plane counts as it
//! goes: one atomic a denial, bounce or failed login.

use std::net::IpAddr;

use mail::{SuspensionCause, UnixMillis};
use policy::{Snapshot, TenantIx, Threshold};

use super::{Charged, Key, Limits, Rate, Subject, Suspension};

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

impl Limits {
    /// Counts trouble of a `cause` that `sender` made; gives what followed when that was too much.
    /// A login that does not exist, and an address in no tenant's network, have no threshold.
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
        let charged = match sender {
            Sender::Login(login) => Charged::Login(login),
            Sender::Client(address) => Charged::Client { tenant: Some(name), address },
        };
        let key = Key::of(charged).part(cause as u64);
        let rate = Rate::new(u64::from(threshold.count), threshold.within);
        self.incidents.take(key, 1, &rate, now).err()?;
        // A sender that is let go begins anew.
        self.incidents.forget(key);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use policy::{Containment, Limits, LoginRequired, Origin, RouteSource, Source, Sourced, TenantSource};

    use super::*;

    const NOON: UnixMillis = UnixMillis(1_795_390_496_000);
    const MINUTE: u64 = 60_000;
    const DENIALS: SuspensionCause = SuspensionCause::Denials;

    /// One network, and fifty denials in ten minutes are borne.
    fn snapshot() -> Snapshot {
        let origin = Origin::new("proseware.toml", 1);
        let at = |text: &str| Sourced::new(text.to_owned(), origin.clone());
        let containment = Containment {
            denials: Some(Threshold { count: 50, within: Duration::from_secs(600) }),
            bounces: None,
            failed_logins: None,
            suspend_for: Duration::from_secs(3600),
        };
        let route = RouteSource {
            origin: origin.clone(),
            recipient_domains: vec![at("*")],
            next_hops: vec!["192.0.2.25".parse().expect("a next hop")],
            tls: policy::RouteTls::Off,
            connections_max: 1,
        };
        let tenant = TenantSource {
            name: at("proseware"),
            networks: vec![Sourced::new("198.51.100.0/24".parse().expect("a prefix"), origin.clone())],
            excluded_networks: Vec::new(),
            senders: vec![at("@proseware.example")],
            login_required: Sourced::new(LoginRequired::Never, origin.clone()),
            null_sender: Sourced::new(false, origin.clone()),
            sender_rules: policy::SenderRulesSource::default(),
            lists: policy::ListsSource::default(),
            relay_domains: Vec::new(),
            routes: vec![route],
            identities: Vec::new(),
            limits: Limits { containment: Some(Arc::new(containment)), ..Limits::default() },
            grants: None,
        };
        let source = Source {
            generation: 1,
            origin: origin.clone(),
            routes: Vec::new(),
            limits: Default::default(),
            lists: policy::ListsSource::default(),
            tenants: vec![tenant.into()],
        };
        Snapshot::compile(&source).expect("the fixture compiles")
    }

    fn client(last: u8) -> Sender<'static> {
        Sender::Client([198, 51, 100, last].into())
    }

    #[test]
    fn the_threshold_is_borne_and_one_more_is_not() {
        let limits = crate::Limits::default();
        let snapshot = snapshot();
        let incident = |sender, now| limits.incident(&snapshot, sender, DENIALS, now);
        assert!((0..50).all(|_| incident(client(7), NOON).is_none()));
        assert!(incident(client(8), NOON).is_none(), "a neighbour has its own");
        assert!(incident(Sender::Client([192, 0, 2, 1].into()), NOON).is_none(), "a stranger has none");
        let contained = incident(client(7), NOON).expect("it is one too many");
        assert_eq!(contained.until, NOON.plus(60 * MINUTE));
        let subject = Subject::Client { tenant: Some("proseware".into()), ip: [198, 51, 100, 7].into() };
        let listed = limits.suspensions().list(NOON);
        let suspension = Suspension { cause: DENIALS, since: NOON, until: Some(contained.until) };
        assert_eq!(listed, [(subject.clone(), suspension)]);
        assert!(limits.suspensions().lift(&subject));
        assert!((0..50).all(|_| incident(client(7), NOON).is_none()), "a sender that is let go begins anew");
    }

    #[test]
    fn a_steady_trickle_below_the_threshold_is_borne_for_ever() {
        let limits = crate::Limits::default();
        let snapshot = snapshot();
        for minute in 0..24 * 60 {
            for _ in 0..5 {
                let now = NOON.plus(minute * MINUTE);
                assert_eq!(limits.incident(&snapshot, client(7), DENIALS, now), None);
            }
        }
    }

    #[test]
    fn what_a_person_suspended_stays_as_it_is() {
        let limits = crate::Limits::default();
        let snapshot = snapshot();
        let subject = Subject::Client { tenant: Some("proseware".into()), ip: [198, 51, 100, 7].into() };
        let held = Suspension { cause: SuspensionCause::Operator, since: NOON, until: None };
        limits.suspensions().suspend(&subject, held).expect("there is room");
        assert!((0..60).all(|_| limits.incident(&snapshot, client(7), DENIALS, NOON).is_none()));
        assert_eq!(limits.suspensions().list(NOON), [(subject, held)]);
    }
}
