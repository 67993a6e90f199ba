use mail::Address;

use crate::header::HeaderChecks;
use crate::names::is_domain_pattern;
use crate::patterns::{Patterns, domain_ending};
use crate::snapshot::IdentityIx;
use crate::source::{Origin, Sourced};

/// What a sender must end with, for each pattern, with its place; or each that is no pattern.
pub(crate) fn endings(patterns: &[Sourced<String>]) -> Result<Vec<(&str, u32)>, Vec<&Sourced<String>>> {
    let mut endings = Vec::with_capacity(patterns.len());
    let mut malformed = Vec::new();
    for (index, pattern) in (0_u32..).zip(patterns) {
        match ending(&pattern.value) {
            Some(ending) => endings.push((ending, index)),
            None => malformed.push(pattern),
        }
    }
    if malformed.is_empty() { Ok(endings) } else { Err(malformed) }
}

/// What a tenant says about senders beyond the list of them.
#[derive(Debug)]
pub(crate) struct SenderRules {
    pub(crate) plus_addressing: bool,
    /// The line that denies its own senders to strangers, where one does.
    pub(crate) own_denied: Option<Origin>,
    pub(crate) reserved: Box<[Reserved]>,
    pub(crate) headers: HeaderChecks,
}

/// Senders that only chosen identities may use (relay-control.md C3).
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) senders: Patterns,
    pub(crate) identities: Box<[IdentityIx]>,
    pub(crate) origin: Origin,
}

/// What an address must end with; `None` where `pattern` is no sender pattern.
pub(crate) fn ending(pattern: &str) -> Option<&str> {
    let Some(domain) = pattern.strip_prefix('@') else {
        let is_one_address = Address::parse(pattern).is_ok();
        return if pattern == "*" { Some("") } else { is_one_address.then_some(pattern) };
    };
    if !is_domain_pattern(domain) {
        return None;
    }
    // The at sign is part of the ending, unless the pattern leaves open what follows it.
    Some(if domain.starts_with('*') { domain_ending(domain) } else { pattern })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn senders(patterns: &[&str]) -> Result<Patterns, usize> {
        let origin = Origin::new("t.toml", 1);
        let patterns: Vec<_> =
            patterns.iter().map(|text| Sourced::new((*text).to_owned(), origin.clone())).collect();
        let endings = endings(&patterns).map_err(|malformed| malformed.len())?;
        Ok(Patterns::build(endings.into_iter()))
    }

    #[test]
    fn ownership_follows_the_pattern() {
        let senders = senders(&["@example.com", "@*.sub.example", "a@single.example"]).unwrap();
        for (address, owned) in [
            ("x@Example.com", true),
            ("x@a.example.com", false),
            ("x@sub.example", false),
            ("x@b.a.sub.example", true),
            ("A@Single.example", true),
            ("b@single.example", false),
            ("x@example.com.evil.example", false),
            ("x@[192.0.2.1]", false),
        ] {
            let address = Address::parse(address).unwrap().text();
            assert_eq!(senders.most_specific(address).is_some(), owned, "{address}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_reported() {
        assert_eq!(senders(&["example.com", "@", "@a..b", "a@", "@*.", "@ok.example"]).err(), Some(5));
        assert!(senders(&["*", "@*"]).is_ok());
    }
}
