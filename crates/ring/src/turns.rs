//! How a thread takes its turns where it shares a core with a worker.
//!
//! Two kinds of threads stand beside the workers: one that answers in an instant and must not wait for it, and
//! those with slow work, for whom a worker must never wait. Linux hears of both without privileges: of the
//! length of a turn since 6.12, of the rest long before. It is a wish in any case: where a kernel does not know
//! it or a sandbox forbids it, times change and nothing else does.

use std::io;

use libc::{c_long, sched_attr};

/// The shortest turn that Linux grants: with it a thread that wakes up goes before any with longer turns.
const SHORT_TURN_NANOS: u64 = 100_000;
/// Longer than the default of one to three milliseconds: a worker that wakes up goes first.
const LONG_TURN_NANOS: u64 = 10_000_000;
/// How far below the workers slow work stands, as `nice` counts: it has a tenth of a core that is full.
const NICENESS: i32 = 10;

/// This thread answers in an instant: it may go before the others, for short turns.
///
/// # Errors
/// The system does not grant it; nothing has changed.
pub fn take_short_turns() -> io::Result<()> {
    let mut wish = current()?;
    wish.sched_runtime = SHORT_TURN_NANOS;
    set(&wish)
}

/// This thread does slow work: it goes after the others, and stops for any of them.
///
/// # Errors
/// The system does not grant it; nothing has changed.
pub fn give_way() -> io::Result<()> {
    let mut wish = current()?;
    wish.sched_policy = libc::SCHED_BATCH.cast_unsigned();
    // What the whole process was told to leave to others stays so.
    wish.sched_nice = wish.sched_nice.max(NICENESS);
    wish.sched_runtime = LONG_TURN_NANOS;
    set(&wish)
}

/// Of this thread.
fn current() -> io::Result<sched_attr> {
    let size = size_of::<sched_attr>() as u32;
    let mut found = sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    let (this_thread, flags) = (0, 0);
    // SAFETY: the kernel writes at most `size` bytes, which is what `found` has.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, this_thread, &raw mut found, size, flags) })?;
    Ok(found)
}

fn set(wish: &sched_attr) -> io::Result<()> {
    let (this_thread, flags) = (0, 0);
    // SAFETY: the kernel reads as many bytes as the structure says itself, which is its size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, this_thread, &raw const *wish, flags) })
}

fn check(result: c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// What a thread of its own has become by `wish`, where the system grants it.
    fn after(wish: fn() -> io::Result<()>) -> Option<sched_attr> {
        thread::spawn(move || wish().ok().and_then(|()| current().ok())).join().expect("it does not panic")
    }

    #[test]
    fn a_thread_that_answers_in_an_instant_keeps_its_rank_and_has_short_turns() {
        let before = current().expect("the system tells");
        let Some(prompt) = after(take_short_turns) else { return };
        assert_eq!((prompt.sched_policy, prompt.sched_nice), (before.sched_policy, before.sched_nice));
        // A kernel before 6.12 tells of no turns.
        assert!([0, SHORT_TURN_NANOS].contains(&prompt.sched_runtime), "{}", prompt.sched_runtime);
    }

    #[test]
    fn slow_work_stands_below_the_workers_and_this_thread_stays_where_it_was() {
        let before = current().expect("the system tells");
        let Some(slow) = after(give_way) else { return };
        assert_eq!(slow.sched_policy, libc::SCHED_BATCH.cast_unsigned());
        assert!(slow.sched_nice >= NICENESS);
        assert!([0, LONG_TURN_NANOS].contains(&slow.sched_runtime), "{}", slow.sched_runtime);
        assert_eq!(current().expect("the system tells").sched_nice, before.sched_nice);
    }
}
