//! Which shard of a worker a key or a completion belongs to.
//!
//! A worker has its own shard, at home, and those that it adopted. The place of its shard is a token's part, and
//! the highest eight bits of a key, above those of the handle: neither costs memory or a look-up.

use ring::{Handle, Token};

// What an operation of a shard is for, as its token says.
pub(crate) const KIND_COMMIT: u8 = 1;
pub(crate) const KIND_PREPARE: u8 = 2;
pub(crate) const KIND_LOAD: u8 = 3;
pub(crate) const KIND_LARGE_WRITE: u8 = 4;
pub(crate) const KIND_LARGE_READ: u8 = 5;
pub(crate) const KIND_REMOVE: u8 = 6;
pub(crate) const KIND_FOOTER: u8 = 7;
pub(crate) const KIND_COPY: u8 = 8;
pub(crate) const KIND_DROP: u8 = 9;
pub(crate) const KIND_IDENTIFY: u8 = 10;

/// The place of the worker's own shard.
pub(crate) const HOME: u8 = 0;

const PLACE_SHIFT: u32 = u32::BITS + Handle::GENERATION_BITS;

/// Makes the tokens of one shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens {
    pub(crate) room: u8,
    pub(crate) place: u8,
}

impl Tokens {
    /// For an operation of this kind.
    pub(crate) fn token(self, kind: u8, handle: Handle) -> Token {
        Token { room: self.room, part: self.place, kind, handle }
    }

    /// The same on what has this number in the shard, which it has for good.
    pub(crate) fn numbered(self, kind: u8, number: u32) -> Token {
        self.token(kind, Handle::fixed(number))
    }
}

/// A shard's own key as the worker knows it.
pub(crate) fn outer(place: u8, key: u64) -> u64 {
    u64::from(place) << PLACE_SHIFT | key
}

/// The place in a worker's key, and the shard's own key.
pub(crate) fn inner(key: u64) -> (u8, u64) {
    ((key >> PLACE_SHIFT) as u8, key & ((1 << PLACE_SHIFT) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_carried_beside_the_key() {
        for place in [HOME, 1, 255] {
            let key = (1 << PLACE_SHIFT) - 1;
            assert_eq!(inner(outer(place, key)), (place, key));
            assert_eq!(Handle::from_bits(outer(place, key)), Handle::from_bits(key));
        }
    }
}
