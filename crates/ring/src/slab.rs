//! Many values, each found by its number, in pages that never move.
//!
//! Promises: growing costs one page, whatever is there already: no copy, no stall of a turn, and
//! nothing beyond what is used but the rest of that page. What is taken out leaves room for the next;
//! pages stay. Cannot fail.

use std::ops::{Index, IndexMut};

/// A page: large enough that a million values need few of them, small enough to be had in no time.
const PAGE_BYTES: usize = 64 << 10;

/// No number: the end of a list of numbers.
const NONE: u32 = u32::MAX;

/// Values that are there for good, numbered from 0.
#[derive(Clone, Debug)]
pub struct Pages<T> {
    pages: Vec<Vec<T>>,
    length: u32,
}

impl<T> Pages<T> {
    const VALUES: usize = {
        assert!(size_of::<T>() > 0 && size_of::<T>() <= PAGE_BYTES, "a page holds some values");
        PAGE_BYTES / size_of::<T>()
    };

    /// Adds a value and gives its number.
    ///
    /// # Panics
    /// When there are 2^32 - 1 values.
    pub fn push(&mut self, value: T) -> u32 {
        let number = self.length;
        assert!(number != NONE, "fewer than 2^32 - 1 values");
        if self.pages.len() * Self::VALUES == number as usize {
            self.pages.push(Vec::with_capacity(Self::VALUES));
        }
        self.pages[number as usize / Self::VALUES].push(value);
        self.length += 1;
        number
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.length
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The value of this number, if there is one.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&T> {
        self.pages.get(number as usize / Self::VALUES)?.get(number as usize % Self::VALUES)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.pages.get_mut(number as usize / Self::VALUES)?.get_mut(number as usize % Self::VALUES)
    }
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), length: 0 }
    }
}

impl<T> Index<u32> for Pages<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        &self.pages[number as usize / Self::VALUES][number as usize % Self::VALUES]
    }
}

impl<T> IndexMut<u32> for Pages<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.pages[number as usize / Self::VALUES][number as usize % Self::VALUES]
    }
}

/// Values that come and go; a number is given again after its value was taken out.
#[derive(Clone, Debug)]
pub struct Slab<T> {
    entries: Pages<Entry<T>>,
    free: u32,
    length: u32,
}

#[derive(Clone, Debug)]
enum Entry<T> {
    /// The next one that is free.
    Vacant(u32),
    Occupied(T),
}

impl<T> Slab<T> {
    /// What a value takes: no more than itself where its type has a value that is none.
    pub const ENTRY_BYTES: usize = size_of::<Entry<T>>();

    /// Adds a value and gives its number.
    ///
    /// # Panics
    /// When there are 2^32 - 1 values.
    pub fn insert(&mut self, value: T) -> u32 {
        self.length += 1;
        match self.entries.get_mut(self.free) {
            Some(entry) => {
                let number = self.free;
                if let Entry::Vacant(next) = std::mem::replace(entry, Entry::Occupied(value)) {
                    self.free = next;
                }
                number
            }
            None => self.entries.push(Entry::Occupied(value)),
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, number: u32) -> Option<T> {
        let entry = self.entries.get_mut(number)?;
        match std::mem::replace(entry, Entry::Vacant(self.free)) {
            Entry::Occupied(value) => {
                self.free = number;
                self.length -= 1;
                Some(value)
            }
            vacant @ Entry::Vacant(_) => {
                *entry = vacant;
                None
            }
        }
    }

    /// The value of this number, if there is one.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&T> {
        self.entries.get(number).and_then(Entry::value)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.entries.get_mut(number).and_then(Entry::value_mut)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.length
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Numbers from here on have no value.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.entries.len()
    }
}

impl<T> Entry<T> {
    fn value(&self) -> Option<&T> {
        if let Self::Occupied(value) = self { Some(value) } else { None }
    }

    fn value_mut(&mut self) -> Option<&mut T> {
        if let Self::Occupied(value) = self { Some(value) } else { None }
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Pages::default(), free: NONE, length: 0 }
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        self.entries[number].value().expect("there is a value of this number")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        self.entries[number].value_mut().expect("there is a value of this number")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_where_they_are_however_many_come() {
        let mut pages = Pages::default();
        assert_eq!(pages.push([0_u64; 3]), 0);
        let first: *const _ = &pages[0];
        let count = 3 * Pages::<[u64; 3]>::VALUES as u64;
        for value in 1..=count {
            assert_eq!(u64::from(pages.push([value; 3])), value);
        }
        assert!(std::ptr::eq(first, &raw const pages[0]));
        assert!((0..=count).all(|value| pages[value as u32] == [value; 3]));
        assert_eq!((u64::from(pages.len()), pages.get(pages.len())), (count + 1, None));
    }

    #[test]
    fn a_number_is_given_again_once_its_value_is_out() {
        let mut slab = Slab::default();
        let numbers: Vec<u32> = (0..100_000_u32).map(|value| slab.insert(value)).collect();
        for &number in numbers.iter().step_by(3) {
            assert_eq!(slab.remove(number), Some(number));
            assert_eq!((slab.remove(number), slab.get(number)), (None, None));
        }
        let (left, end) = (slab.len(), slab.end());
        let again: Vec<u32> = (0..end - left).map(|value| slab.insert(value + end)).collect();
        assert_eq!((slab.len(), slab.end()), (end, end), "nothing grew");
        for (value, &number) in again.iter().enumerate() {
            assert_eq!((number % 3, slab[number]), (0, value as u32 + end));
        }
        assert!((0..end).filter(|number| number % 3 != 0).all(|number| slab[number] == number));
    }
}
