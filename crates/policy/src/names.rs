//! Tables keyed by names that compare without regard to case, looked up without allocating.

use std::collections::HashMap;

use mail::limits::{DOMAIN_BYTES_MAX, LOCAL_PART_BYTES_MAX};

/// The longest name that is looked up: a whole address.
const NAME_BYTES_MAX: usize = LOCAL_PART_BYTES_MAX + 1 + DOMAIN_BYTES_MAX;

/// Nearly every name fits here; clearing the large buffer costs more than the look-up itself.
const SHORT_NAME_BYTES_MAX: usize = 96;

/// A hash table whose keys are in lower case.
#[derive(Debug)]
pub(crate) struct Names<V>(HashMap<Box<[u8]>, V>);

impl<V> Default for Names<V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<V> Names<V> {
    /// Enters `value`, unless the name is there already; gives what was there.
    pub(crate) fn insert(&mut self, name: &str, value: V) -> Result<(), &V> {
        use std::collections::hash_map::Entry;
        match self.0.entry(name.to_ascii_lowercase().into_bytes().into()) {
            Entry::Occupied(entry) => Err(entry.into_mut()),
            Entry::Vacant(entry) => {
                entry.insert(value);
                Ok(())
            }
        }
    }

    /// What `name` stands for, in whatever case it is written.
    pub(crate) fn get(&self, name: &str) -> Option<&V> {
        if self.0.is_empty() {
            return None;
        }
        if name.len() <= SHORT_NAME_BYTES_MAX {
            self.get_with::<SHORT_NAME_BYTES_MAX>(name)
        } else if name.len() <= NAME_BYTES_MAX {
            self.get_with::<NAME_BYTES_MAX>(name)
        } else {
            None
        }
    }

    fn get_with<const BYTES: usize>(&self, name: &str) -> Option<&V> {
        let mut buffer = [0; BYTES];
        let lower = &mut buffer[..name.len()];
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        self.0.get(&*lower)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Domain patterns: `example.com`, `*.example.com` (what lies below it, at any depth) and `*`.
#[derive(Debug)]
pub(crate) struct Domains<V> {
    exact: Names<V>,
    below: Names<V>,
    any: Option<V>,
}

impl<V> Default for Domains<V> {
    fn default() -> Self {
        Self { exact: Names::default(), below: Names::default(), any: None }
    }
}

impl<V: Copy> Domains<V> {
    /// Enters a pattern; a second one of the same text is ignored, for the first match wins.
    pub(crate) fn insert(&mut self, pattern: &str, value: V) {
        if pattern == "*" {
            self.any.get_or_insert(value);
        } else if let Some(parent) = pattern.strip_prefix("*.") {
            let _ = self.below.insert(parent, value);
        } else {
            let _ = self.exact.insert(pattern, value);
        }
    }

    /// The value of every pattern that holds `domain`.
    pub(crate) fn matches<'a>(&'a self, domain: &'a str) -> impl Iterator<Item = V> + 'a {
        let parents = if self.below.is_empty() { None } else { Some(domain) };
        self.exact
            .get(domain)
            .into_iter()
            .chain(parents.into_iter().flat_map(parents_of).filter_map(|parent| self.below.get(parent)))
            .chain(&self.any)
            .copied()
    }

    pub(crate) fn has_any(&self) -> bool {
        self.any.is_some()
    }
}

/// `b.c` and `c` for `a.b.c`.
fn parents_of(domain: &str) -> impl Iterator<Item = &str> {
    domain.match_indices('.').map(|(dot, _)| &domain[dot + 1..])
}

/// Whether `text` is a host name of at least one label, as patterns hold them.
pub(crate) fn is_domain(text: &str) -> bool {
    // An address with this domain parses exactly when the domain is one; literals are none.
    !text.starts_with('[')
        && mail::Address::parse(&format!("x@{text}")).is_ok_and(|address| address.domain() == text)
}

/// Whether `text` is `example.com`, `*.example.com` or `*`.
pub(crate) fn is_domain_pattern(text: &str) -> bool {
    text == "*" || is_domain(text.strip_prefix("*.").unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_regard_to_case() {
        let mut names = Names::default();
        assert!(names.insert("Example.COM", 1).is_ok());
        assert_eq!(names.insert("example.com", 2), Err(&1));
        assert_eq!(names.get("eXample.com"), Some(&1));
        assert_eq!(names.get(&"a".repeat(5000)), None);
        let long = format!("{}@b.example", "A".repeat(500));
        assert!(names.insert(&long, 3).is_ok());
        assert_eq!(names.get(&long), Some(&3));
    }

    #[test]
    fn a_pattern_below_a_domain_leaves_out_the_domain_itself() {
        let mut domains = Domains::default();
        domains.insert("*.example.com", 1);
        domains.insert("a.example.com", 2);
        let all = |domain| domains.matches(domain).collect::<Vec<_>>();
        assert_eq!(all("example.com"), []);
        assert_eq!(all("A.Example.com"), [2, 1]);
        assert_eq!(all("x.y.example.com"), [1]);
        assert_eq!(all("notexample.com"), []);
    }
}
