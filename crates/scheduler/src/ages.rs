//! When queued messages came: which is the oldest, without a look at them.

use std::collections::BTreeMap;

use mail::UnixMillis;

/// Messages by the second in which they came.
#[derive(Debug, Default)]
pub(crate) struct Ages(BTreeMap<u32, u32>);

/// What a message costs here at most, in bytes: a second of its own, in a leaf that is half full.
pub(crate) const AGE_BYTES_MAX: usize = 24;

impl Ages {
    /// A message that came at `arrived` is queued.
    pub(crate) fn add(&mut self, arrived: UnixMillis) {
        *self.0.entry(second(arrived)).or_default() += 1;
    }

    /// It is queued no longer.
    pub(crate) fn remove(&mut self, arrived: UnixMillis) {
        let second = second(arrived);
        if let Some(count) = self.0.get_mut(&second) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&second);
            }
        }
    }

    /// When the oldest message came, to the second; `None` when none is queued.
    pub(crate) fn oldest(&self) -> Option<UnixMillis> {
        self.0.first_key_value().map(|(&second, _)| UnixMillis(u64::from(second) * 1000))
    }
}

fn second(arrived: UnixMillis) -> u32 {
    u32::try_from(arrived.0 / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_is_left_is_known() {
        let mut ages = Ages::default();
        for arrived in [9_500, 3_200, 3_900, 70_000] {
            ages.add(UnixMillis(arrived));
        }
        for (gone, oldest) in
            [(3_200, Some(3_000)), (70_000, Some(3_000)), (3_900, Some(9_000)), (9_500, None)]
        {
            ages.remove(UnixMillis(gone));
            assert_eq!(ages.oldest(), oldest.map(UnixMillis), "{gone}");
        }
    }
}
