//! Lists of patterns over addresses and domains, nearly all of them short.

use crate::names::Names;

/// Up to so many patterns it is quicker to compare with each than to look up each ending.
const FEW_MAX: usize = 8;

/// Bytes before the text of one of a few: its length (2) and its number (4).
const HEAD_BYTES: usize = 6;

/// Patterns, each with a number. Every pattern is an ending, in lower case, that an address or a
/// domain must have:
///
/// | pattern | ending |
/// |---|---|
/// | one address or one domain | the whole of it |
/// | `@example.com` | `@example.com` |
/// | `*.example.com`, `@*.example.com` | `.example.com` |
/// | `*` | nothing |
#[derive(Debug)]
pub(crate) enum Patterns {
    /// One after the other in one piece of memory: length, number, text.
    Few(Box<[u8]>),
    Many(Box<Names<u32>>),
}

impl Default for Patterns {
    fn default() -> Self {
        Self::Few(Box::default())
    }
}

/// The ending of `example.com`, `*.example.com` or `*`, for domains.
pub(crate) fn domain_ending(pattern: &str) -> &str {
    pattern.strip_prefix('*').unwrap_or(pattern)
}

impl Patterns {
    /// The list of these endings; of two that are the same the first counts.
    pub(crate) fn build<T: AsRef<str>>(endings: impl ExactSizeIterator<Item = (T, u32)>) -> Self {
        if endings.len() > FEW_MAX {
            let mut names = Names::default();
            for (ending, number) in endings {
                let _ = names.insert(ending.as_ref(), number);
            }
            names.shrink();
            return Self::Many(Box::new(names));
        }
        let mut bytes = Vec::new();
        for (ending, number) in endings {
            let ending = ending.as_ref();
            // No address is as long as this: nothing would end with it.
            let Ok(length) = u16::try_from(ending.len()) else { continue };
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend(ending.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        Self::Few(bytes.into())
    }

    /// The number of the most specific pattern that holds `text`.
    pub(crate) fn most_specific(&self, text: &str) -> Option<u32> {
        let mut best = None;
        self.each(text, |ending, number| {
            if best.is_none_or(|(longest, _)| ending > longest) {
                best = Some((ending, number));
            }
        });
        best.map(|(_, number)| number)
    }

    /// The least number of a pattern that holds `text`.
    pub(crate) fn first(&self, text: &str) -> Option<u32> {
        let mut first = None;
        self.each(text, |_, number| {
            first = Some(first.map_or(number, |first: u32| first.min(number)));
        });
        first
    }

    /// The length of each ending that `text` has, and its number.
    fn each(&self, text: &str, mut found: impl FnMut(usize, u32)) {
        match self {
            Self::Few(bytes) => {
                let mut rest = &**bytes;
                while let Some((head, after)) = rest.split_first_chunk::<HEAD_BYTES>() {
                    let [a, b, number @ ..] = *head;
                    let (ending, next) = after.split_at(usize::from(u16::from_le_bytes([a, b])));
                    if ends_with(text.as_bytes(), ending) {
                        found(ending.len(), u32::from_le_bytes(number));
                    }
                    rest = next;
                }
            }
            Self::Many(names) => {
                for ending in endings(text) {
                    if let Some(&number) = names.get(ending) {
                        found(ending.len(), number);
                    }
                }
            }
        }
    }
}

/// Whether `ending` is all of `text`, or what it ends with after an at sign or a dot.
fn ends_with(text: &[u8], ending: &[u8]) -> bool {
    let Some(start) = text.len().checked_sub(ending.len()) else { return false };
    let begins_a_part = start == 0
        || match ending {
            [] | [b'@', ..] => true,
            // Not the name of one address that begins with a dot.
            [b'.', rest @ ..] => !rest.contains(&b'@'),
            _ => false,
        };
    begins_a_part && text[start..].eq_ignore_ascii_case(ending)
}

/// Every ending of `text` that a pattern can have.
fn endings(text: &str) -> impl Iterator<Item = &str> {
    let at = text.rfind('@');
    let domain = at.unwrap_or(0);
    let dots = text[domain..].match_indices('.').map(move |(dot, _)| &text[domain + dot..]);
    std::iter::once(text).chain(at.map(|at| &text[at..])).chain(dots).chain([""])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same patterns as a short list and as a long one.
    fn both(patterns: &[&str]) -> [Patterns; 2] {
        let numbered = || patterns.iter().zip(0_u32..).map(|(ending, number)| (*ending, number));
        let padding = (0..=FEW_MAX).map(|index| format!("padding{index}.example")).collect::<Vec<_>>();
        let padding = padding.iter().map(|text| (text.as_str(), 99));
        let long: Vec<_> = numbered().chain(padding).collect();
        [Patterns::build(numbered().collect::<Vec<_>>().into_iter()), Patterns::build(long.into_iter())]
    }

    #[test]
    fn a_pattern_below_a_domain_leaves_out_the_domain_itself() {
        for domains in both(&[domain_ending("*.example.com"), "a.example.com"]) {
            let all = |domain| {
                let mut numbers = Vec::new();
                domains.each(domain, |_, number| numbers.push(number));
                numbers.sort_unstable();
                numbers
            };
            assert_eq!(all("example.com"), []);
            assert_eq!(all("A.Example.com"), [0, 1]);
            assert_eq!(all("x.y.example.com"), [0]);
            assert_eq!(all("notexample.com"), []);
        }
    }

    #[test]
    fn the_longest_ending_is_the_most_specific_and_the_first_number_the_first() {
        for list in both(&["", ".example.com", "@example.com", "bob@example.com", "@example.com"]) {
            for (text, number) in [
                ("Bob@Example.com", 3),
                ("ann@example.com", 2),
                ("ann@a.example.com", 1),
                ("ann@xexample.com", 0),
                ("notbob@example.com", 2),
            ] {
                assert_eq!(list.most_specific(text), Some(number), "{text}");
                assert_eq!(list.first(text), Some(0), "{text}");
            }
        }
    }

    #[test]
    fn one_address_that_begins_with_a_dot_ends_no_other() {
        for list in both(&[".x@example.com"]) {
            assert_eq!(list.first(".X@example.com"), Some(0));
            assert_eq!(list.first("ceo.x@example.com"), None);
        }
    }

    #[test]
    fn an_empty_list_holds_nothing() {
        assert_eq!(Patterns::default().first("a@b.example"), None);
        assert_eq!(Patterns::build([("b.example", 0)].into_iter()).first("a@b.example"), None);
    }
}
