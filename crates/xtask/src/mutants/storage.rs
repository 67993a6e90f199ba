//! Mistakes about what the spool keeps: records of a later version, and what was last said of a recipient.

use super::{Judge, Mutant};

const MESSAGE: &str = "crates/spool/src/record/message.rs";
const REPLAY: &str = "crates/spool/src/replay.rs";
const COMPACTION: &str = "crates/spool/src/shard/compaction.rs";
const VICTIM: &str = "crates/spool/src/shard/compaction/victim.rs";
const COPYING: &str = "crates/spool/src/shard/compaction/copying.rs";

pub(super) static MUTANTS: [Mutant; 7] = [
    Mutant {
        name: "a required field that is not known is passed over",
        file: MESSAGE,
        original: "if layout.take(&field).is_none() || is_twice {",
        mutated: "if (layout.take(&field).is_none() && is_known) || is_twice {",
    },
    Mutant {
        name: "the segment of a message that is set apart is used again",
        file: REPLAY,
        original: "state.segments[segment as usize].quarantined = true;",
        mutated: "state.segments[segment as usize].quarantined = false;",
    },
    Mutant {
        name: "a restart forgets what was last said",
        file: REPLAY,
        original: "reply: replies.get(&index).cloned(),",
        mutated: "reply: replies.get(&index).cloned().filter(|_| false),",
    },
    Mutant {
        name: "a copy forgets what was last said",
        file: COPYING,
        original: "Scheduled::Deferred => self.index.replies.of(entry.reply, pending.iter().copied()),",
        mutated: "Scheduled::Deferred => self.index.replies.of(entry.reply, std::iter::empty()),",
    },
    Mutant {
        name: "a pause lies between two victims in which outcomes alone are left",
        file: COMPACTION,
        original: "if look.has_found || is_news { PACE } else { nothing }",
        mutated: "if is_news && false { PACE } else { nothing }",
    },
    Mutant {
        name: "a look that found nothing waits though another segment is full",
        file: COMPACTION,
        original: "if look.has_found || is_news { PACE } else { nothing }",
        mutated: "if look.has_found || (is_news && false) { PACE } else { nothing }",
    },
    Mutant {
        name: "segments of outcomes wait for the pause behind one in which messages lived",
        file: VICTIM,
        original: "let is_cheap = may_walk || segment.live == 0;",
        mutated: "let is_cheap = may_walk;",
    },
];

/// The tests that may notice.
pub(super) fn judges(file: &str) -> Option<&'static [Judge]> {
    let is_one = MUTANTS.iter().any(|mutant| mutant.file == file);
    is_one.then_some(&[
        ("gatepost-spool", &["--test", "foreign"]),
        ("gatepost-spool", &["--test", "replies"]),
        ("gatepost-spool", &["--test", "compaction", "a_burst_is_taken"]),
    ])
}
