//! Places at which a test kills the process, to show that dying exactly there loses nothing and doubles nothing.
//!
//! `LEADLINE_CRASH_AT=writer.after_write` ends the process the first time it gets there, `…:3` the third time. Only debug
//! builds have these places; in a release build [`crash_point!`] is nothing.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

/// The variable that names the place.
pub const VARIABLE: &str = "LEADLINE_CRASH_AT";

/// A place at which a test may kill the process.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::pass($name);
    };
}

/// Ends the process if it is to die here.
pub fn pass(name: &str) {
    static CHOSEN: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let value = std::env::var(VARIABLE).ok()?;
        let (name, times) = value.split_once(':').unwrap_or((&value, "1"));
        Some((name.to_owned(), AtomicU32::new(times.parse().unwrap_or(1))))
    });
    if let Some((chosen, left)) = chosen
        && chosen == name
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        eprintln!("crash point {name}");
        // No destructor runs, no buffer is flushed, no connection says goodbye: as in a kill.
        std::process::abort();
    }
}
