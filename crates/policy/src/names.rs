//! Tables keyed by names that compare without regard to case, looked up without allocating.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use mail::limits::{DOMAIN_BYTES_MAX, LOCAL_PART_BYTES_MAX};

/// The longest name that is looked up: a whole address.
const NAME_BYTES_MAX: usize = LOCAL_PART_BYTES_MAX + 1 + DOMAIN_BYTES_MAX;

/// Nearly every name fits here; clearing the large buffer costs more than the look-up itself.
const SHORT_NAME_BYTES_MAX: usize = 96;

/// A hash table whose keys are in lower case, their text in one piece.
///
/// A name of up to `INLINE` bytes lies in its entry, so that finding it reads one place less.
///
/// The hash has no secret, so that a table is a function of its configuration. A stranger chooses
/// what is looked up, never what is entered, so that no client can make the table slow.
#[derive(Debug)]
pub(crate) struct Names<V, const INLINE: usize = START_BYTES> {
    table: HashTable<Name<V, INLINE>>,
    text: Vec<u8>,
}

/// The bytes of a place in the text: the least that an entry holds.
const START_BYTES: usize = size_of::<u32>();

/// The text of a name, or where it lies where it does not fit, and what it stands for.
#[derive(Debug)]
struct Name<V, const INLINE: usize> {
    value: V,
    bytes: u16,
    text: [u8; INLINE],
}

impl<V, const INLINE: usize> Default for Names<V, INLINE> {
    fn default() -> Self {
        Self { table: HashTable::new(), text: Vec::new() }
    }
}

impl<V, const INLINE: usize> Names<V, INLINE> {
    /// Makes room for `names` more.
    pub(crate) fn reserve(&mut self, names: usize) {
        let text = &self.text;
        self.table.reserve(names, |name| hash(name.text(text)));
    }

    /// Enters `value`, unless the name is there already; gives what was there. A name that is longer
    /// than any that is looked up is left out.
    pub(crate) fn insert(&mut self, name: &str, value: V) -> Result<(), &V> {
        let Ok(bytes) = u16::try_from(name.len()) else { return Ok(()) };
        let lower = name.to_ascii_lowercase();
        let hash_of_name = hash(lower.as_bytes());
        let text = &mut self.text;
        let known = |known: &Name<V, INLINE>| known.text(text) == lower.as_bytes();
        // Not `if let`: what is given back would be borrowed in the other branch, too.
        if self.table.find(hash_of_name, known).is_some() {
            let found = self.table.find(hash_of_name, known).expect("it was just found");
            return Err(&found.value);
        }
        let mut entry = Name { value, bytes, text: [0; INLINE] };
        if let Some(inline) = entry.text.get_mut(..lower.len()) {
            inline.copy_from_slice(lower.as_bytes());
        } else {
            let start = u32::try_from(text.len()).expect("less than four gibibytes of names");
            text.extend_from_slice(lower.as_bytes());
            entry.text[..START_BYTES].copy_from_slice(&start.to_le_bytes());
        }
        self.table.insert_unique(hash_of_name, entry, |name| hash(name.text(text)));
        Ok(())
    }

    /// Gives back the room that growing has left.
    pub(crate) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        let text = &self.text;
        self.table.shrink_to_fit(|name| hash(name.text(text)));
    }

    /// What `name` stands for, in whatever case it is written.
    pub(crate) fn get(&self, name: &str) -> Option<&V> {
        if self.table.is_empty() {
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
        let found = self.table.find(hash(lower), |known| known.text(&self.text) == lower)?;
        Some(&found.value)
    }
}

impl<V, const INLINE: usize> Name<V, INLINE> {
    fn text<'a>(&'a self, text: &'a [u8]) -> &'a [u8] {
        let bytes = usize::from(self.bytes);
        self.text.get(..bytes).unwrap_or_else(|| {
            let start = self.text.first_chunk().expect("an entry holds a place at least");
            &text[u32::from_le_bytes(*start) as usize..][..bytes]
        })
    }
}

fn hash(lower: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(lower);
    hasher.finish()
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
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_compare_without_regard_to_case() {
        let mut names = Names::<_>::default();
        assert!(names.insert("Example.COM", 1).is_ok());
        assert_eq!(names.insert("example.com", 2), Err(&1));
        assert_eq!(names.get("eXample.com"), Some(&1));
        assert_eq!(names.get(&"a".repeat(5000)), None);
        let long = format!("{}@b.example", "A".repeat(500));
        assert!(names.insert(&long, 3).is_ok());
        assert_eq!(names.get(&long), Some(&3));
    }

    proptest! {
        #[test]
        fn names_agree_with_a_map_of_lower_case_keys(
            entered in prop::collection::vec("[a-cA-C.@é]{0,4}|[a-bA-B]{90,100}", 0..60),
            asked in prop::collection::vec("[a-cA-C.@é]{0,4}|[a-bA-B]{90,100}", 0..60),
        ) {
            let (mut names, mut map) = (Names::<_>::default(), HashMap::new());
            for (value, name) in entered.iter().enumerate() {
                let key = name.to_ascii_lowercase();
                prop_assert_eq!(names.insert(name, value).err().copied(), map.get(&key).copied());
                map.entry(key).or_insert(value);
            }
            names.shrink();
            for name in entered.iter().chain(&asked) {
                prop_assert_eq!(names.get(name), map.get(&name.to_ascii_lowercase()), "{}", name);
            }
        }
    }
}
