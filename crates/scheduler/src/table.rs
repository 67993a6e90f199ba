//! Tables of numbered entries in pages that never move, and lists that run through their entries.
//!
//! Promises: to add costs one page at most, whatever is there: no copy, no stall. A number is given
//! again after its entry was taken out. An entry stands in at most one list for each set of links
//! that it has, and leaves it in constant time. Cannot fail.

use std::ops::{Index, IndexMut};

#[cfg(test)]
use std::{cell::RefCell, collections::BTreeSet};

/// A page: large enough that a million entries need few of them, small enough to be had in no time.
const PAGE_BYTES: usize = 64 << 10;

/// No number: the end of a list.
pub(crate) const NONE: u32 = u32::MAX;

/// Entries that come and go.
#[derive(Debug)]
pub(crate) struct Table<T> {
    pages: Vec<Vec<Slot<T>>>,
    end: u32,
    free: u32,
    length: u32,
    /// Entries that the present event has looked at.
    #[cfg(test)]
    touched: RefCell<BTreeSet<u32>>,
}

#[derive(Debug)]
enum Slot<T> {
    /// The next one that is free.
    Vacant(u32),
    Occupied(T),
}

impl<T> Table<T> {
    /// What an entry takes: no more than itself where its type has a value that is none.
    pub(crate) const ENTRY_BYTES: usize = size_of::<Slot<T>>();

    const ENTRIES: usize = PAGE_BYTES / size_of::<Slot<T>>();

    /// Adds an entry and gives its number.
    ///
    /// # Panics
    /// When there are 2^32 - 1 entries.
    pub(crate) fn insert(&mut self, entry: T) -> u32 {
        self.length += 1;
        let number = if self.free == NONE { self.end } else { self.free };
        self.touch(number);
        if self.free == NONE {
            assert!(self.end != NONE, "fewer than 2^32 - 1 entries");
            if self.pages.len() * Self::ENTRIES == self.end as usize {
                self.pages.push(Vec::with_capacity(Self::ENTRIES));
            }
            self.pages[self.end as usize / Self::ENTRIES].push(Slot::Occupied(entry));
            self.end += 1;
        } else if let Slot::Vacant(next) = std::mem::replace(self.slot(number), Slot::Occupied(entry)) {
            self.free = next;
        }
        number
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        self.get(number)?;
        let free = std::mem::replace(&mut self.free, number);
        self.length -= 1;
        match std::mem::replace(self.slot(number), Slot::Vacant(free)) {
            Slot::Occupied(entry) => Some(entry),
            Slot::Vacant(_) => None,
        }
    }

    /// The entry of this number, if there is one.
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.touch(number);
        let page = self.pages.get(number as usize / Self::ENTRIES)?;
        match page.get(number as usize % Self::ENTRIES)? {
            Slot::Occupied(entry) => Some(entry),
            Slot::Vacant(_) => None,
        }
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.touch(number);
        let page = self.pages.get_mut(number as usize / Self::ENTRIES)?;
        match page.get_mut(number as usize % Self::ENTRIES)? {
            Slot::Occupied(entry) => Some(entry),
            Slot::Vacant(_) => None,
        }
    }

    fn slot(&mut self, number: u32) -> &mut Slot<T> {
        &mut self.pages[number as usize / Self::ENTRIES][number as usize % Self::ENTRIES]
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        self.length
    }

    /// Numbers from here on have no entry.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    #[cfg(not(test))]
    #[inline]
    fn touch(&self, _: u32) {}

    #[cfg(test)]
    fn touch(&self, number: u32) {
        if number != NONE {
            self.touched.borrow_mut().insert(number);
        }
    }

    /// Entries that were looked at since this was asked last.
    #[cfg(test)]
    pub(crate) fn take_touched(&self) -> usize {
        std::mem::take(&mut *self.touched.borrow_mut()).len()
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            end: 0,
            free: NONE,
            length: 0,
            #[cfg(test)]
            touched: RefCell::default(),
        }
    }
}

impl<T> Index<u32> for Table<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        self.get(number).expect("there is an entry of this number")
    }
}

impl<T> IndexMut<u32> for Table<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        self.get_mut(number).expect("there is an entry of this number")
    }
}

/// An entry's neighbours in the list that it stands in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    previous: u32,
    next: u32,
}

