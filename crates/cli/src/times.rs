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

/// How long ago a time was.
pub fn age(since: OffsetDateTime) -> String {
    duration(std::time::Duration::try_from(OffsetDateTime::now_utc() - since).unwrap_or_default())
}

/// A duration in its two largest units: `3 d 4 h`, `2 min 10 s`.
pub fn duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let units = [("d", seconds / 86_400), ("h", seconds / 3_600 % 24), ("min", seconds / 60 % 60), ("s", seconds % 60)];
    let shown: Vec<_> = units.iter().skip_while(|(_, count)| *count == 0).take(2).collect();
    if shown.is_empty() {
        return "0 s".to_owned();
    }
    shown.iter().map(|(unit, count)| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{duration, parse};

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
    }
}
