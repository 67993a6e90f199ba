//! How far the recovery of the spool is, in words.

use std::sync::Arc;

use commons::{Commons, WorkerState};
use spool::RecoveryProgress;

/// The shards, by number, as their recovery goes on.
pub(crate) type Shards = Arc<[Arc<RecoveryProgress>]>;

/// `recovering: shard 0, 12 of 40 segments, 310,000 messages`, for every shard that is still read, or what it waits
/// for before that.
pub(crate) fn sentence(commons: &Commons, shards: &[Arc<RecoveryProgress>]) -> String {
    let mut parts = Vec::new();
    for (shard, progress) in (0..commons.workers() as u8).zip(shards) {
        if commons.state(shard) == WorkerState::Recovering {
            let stand = progress.stand();
            parts.push(match progress.awaited() {
                Some(segment) => format!(
                    "shard {shard} waits for the disk to end a killed process's write to {}",
                    segment.display()
                ),
                None => format!(
                    "shard {shard}, {} of {} segments, {} messages",
                    stand.segments_read,
                    stand.segments,
                    thousands(stand.messages)
                ),
            });
        }
    }
    format!("recovering: {}", parts.join("; "))
}

/// A number with its thousands set apart.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (310_000, "310,000")] {
            assert_eq!(thousands(number), text);
        }
        assert_eq!(thousands(1_234_567), "1,234,567");
    }
}