impl Links {
    /// Of an entry that stands in no list.
    pub(crate) const NONE: Self = Self { previous: NONE, next: NONE };
}

/// An entry that may stand in a list of the set `S`.
pub(crate) trait Linked<const S: u8> {
    /// Its neighbours there.
    fn links(&mut self) -> &mut Links;
}

/// A list through the entries of one table, by the links of the set `S`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List<const S: u8> {
    head: u32,
    tail: u32,
}

impl<const S: u8> List<S> {
    /// A list of nothing.
    pub(crate) const EMPTY: Self = Self { head: NONE, tail: NONE };

    pub(crate) fn is_empty(self) -> bool {
        self.head == NONE
    }

    /// The first entry.
    pub(crate) fn first(self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    /// The last entry.
    pub(crate) fn last(self) -> Option<u32> {
        (self.tail != NONE).then_some(self.tail)
    }

    /// Puts an entry that stands in no such list at the end.
    pub(crate) fn push_back<T: Linked<S>>(&mut self, table: &mut Table<T>, entry: u32) {
        *table[entry].links() = Links { previous: self.tail, next: NONE };
        match std::mem::replace(&mut self.tail, entry) {
            NONE => self.head = entry,
            before => table[before].links().next = entry,
        }
    }

    /// Puts an entry that stands in no such list in front.
    pub(crate) fn push_front<T: Linked<S>>(&mut self, table: &mut Table<T>, entry: u32) {
        *table[entry].links() = Links { previous: NONE, next: self.head };
        match std::mem::replace(&mut self.head, entry) {
            NONE => self.tail = entry,
            after => table[after].links().previous = entry,
        }
    }

    /// Takes an entry of this list out.
    pub(crate) fn remove<T: Linked<S>>(&mut self, table: &mut Table<T>, entry: u32) {
        let Links { previous, next } = std::mem::replace(table[entry].links(), Links::NONE);
        match previous {
            NONE => self.head = next,
            previous => table[previous].links().next = next,
        }
        match next {
            NONE => self.tail = previous,
            next => table[next].links().previous = previous,
        }
    }

    /// Takes the first entry out.
    pub(crate) fn pop_front<T: Linked<S>>(&mut self, table: &mut Table<T>) -> Option<u32> {
        let first = self.first()?;
        self.remove(table, first);
        Some(first)
    }

    /// Puts the first entry at the end.
    pub(crate) fn rotate<T: Linked<S>>(&mut self, table: &mut Table<T>) {
        if self.head != self.tail
            && let Some(first) = self.pop_front(table)
        {
            self.push_back(table, first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entry(Links);

    impl Linked<0> for Entry {
        fn links(&mut self) -> &mut Links {
            &mut self.0
        }
    }

    #[test]
    fn a_number_is_given_again_once_its_entry_is_out() {
        let mut table = Table::default();
        let numbers: Vec<u32> = (0..100_000_u32).map(|value| table.insert(value)).collect();
        for &number in numbers.iter().step_by(3) {
            assert_eq!(table.remove(number), Some(number));
            assert_eq!((table.remove(number), table.get(number)), (None, None));
        }
        let (left, end) = (table.len(), table.end());
        for value in 0..end - left {
            let number = table.insert(value + end);
            assert_eq!((number % 3, table[number]), (0, value + end));
        }
        assert_eq!((table.len(), table.end()), (end, end), "nothing grew");
        assert!((0..end).filter(|number| number % 3 != 0).all(|number| table[number] == number));
    }

    #[test]
    fn a_list_keeps_its_order_whatever_leaves_it() {
        let mut table = Table::default();
        let entries: Vec<u32> = (0..5).map(|_| table.insert(Entry(Links::NONE))).collect();
        for left_out in &entries {
            let mut list = List::<0>::EMPTY;
            entries[1..].iter().for_each(|&entry| list.push_back(&mut table, entry));
            list.push_front(&mut table, entries[0]);
            list.remove(&mut table, *left_out);
            let mut expected: Vec<u32> = entries.iter().copied().filter(|entry| entry != left_out).collect();
            list.rotate(&mut table);
            expected.rotate_left(1);
            assert_eq!((list.first(), list.last()), (Some(expected[0]), expected.last().copied()));
            let popped: Vec<u32> = std::iter::from_fn(|| list.pop_front(&mut table)).collect();
            assert_eq!((popped, list.is_empty()), (expected, true));
        }
    }
}
