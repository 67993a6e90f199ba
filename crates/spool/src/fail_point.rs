//! Places at which a test build crashes when it is told to; without the feature `fail-points` they are not there.
//!
//! `GATEPOST_FAIL_POINT=name` ends the process when it comes to that place, `name:3` when it comes there
//! for the third time. It ends as at a SIGKILL: nothing is written any more, nothing is closed in order.

/// Marks a place at which a test build may be made to crash.
macro_rules! fail_point {
    ($name:literal) => {
        #[cfg(feature = "fail-points")]
        $crate::fail_point::reach($name);
    };
}

pub(crate) use fail_point;

/// The process has come to the place `name`.
#[cfg(feature = "fail-points")]
pub(crate) fn reach(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static VISITS: AtomicU64 = AtomicU64::new(0);

    let armed = ARMED.get_or_init(|| {
        let wanted = std::env::var("GATEPOST_FAIL_POINT").ok()?;
        let (name, visit) = wanted.split_once(':').unwrap_or((&wanted, "1"));
        Some((name.to_owned(), visit.parse().expect("GATEPOST_FAIL_POINT is a name, or name:count")))
    });
    let Some((_, visit)) = armed.as_ref().filter(|(armed, _)| armed == name) else { return };
    if VISITS.fetch_add(1, Ordering::Relaxed) + 1 == *visit {
        eprintln!("fail point {name}: the process ends here");
        std::process::abort();
    }
}
