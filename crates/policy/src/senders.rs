use std::borrow::Cow;

use mail::Address;
use mail::limits::ADDRESS_BYTES_MAX;

use crate::checks::HeaderChecks;
use crate::index::IdentityIx;
use crate::names::is_domain_pattern;
use crate::patterns::{Patterns, domain_ending};
use crate::source::{Origin, Sourced};

/// What a sender must end with, and the place of its pattern.
pub(crate) type Ending<'a> = (Cow<'a, str>, u32);

/// What a sender must end with, for each pattern, with its place; or each that is no pattern.
pub(crate) fn endings(patterns: &[Sourced<String>]) -> Result<Vec<Ending<'_>>, Vec<&Sourced<String>>> {
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

/// Senders that only chosen identities may use (DESIGN.md C3).
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) senders: Patterns,
    pub(crate) identities: Box<[IdentityIx]>,
    pub(crate) origin: Origin,
}

/// One address, as whatever is looked up is spelt; `None` where it is none.
pub(crate) fn canonical(address: &str) -> Option<Cow<'_, str>> {
    let parsed = Address::parse(address).ok()?;
    let mut buffer = [0; ADDRESS_BYTES_MAX];
    let canonical = parsed.canonical(&mut buffer).text();
    Some(if canonical == address { Cow::Borrowed(address) } else { Cow::Owned(canonical.to_owned()) })
}

/// What an address must end with; `None` where `pattern` is no sender pattern.
pub(crate) fn ending(pattern: &str) -> Option<Cow<'_, str>> {
    let Some(domain) = pattern.strip_prefix('@') else {
        return if pattern == "*" { Some("".into()) } else { canonical(pattern) };
    };
    if !is_domain_pattern(domain) {
        return None;
    }
    // The at sign is part of the ending, unless the pattern leaves open what follows it.
    Some(if domain.starts_with('*') { domain_ending(domain) } else { pattern }.into())
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
