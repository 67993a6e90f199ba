//! Work that all cores share.

use std::thread;

/// Fewer items than this are not worth another thread.
const EACH_MIN: usize = 256;

/// The answers of `work` for the parts of `items`, in their order: a part for each core. Threads have
/// the priority of the one that asks.
pub(crate) fn in_parts<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let each = items.len().div_ceil(threads).max(EACH_MIN);
    if items.len() <= each {
        return vec![work(items)];
    }
    let work = &work;
    thread::scope(|scope| {
        let parts: Vec<_> = items.chunks(each).map(|part| scope.spawn(move || work(part))).collect();
        parts.into_iter().map(|part| part.join().expect("a proof does not panic")).collect()
    })
}
