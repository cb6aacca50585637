//! Places in the code at which a test can kill the process, to show that a crash exactly there loses nothing and does nothing
//! twice.
//!
//! `LEADLINE_CRASH_AT=writer.after_write` kills the process the first time that it reaches this crash point,
//! `LEADLINE_CRASH_AT=writer.after_write:3` the third time. Only debug builds have crash points; in a release build
//! [`crash_point!`] is empty.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

/// The environment variable that names the crash point.
pub const VARIABLE: &str = "LEADLINE_CRASH_AT";

/// A place at which a test can kill the process.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::pass($name);
    };
}

/// Kills the process if [`VARIABLE`] names this crash point and this is the visit that it counts to.
pub fn pass(name: &str) {
    static CHOSEN: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let value = std::env::var(VARIABLE).ok()?;
        let (name, visits) = value.split_once(':').unwrap_or((&value, "1"));
        Some((name.to_owned(), AtomicU32::new(visits.parse().unwrap_or(1))))
    });
    if let Some((chosen, remaining)) = chosen
        && chosen == name
        && remaining.fetch_sub(1, Ordering::SeqCst) == 1
    {
        eprintln!("crash point {name}");
        // As in a kill: no destructor runs, no buffer is flushed, no connection is closed properly.
        std::process::abort();
    }
}
