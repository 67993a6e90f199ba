//! Many values that come and go, each found by a handle that goes stale with it.
//!
//! Promises: what was meant for a value that is gone never reaches the next one in its place, until
//! sixteen million have lived there in between; values never move; growing costs one page. This is
//! the one guard of the house against late completions, answers and requests. Cannot fail.

use crate::Pages;

/// No place: the end of the list of those that are free.
const NONE: u32 = u32::MAX;

/// One of many things that come and go: its place, and which life of that place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    index: u32,
    generation: u32,
}

impl Handle {
    /// Lives of a place are counted in so many bits, round and round; a place's number has 32.
    pub const GENERATION_BITS: u32 = 24;

    const GENERATION_MASK: u32 = (1 << Self::GENERATION_BITS) - 1;

    /// The only life of a place whose thing is there for good.
    #[must_use]
    pub const fn fixed(index: u32) -> Self {
        Self { index, generation: 0 }
    }

    pub(crate) const fn of(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }

    /// Its place.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// As a number below 2^56.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << u32::BITS | self.index as u64
    }

    /// What [`Handle::to_bits`] gave; what stands above it is dropped.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> u32::BITS) as u32 & Self::GENERATION_MASK }
    }
}

/// Values by [`Handle`], in pages that never move.
#[derive(Debug)]
pub struct Arena<T> {
    places: Pages<Place<T>>,
    free: u32,
    length: u32,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Occupied(T),
    /// The next one that is free.
    Vacant(u32),
}

impl<T> Arena<T> {
    /// What a value takes.
    pub const ENTRY_BYTES: usize = size_of::<Place<T>>();

    /// The handle that the next value gets.
    #[must_use]
    pub fn next(&self) -> Handle {
        match self.places.get(self.free) {
            Some(place) => Handle { index: self.free, generation: place.generation },
            None => Handle::fixed(self.places.len()),
        }
    }

    /// Adds a value.
    ///
    /// # Panics
    /// When there are 2^32 - 1 values.
    pub fn insert(&mut self, value: T) -> Handle {
        self.length += 1;
        let Some(place) = self.places.get_mut(self.free) else {
            return Handle::fixed(self.places.push(Place { generation: 0, state: State::Occupied(value) }));
        };
        let handle = Handle { index: self.free, generation: place.generation };
        if let State::Vacant(next) = std::mem::replace(&mut place.state, State::Occupied(value)) {
            self.free = next;
        }
        handle
    }

    /// Takes a value out; its handle is stale from now on.
    pub fn remove(&mut self, handle: Handle) -> Option<T> {
        let place = self.places.get_mut(handle.index).filter(|place| place.is(handle))?;
        let State::Occupied(value) = std::mem::replace(&mut place.state, State::Vacant(self.free)) else {
            unreachable!("a place of this life is occupied");
        };
        place.end_life();
        self.free = handle.index;
        self.length -= 1;
        Some(value)
    }

    /// Gives a value another handle: what is under way for the one that it had does not reach it any more.
    ///
    /// # Panics
    /// When there is no value of this handle.
    pub fn renew(&mut self, handle: Handle) -> Handle {
        let place = self.places.get_mut(handle.index).filter(|place| place.is(handle));
        let place = place.expect("there is a value of this handle");
        place.end_life();
        Handle { index: handle.index, generation: place.generation }
    }

    /// The value of this handle, if it is not stale.
    #[must_use]
    pub fn get(&self, handle: Handle) -> Option<&T> {
        self.places.get(handle.index).filter(|place| place.generation == handle.generation)?.value()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        self.places.get_mut(handle.index).filter(|place| place.generation == handle.generation)?.value_mut()
    }

    /// The value in a place, with its handle: for walks through all of them.
    #[must_use]
    pub fn at(&self, index: u32) -> Option<(Handle, &T)> {
        let place = self.places.get(index)?;
        Some((Handle { index, generation: place.generation }, place.value()?))
    }

