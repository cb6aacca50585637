//! How long the other side asks to wait.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

/// The longest wait that is believed: HubSpot documents up to a day while a portal is migrated (477).
const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);

/// How long the other side asks to wait: `retry-after-ms` (OpenAI) in milliseconds, else `Retry-After` in seconds, as a date
/// (RFC 9110), or as OpenAI writes durations in other headers (`7m12s`). More than a day says nothing.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    wait(headers, OffsetDateTime::now_utc())
}

fn wait(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim());
    let milliseconds = text("retry-after-ms").and_then(seconds).map(|milliseconds| milliseconds / 1_000.0);
    let seconds = milliseconds.or_else(|| {
        let text = text(RETRY_AFTER.as_str())?;
        seconds(text).or_else(|| compound(text)).or_else(|| until(text, now))
    });
    let wait = Duration::try_from_secs_f64(seconds?).ok()?;
    (wait <= MAX_RETRY_AFTER).then_some(wait)
}

fn seconds(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// The seconds of a duration in parts with units, largest first: `1h2m3.5s`, `20ms`.
fn compound(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, unit) = rest.split_at(number);
        let end = unit.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit.len());
        let factor = match &unit[..end] {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        sum += amount.parse::<f64>().ok()? * factor;
        rest = &unit[end..];
    }
    (!text.is_empty()).then_some(sum)
}

/// The seconds until a date; none are left of one that has passed.
fn until(date: &str, now: OffsetDateTime) -> Option<f64> {
    let at = OffsetDateTime::parse(date, &Rfc2822).ok()?;
    Some((at - now).as_seconds_f64().max(0.0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::header::{HeaderMap, HeaderValue};
    use time::macros::datetime;

    use super::wait;

    #[test]
    fn milliseconds_are_preferred_to_seconds_and_nonsense_is_ignored() {
        let with = |headers: &[(&'static str, &'static str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.parse().expect("a header name"), HeaderValue::from_static(value)));
            wait(&headers.collect::<HeaderMap>(), datetime!(2026-11-25 12:00 UTC))
        };
        let after = |text: &'static str| with(&[("retry-after", text)]).map(|wait| wait.as_secs_f64());
        assert_eq!(with(&[("retry-after", "3"), ("retry-after-ms", "250")]), Some(Duration::from_millis(250)));
        assert_eq!(with(&[("retry-after", "3"), ("retry-after-ms", "soon")]), Some(Duration::from_secs(3)));
        for (text, seconds) in [
            ("3", 3.0),
            ("0.5", 0.5),
            ("86400", 86_400.0),
            ("7m12s", 432.0),
            ("1h0m0s", 3_600.0),
            ("1.5s", 1.5),
            ("20ms", 0.02),
            ("Wed, 25 Nov 2026 12:00:30 GMT", 30.0),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ] {
            assert_eq!(after(text), Some(seconds), "{text}");
        }
        for text in [
            "-1",
            "1e18",
            "inf",
            "NaN",
            "",
            "s",
            "7m12",
            "7x",
            "m",
            "86401",
            "Fri, 27 Nov 2026 12:00:30 GMT",
            "tomorrow",
        ] {
            assert_eq!(after(text), None, "{text}");
        }
        assert_eq!(with(&[]), None);
    }
}
