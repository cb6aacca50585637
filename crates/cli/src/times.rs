//! Times and durations: how operators give them and how the commands print them.

use anyhow::Context;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

/// Parses a time: `2026-11-24T10:00:00Z`, `2026-11-24` (midnight UTC), or how long ago it was: `90s`, `45m`, `6h`, `3d`.
pub fn parse(text: &str) -> anyhow::Result<OffsetDateTime> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(at);
    }
    if let Ok(day) = time::Date::parse(text, format_description!("[year]-[month]-[day]")) {
        return Ok(day.midnight().assume_utc());
    }
    let ago = || {
        let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        OffsetDateTime::now_utc().checked_sub(Duration::seconds(count.parse::<i64>().ok()?.checked_mul(seconds)?))
    };
    ago().with_context(|| {
        format!("`{text}` is not a time; write 2026-11-24T10:00:00Z, 2026-11-24, or how long ago, like 6h")
    })
}

/// A time in UTC, to the millisecond.
pub fn utc(at: OffsetDateTime) -> String {
    at.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:3]"))
        .unwrap_or_default()
}

/// The day in UTC.
pub fn day(at: OffsetDateTime) -> String {
    at.format(format_description!("[year]-[month]-[day]")).unwrap_or_default()
}

/// The time of day in UTC, to the second.
pub fn clock(at: OffsetDateTime) -> String {
    at.format(format_description!("[hour]:[minute]:[second]")).unwrap_or_default()
}

/// How long ago a time was, like `2h5m`; of a time to come `in 5s`.
pub fn relative(at: OffsetDateTime) -> String {
    let ago = OffsetDateTime::now_utc() - at;
    let duration = short(ago.unsigned_abs());
    if ago.is_negative() { format!("in {duration}") } else { duration }
}

/// A duration in its two largest units, for sentences: `3 d 4 h`, `2 min 10 s`.
pub fn duration(duration: std::time::Duration) -> String {
    let words = |(count, _, word): &(u64, &str, &str)| format!("{count} {word}");
    two_units(duration).iter().map(words).collect::<Vec<_>>().join(" ")
}

/// A duration in its two largest units, for tables: `3d4h`, `2m10s`, and `2h` when nothing is left.
pub fn short(duration: std::time::Duration) -> String {
    let units = two_units(duration);
    let shown = units.iter().enumerate().filter(|(index, (count, ..))| *index == 0 || *count > 0);
    shown.map(|(_, (count, letter, _))| format!("{count}{letter}")).collect()
}

/// The count, the letter and the word of the two largest units of a duration.
fn two_units(duration: std::time::Duration) -> Vec<(u64, &'static str, &'static str)> {
    let seconds = duration.as_secs();
    let units = [
        (seconds / 86_400, "d", "d"),
        (seconds / 3_600 % 24, "h", "h"),
        (seconds / 60 % 60, "m", "min"),
        (seconds % 60, "s", "s"),
    ];
    let first = units.iter().position(|(count, ..)| *count > 0).unwrap_or(units.len() - 1);
    units.into_iter().skip(first).take(2).collect()
}

#[cfg(test)]
mod tests {
    use super::{duration, parse, short};

    #[test]
    fn a_time_is_absolute_or_relative_to_now() {
        assert_eq!(parse("2026-11-24T10:00:00Z").expect("a time").unix_timestamp(), 1_795_514_400);
        assert_eq!(parse("2026-11-24").expect("a time").unix_timestamp(), 1_795_478_400);
        let ago = time::OffsetDateTime::now_utc() - parse("6h").expect("a time");
        assert!((ago.whole_seconds() - 21_600).abs() < 5, "{ago}");
        for wrong in ["", "h", "6 hours", "yesterday", "-"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_duration_is_printed_in_two_units() {
        assert_eq!(duration(std::time::Duration::from_secs(0)), "0 s");
        assert_eq!(duration(std::time::Duration::from_secs(130)), "2 min 10 s");
        assert_eq!(duration(std::time::Duration::from_secs(90_061)), "1 d 1 h");
        for (seconds, shown) in [(0, "0s"), (59, "59s"), (130, "2m10s"), (7_200, "2h"), (90_061, "1d1h")] {
            assert_eq!(short(std::time::Duration::from_secs(seconds)), shown);
        }
    }
}
