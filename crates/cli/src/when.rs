//! Points in time as operators give them.

use anyhow::Context;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

/// `2026-11-24T10:00:00Z`, `2026-11-24` (midnight UTC), or how long ago: `90s`, `45m`, `6h`, `3d`.
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
        format!("`{text}` is no time: give 2026-11-24T10:00:00Z, 2026-11-24, or how long ago, like 6h")
    })
}

/// `3 d 4 h`, `2 min 10 s`: the two largest units.
pub fn long(age: std::time::Duration) -> String {
    let seconds = age.as_secs();
    let units = [("d", seconds / 86_400), ("h", seconds / 3_600 % 24), ("min", seconds / 60 % 60), ("s", seconds % 60)];
    let shown: Vec<_> = units.iter().skip_while(|(_, count)| *count == 0).take(2).collect();
    if shown.is_empty() {
        return "0 s".to_owned();
    }
    shown.iter().map(|(unit, count)| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{long, parse};

    #[test]
    fn times_are_absolute_or_ago() {
        assert_eq!(parse("2026-11-24T10:00:00Z").expect("right").unix_timestamp(), 1_795_514_400);
        assert_eq!(parse("2026-11-24").expect("right").unix_timestamp(), 1_795_478_400);
        let ago = time::OffsetDateTime::now_utc() - parse("6h").expect("right");
        assert!((ago.whole_seconds() - 21_600).abs() < 5, "{ago}");
        for wrong in ["", "h", "6 hours", "yesterday", "-"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ages_have_two_units() {
        assert_eq!(long(std::time::Duration::from_secs(0)), "0 s");
        assert_eq!(long(std::time::Duration::from_secs(130)), "2 min 10 s");
        assert_eq!(long(std::time::Duration::from_secs(90_061)), "1 d 1 h");
    }
}
