//! What may be used in a time, by whom, and when a sender is held: `[limits]`, `[containment]` and
//! `[suspension]`.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use mail::limits::SessionLimits;
use policy::{
    Allowance, Allowances, Containment, Counted, Limits, NodeLimits, Period, RateLimit, Source, Threshold,
};

use crate::error::Report;
use crate::section::{Keys, Section};
use crate::units::{parse_duration, parse_size};

const NODE: Keys = Keys {
    known: &[
        "client",
        "connections",
        "message_size",
        "session_errors",
        "session_idle_commands",
        "recipients_per_message",
    ],
    later: &[],
};

/// Connections at once: fewer would not let a tenant log in beside strangers.
const CONNECTIONS: RangeInclusive<u32> = 64..=1_000_000;
/// Bytes of a message: RFC 5321 section 4.5.3.1.7 asks for 64 kB at least.
const MESSAGE_SIZE_MIN: u64 = 64 << 10;
/// Bytes of a message where nothing is written.
const MESSAGE_SIZE_DEFAULT: u64 = 64 << 20;

/// Errors of a session: one that bears more is worth guessing in.
const SESSION_ERRORS: RangeInclusive<u32> = 1..=10_000;
/// Commands in a row without mail: fewer would end sessions that only start TLS, log in and think.
const SESSION_IDLE_COMMANDS: RangeInclusive<u32> = 10..=1_000_000;
/// Recipients of a message: at least what RFC 5321 section 4.5.3.1.8 asks for, and no more than a
/// session can be trusted to hold in memory at once.
const RECIPIENTS_PER_MESSAGE: RangeInclusive<u32> = 100..=100_000;
const SUSPENSION: Keys = Keys { known: &["reply"], later: &[] };
const CONTAINMENT: Keys = Keys { known: &["denials", "bounces", "failed_logins", "suspend_for"], later: &[] };

/// What each limit over time counts and in how long, in the order in which they are asked: the
/// longest first, because it frees last.
const RATES: [(&str, Counted, Period); 16] = [
    ("connections_per_day", Counted::Connections, Period::Day),
    ("connections_per_hour", Counted::Connections, Period::Hour),
    ("connections_per_minute", Counted::Connections, Period::Minute),
    ("connections_per_second", Counted::Connections, Period::Second),
    ("messages_per_day", Counted::Messages, Period::Day),
    ("messages_per_hour", Counted::Messages, Period::Hour),
    ("messages_per_minute", Counted::Messages, Period::Minute),
    ("messages_per_second", Counted::Messages, Period::Second),
    ("recipients_per_day", Counted::Recipients, Period::Day),
    ("recipients_per_hour", Counted::Recipients, Period::Hour),
    ("recipients_per_minute", Counted::Recipients, Period::Minute),
    ("recipients_per_second", Counted::Recipients, Period::Second),
    ("bytes_per_day", Counted::Bytes, Period::Day),
    ("bytes_per_hour", Counted::Bytes, Period::Hour),
    ("bytes_per_minute", Counted::Bytes, Period::Minute),
    ("bytes_per_second", Counted::Bytes, Period::Second),
];

const ALLOWANCE: Keys = Keys { known: &with_rates::<17>(&["connections"]), later: &[] };
const TENANT: Keys = Keys {
    known: &with_rates::<22>(&[
        "recipients_per_message",
        "message_size",
        "connections",
        "identity",
        "network",
        "client",
    ]),
    later: &[],
};

/// `others`, and the keys of all limits over time.
const fn with_rates<const N: usize>(others: &[&'static str]) -> [&'static str; N] {
    let mut keys = [""; N];
    let mut at = 0;
    while at < N {
        keys[at] = if at < others.len() { others[at] } else { RATES[at - others.len()].0 };
        at += 1;
    }
    keys
}

/// What the clients of a node may cost it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// What a session may cost.
    pub sessions: SessionLimits,
    /// Connections of clients at once; `None`: what the file descriptors allow.
    pub connections_max: Option<u32>,
    /// Bytes of a message: what SIZE announces. A tenant may set less.
    pub message_bytes_max: u64,
}

/// The node's own: for clients that no tenant answers for, and what any client may cost.
pub(crate) fn node(top: &Section<'_>, report: &mut Report) -> (NodeLimits, ClientLimits) {
    let section = top.section("limits", &NODE, report);
    let client = section.as_ref().map(|limits| allowance_of(limits, "client", report));
    let clients = clients(section.as_ref(), report);
    let words = [("permanent", false), ("temporary", true)];
    let reply = top.section("suspension", &SUSPENSION, report).and_then(|suspension| {
        suspension.demand("reply", "\"permanent\" or \"temporary\"", report);
        suspension.choice("reply", &words, report)
    });
    let limits = NodeLimits {
        client: client.unwrap_or_default(),
        suspension_is_temporary: reply.is_some_and(|reply| reply.value),
    };
    (limits, clients)
}

fn clients(section: Option<&Section<'_>>, report: &mut Report) -> ClientLimits {
    let connections = section.and_then(|section| section.number_in("connections", CONNECTIONS, report));
    let size = section.and_then(|section| Some((section, section.unit("message_size", parse_size, report)?)));
    if let Some((section, size)) = &size
        && size.value < MESSAGE_SIZE_MIN
    {
        let remedy = "write \"64KiB\" or more, as RFC 5321 asks of every server";
        report.error(&size.origin, section.key("message_size"), "too small for ordinary mail", remedy);
    }
    ClientLimits {
        sessions: section.map(|section| sessions(section, report)).unwrap_or_default(),
        connections_max: connections.map(|written| written.value),
        message_bytes_max: size.map_or(MESSAGE_SIZE_DEFAULT, |(_, size)| size.value),
    }
}

