use mail::Address;

use crate::names::{Domains, Names, is_domain_pattern};
use crate::snapshot::IdentityIx;
use crate::source::{Origin, Sourced};

/// The envelope senders that a tenant or a login owns.
#[derive(Debug, Default)]
pub(crate) struct Senders {
    addresses: Names<u32>,
    domains: Domains<u32>,
    origins: Box<[Origin]>,
}

impl Senders {
    /// Compiles patterns; gives each that is none.
    pub(crate) fn compile(patterns: &[Sourced<String>]) -> Result<Self, Vec<&Sourced<String>>> {
        let mut senders = Self::default();
        let mut malformed = Vec::new();
        for (index, pattern) in (0_u32..).zip(patterns) {
            let text = if pattern.value == "*" { "@*" } else { pattern.value.as_str() };
            match text.strip_prefix('@') {
                Some(domain) if is_domain_pattern(domain) => senders.domains.insert(domain, index),
                None if Address::parse(text).is_ok() => {
                    // Twice the same address means what it means once.
                    let _ = senders.addresses.insert(text, index);
                }
                _ => malformed.push(pattern),
            }
        }
        senders.origins = patterns.iter().map(|pattern| pattern.origin.clone()).collect();
        if malformed.is_empty() { Ok(senders) } else { Err(malformed) }
    }

    /// The line of the pattern that holds `address`, if one does.
    pub(crate) fn find(&self, address: Address<'_>) -> Option<&Origin> {
        let index = self.addresses.get(address.text()).copied();
        let index = index.or_else(|| self.domains.matches(address.domain()).next())?;
        self.origins.get(index as usize)
    }

    /// The first line of the list.
    pub(crate) fn first_origin(&self) -> Option<&Origin> {
        self.origins.first()
    }
}

/// What a tenant says about senders beyond the list of them.
#[derive(Debug)]
pub(crate) struct SenderRules {
    pub(crate) plus_addressing: bool,
    /// The line that denies its own senders to strangers, where one does.
    pub(crate) own_denied: Option<Origin>,
    pub(crate) reserved: Box<[Reserved]>,
}

/// Senders that only chosen identities may use (relay-control.md C3).
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) senders: Senders,
    pub(crate) identities: Box<[IdentityIx]>,
    pub(crate) origin: Origin,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn senders(patterns: &[&str]) -> Result<Senders, usize> {
        let origin = Origin::new("t.toml", 1);
        let patterns: Vec<_> =
            patterns.iter().map(|text| Sourced::new((*text).to_owned(), origin.clone())).collect();
        Senders::compile(&patterns).map_err(|malformed| malformed.len())
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
            assert_eq!(senders.find(Address::parse(address).unwrap()).is_some(), owned, "{address}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_reported() {
        assert_eq!(senders(&["example.com", "@", "@a..b", "a@", "@*.", "@ok.example"]).err(), Some(5));
        assert!(senders(&["*", "@*"]).is_ok());
    }
}
