use std::time::Duration;

/// xoshiro256** seeded through splitmix64: fast, reproducible, and not for secrets outside a simulation.
#[derive(Debug)]
pub(super) struct Random([u64; 4]);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        }))
    }

    pub(super) fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// Below `limit`; 0 when the limit is 0. The bias of a multiplication does not matter here.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        // The high half of a 128-bit product is below `limit`, so it fits.
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// From 1 to `limit`, both included; 1 when the limit is 0.
    pub(super) fn up_to(&mut self, limit: usize) -> usize {
        self.below(limit as u64) as usize + 1
    }

    /// True with this probability, from 0 to 1. Draws nothing at 0, so that a fault that is off
    /// leaves the rest of a run as it was.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && (self.next() >> 11) as f64 / (1u64 << 53) as f64 <= probability
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    /// From `range.0` to `range.1`.
    pub(super) fn between(&mut self, range: (Duration, Duration)) -> Duration {
        let spread = range.1.saturating_sub(range.0).as_nanos() as u64;
        range.0 + Duration::from_nanos(self.below(spread.saturating_add(1)))
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
    }
}