/// A tenant may lower what the node sets, and not pass it: SIZE announces the node's number, before anyone knows
/// whose client it is.
pub(crate) fn check_message_sizes(source: &Source, node: &ClientLimits, report: &mut Report) {
    for tenant in &source.tenants {
        let Some(bytes) = tenant.limits.message_bytes_max.filter(|&bytes| bytes > node.message_bytes_max)
        else {
            continue;
        };
        let message = format!(
            "tenant {:?} may send {bytes} bytes, and this node takes {} at most",
            tenant.name.value, node.message_bytes_max
        );
        let remedy = "write less, or raise [limits] message_size of the node file";
        report.error(&tenant.name.origin, "limits.message_size", message, remedy);
    }
}

fn sessions(section: &Section<'_>, report: &mut Report) -> SessionLimits {
    let usual = SessionLimits::default();
    let mut number =
        |key, range, usual| section.number_in(key, range, report).map_or(usual, |written| written.value);
    SessionLimits {
        errors_max: number("session_errors", SESSION_ERRORS, usual.errors_max),
        idle_commands_max: number("session_idle_commands", SESSION_IDLE_COMMANDS, usual.idle_commands_max),
        recipients_max: number("recipients_per_message", RECIPIENTS_PER_MESSAGE, usual.recipients_max),
    }
}

/// A tenant's.
pub(crate) fn tenant(top: &Section<'_>, report: &mut Report) -> Limits {
    let containment = top.section("containment", &CONTAINMENT, report);
    let containment = containment.map(|section| Arc::new(read_containment(&section, report)));
    let Some(section) = top.section("limits", &TENANT, report) else {
        return Limits { containment, ..Limits::default() };
    };
    let allowances = Allowances {
        tenant: allowance(&section, report),
        identity: allowance_of(&section, "identity", report),
        network: allowance_of(&section, "network", report),
        client: allowance_of(&section, "client", report),
    };
    Limits {
        message_bytes_max: section.unit("message_size", parse_size, report).map(|size| size.value),
        recipients_max: section.number("recipients_per_message", u32::MAX, report).map(|limit| limit.value),
        allowances: (allowances != Allowances::default()).then(|| Arc::new(allowances)),
        containment,
    }
}

fn allowance_of(section: &Section<'_>, whom: &'static str, report: &mut Report) -> Allowance {
    let of = section.section(whom, &ALLOWANCE, report);
    of.map(|section| allowance(&section, report)).unwrap_or_default()
}

fn allowance(section: &Section<'_>, report: &mut Report) -> Allowance {
    let rate = |&(key, of, per): &(&str, Counted, Period)| {
        let amount = match of {
            Counted::Bytes => section.unit(key, parse_size, report)?,
            _ => {
                let number = section.number(key, u32::MAX, report)?;
                policy::Sourced::new(u64::from(number.value), number.origin)
            }
        };
        if amount.value == 0 {
            let remedy =
                "write at least 1, or remove it: a tenant that may send nothing is suspended instead";
            report.error(&amount.origin, section.key(key), "0 would let nothing pass, ever", remedy);
        }
        Some(RateLimit { of, per, amount: amount.value })
    };
    Allowance {
        rates: RATES.iter().filter_map(rate).collect(),
        connections_max: section.number("connections", u32::MAX, report).map(|limit| limit.value),
    }
}

fn read_containment(section: &Section<'_>, report: &mut Report) -> Containment {
    const SUSPEND_FOR: Duration = Duration::from_secs(3600);
    let mut threshold = |key| section.unit(key, parse_threshold, report).map(|written| written.value);
    let (denials, bounces, failed_logins) =
        (threshold("denials"), threshold("bounces"), threshold("failed_logins"));
    if let (None, None, None) = (denials, bounces, failed_logins) {
        report.warn(&section.origin, "containment", "it names no threshold: no sender is ever suspended");
    }
    let suspend_for = section.unit("suspend_for", parse_duration, report);
    Containment {
        denials,
        bounces,
        failed_logins,
        suspend_for: suspend_for.map_or(SUSPEND_FOR, |written| written.value),
    }
}

/// `50/10m`: so many in so long.
fn parse_threshold(text: &str) -> Result<Threshold, &'static str> {
    const REMEDY: &str = "write a number and a time, as in \"50/10m\"";
    let (count, within) = text.split_once('/').ok_or(REMEDY)?;
    let count = count.trim().parse().ok().filter(|&count| count > 0).ok_or(REMEDY)?;
    let within = parse_duration(within.trim()).ok().filter(|within| !within.is_zero()).ok_or(REMEDY)?;
    Ok(Threshold { count, within })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_says_what_it_counts_and_in_how_long() {
        for (key, of, per) in RATES {
            assert_eq!(key, format!("{}_per_{}", of.as_str(), per.as_str()));
            assert!(ALLOWANCE.known.contains(&key) && TENANT.known.contains(&key));
        }
        let kinds = RATES.map(|(_, of, per)| RateLimit { of, per, amount: 1 }.kind());
        let distinct: std::collections::BTreeSet<_> = kinds.into_iter().collect();
        assert_eq!(distinct.len(), RATES.len(), "two limits would be counted together");
    }

    #[test]
    fn a_threshold_is_a_number_and_a_time() {
        let threshold = Threshold { count: 50, within: Duration::from_secs(600) };
        assert_eq!(parse_threshold("50/10m"), Ok(threshold));
        assert_eq!(parse_threshold("50 / 10m"), Ok(threshold));
        for wrong in ["", "50", "0/10m", "50/0s", "-1/10m", "50/ten", "50/10m/3"] {
            assert!(parse_threshold(wrong).is_err(), "{wrong}");
        }
    }
}