    /// Places from here on have no value.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.places.len()
    }

    /// All values, by their places.
    pub fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        (0..self.end()).filter_map(|index| self.at(index))
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
}

impl<T> Place<T> {
    fn is(&self, handle: Handle) -> bool {
        self.generation == handle.generation && matches!(self.state, State::Occupied(_))
    }

    fn end_life(&mut self) {
        self.generation = self.generation.wrapping_add(1) & Handle::GENERATION_MASK;
    }

    fn value(&self) -> Option<&T> {
        if let State::Occupied(value) = &self.state { Some(value) } else { None }
    }

    fn value_mut(&mut self) -> Option<&mut T> {
        if let State::Occupied(value) = &mut self.state { Some(value) } else { None }
    }
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { places: Pages::default(), free: NONE, length: 0 }
    }
}

impl<T> std::ops::Index<Handle> for Arena<T> {
    type Output = T;

    fn index(&self, handle: Handle) -> &T {
        self.get(handle).expect("there is a value of this handle")
    }
}

impl<T> std::ops::IndexMut<Handle> for Arena<T> {
    fn index_mut(&mut self, handle: Handle) -> &mut T {
        self.get_mut(handle).expect("there is a value of this handle")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_finds_nothing_and_removes_nothing() {
        let mut arena = Arena::default();
        let first = arena.insert("first");
        assert_eq!(arena.remove(first), Some("first"));
        assert_eq!((arena.remove(first), arena.len()), (None, 0));
        assert_eq!(arena.get(first), None);
        let second = arena.insert("second");
        assert_eq!((second.index(), arena.end()), (first.index(), 1), "its place is used again");
        assert_eq!(arena.remove(first), None);
        assert_eq!(arena.get_mut(first), None);
        assert_eq!(arena.get(first), None);
        assert_eq!((arena.get(second), arena.len()), (Some(&"second"), 1));
    }

    #[test]
    fn a_value_with_another_handle_is_not_found_by_the_one_before() {
        let mut arena = Arena::default();
        let before = arena.insert(7);
        let after = arena.renew(before);
        assert_eq!((arena.get(before), arena.get(after), arena.len()), (None, Some(&7), 1));
        assert_eq!(arena.iter().collect::<Vec<_>>(), [(after, &7)]);
    }

    #[test]
    fn the_next_handle_is_known_before() {
        let mut arena = Arena::default();
        for value in 0..3 {
            let next = arena.next();
            assert_eq!(arena.insert(value), next);
        }
        arena.remove(Handle::fixed(1));
        let next = arena.next();
        assert_eq!((arena.insert(7), next.index()), (next, 1));
    }

    #[test]
    fn a_handle_is_a_number_and_back_and_lives_are_counted_round() {
        let mut arena = Arena::default();
        arena.insert(0);
        let mut handle = arena.insert(1);
        for _ in 0..=Handle::GENERATION_MASK {
            assert_eq!(Handle::from_bits(handle.to_bits()), handle);
            assert!(handle.to_bits() < 1 << 56);
            handle = arena.renew(handle);
        }
        assert_eq!(handle, Handle::fixed(1));
        assert_eq!(Handle::from_bits(0xff << 56 | handle.to_bits()), handle);
    }

    #[test]
    fn what_is_used_again_does_not_grow() {
        let mut arena = Arena::default();
        let handles: Vec<_> = (0..1000).map(|value| arena.insert(value)).collect();
        for &handle in handles.iter().step_by(3) {
            arena.remove(handle);
        }
        let again: Vec<_> = (0..334).map(|value| arena.insert(value + 1000)).collect();
        assert_eq!((arena.len(), arena.end()), (1000, 1000));
        assert!(again.iter().enumerate().all(|(value, &handle)| arena[handle] == value + 1000));
        assert!(
            handles
                .iter()
                .enumerate()
                .all(|(value, &handle)| { arena.get(handle).copied() == (value % 3 != 0).then_some(value) })
        );
    }
}
