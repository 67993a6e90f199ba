//! What a tenant may use in a time, and when a sender of its is held: the amounts as they are
//! written. What was used is counted elsewhere, under names, and so outlives this.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The limits of a tenant; one that is not written is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message.
    pub message_bytes_max: Option<u64>,
    /// Recipients of one transaction.
    pub recipients_max: Option<u32>,
    /// Connections and amounts in a time; `None` where nothing of the kind is written.
    pub allowances: Option<Arc<Allowances>>,
    /// When a sender of the tenant's is suspended without anyone asking for it.
    pub containment: Option<Arc<Containment>>,
}

impl Limits {
    /// What each `whom` of the tenant may use.
    #[must_use]
    pub fn allowance(&self, whom: Whom) -> &Allowance {
        static NOTHING_WRITTEN: Allowance = Allowance { connections_max: None, rates: Vec::new() };
        let Some(allowances) = &self.allowances else { return &NOTHING_WRITTEN };
        match whom {
            Whom::Tenant => &allowances.tenant,
            Whom::Identity => &allowances.identity,
            Whom::Network => &allowances.network,
            Whom::Client => &allowances.client,
        }
    }
}

/// Limits of the node itself, for whom no tenant answers, and how it words a suspension.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeLimits {
    /// What the clients of one address may use that are in no tenant's network and have not logged in.
    pub client: Allowance,
    /// A suspended sender is told 450, so that its mail waits at its own server, rather than 550,
    /// so that a person hears of it.
    pub suspension_is_temporary: bool,
}

/// Whose use is counted together. A client is an IPv4 address or an IPv6 /64, which is what one
/// machine has to choose its addresses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whom {
    /// The tenant as a whole.
    Tenant,
    /// One login, or the login that a grant is for.
    Identity,
    /// One of the prefixes in `networks`.
    Network,
    /// One client address.
    Client,
}

/// The limits of a tenant, by whose use they count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowances {
    /// `[limits]`.
    pub tenant: Allowance,
    /// `[limits.identity]`: of each.
    pub identity: Allowance,
    /// `[limits.network]`: of each.
    pub network: Allowance,
    /// `[limits.client]`: of each.
    pub client: Allowance,
}

/// What one subject may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Connections at the same time.
    pub connections_max: Option<u32>,
    /// Amounts in a time, in the order in which they are asked.
    pub rates: Vec<RateLimit>,
}

impl Allowance {
    /// No limit is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections_max.is_none() && self.rates.is_empty()
    }
}

/// So many in so long: `messages_per_minute = 6000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// What is counted.
    pub of: Counted,
    /// In how long.
    pub per: Period,
    /// How many; at least 1.
    pub amount: u64,
}

impl RateLimit {
    /// The number of its kind, for good: limits of one subject that differ in it are counted apart, by the whole fleet.
    #[must_use]
    pub fn kind(&self) -> u64 {
        self.of as u64 * 4 + self.per as u64
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let article = if self.per == Period::Hour { "an" } else { "a" };
        write!(f, "{} {} {article} {}", self.amount, self.of.as_str(), self.per.as_str())
    }
}

/// What a limit over time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Counted {
    /// Connections, as they are accepted.
    Connections,
    /// Messages that got their 250.
    Messages,
    /// Recipients that got their 250.
    Recipients,
    /// Bytes of messages that got their 250.
    Bytes,
}

impl Counted {
    /// The word for it, in keys and sentences.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Messages => "messages",
            Self::Recipients => "recipients",
            Self::Bytes => "bytes",
        }
    }
}

/// In how long an amount is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Period {
    /// A second.
    Second,
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours; an amount in a day is a quota.
    Day,
}

impl Period {
    /// The word for it, in keys and sentences.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// How long it is.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        })
    }
}

/// When a sender is suspended by itself (DESIGN.md E4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Containment {
    /// Permanent denials.
    pub denials: Option<Threshold>,
    /// Recipients whose delivery failed for good.
    pub bounces: Option<Threshold>,
    /// Failed logins.
    pub failed_logins: Option<Threshold>,
    /// For how long.
    pub suspend_for: Duration,
}

/// More than `count` in a burst, or more than that in every `within` for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// What passes; at least 1.
    pub count: u32,
    /// In how long.
    pub within: Duration,
}
