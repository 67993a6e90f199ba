//! Which shard of a worker a key or a completion belongs to.
//!
//! A worker has its own shard, at home, and those that it adopted. Keys and tokens carry the place of
//! their shard in their highest eight bits, so that neither costs memory or a look-up.

use ring::Token;

/// The place of the worker's own shard.
pub(crate) const HOME: u8 = 0;

/// Keys count the lives of a slot in 24 bits, above the slot's number and below the place. A key would be
/// taken for another after sixteen million messages in one slot; nobody keeps one beyond its message.
pub(crate) const GENERATION_MASK: u32 = (1 << KEY_BITS) - 1;

const KEY_BITS: u32 = 24;
const PLACE_SHIFT: u32 = 56;

/// Makes the tokens of one shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens {
    pub(crate) room: u8,
    pub(crate) place: u8,
}

impl Tokens {
    /// For an operation of this kind, on what has this number in the shard.
    pub(crate) fn token(self, kind: u8, key: u32) -> Token {
        debug_assert!(key <= GENERATION_MASK, "fewer things are under way at once");
        Token { room: self.room, kind, key: u32::from(self.place) << KEY_BITS | key }
    }
}

/// The number within its shard of what a token is about.
pub(crate) fn own_key(token: Token) -> u32 {
    token.key & GENERATION_MASK
}

/// The place of the shard that chose a token.
pub(crate) fn of_token(token: Token) -> u8 {
    (token.key >> KEY_BITS) as u8
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
            let token = Tokens { room: 2, place }.token(3, GENERATION_MASK);
            assert_eq!((token.room, token.kind), (2, 3));
            assert_eq!((of_token(token), own_key(token)), (place, GENERATION_MASK));
            let key = u64::from(GENERATION_MASK) << 32 | u64::from(u32::MAX);
            assert_eq!(inner(outer(place, key)), (place, key));
        }
    }
}
