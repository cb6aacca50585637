//! Money and percentages, as operators give them and as they are printed.

/// Micro-dollars in a dollar.
const PER_DOLLAR: i64 = 1_000_000;

/// Parses dollars such as `0.25` into micro-dollars. Digits beyond those are refused: money is never rounded here.
pub fn parse_dollars(text: &str) -> Result<i64, String> {
    let parse = || {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || part.len() > 6 || !is_number(whole) || !is_number(part) {
            return None;
        }
        let part: i64 = format!("{part:0<6}").parse().ok()?;
        whole.parse::<i64>().ok()?.checked_mul(PER_DOLLAR)?.checked_add(part)
    };
    parse().ok_or_else(|| format!("`{text}` is no amount in dollars; write it like 0.25"))
}

/// Parses percentage points from 0 to 100.
pub fn parse_points(text: &str) -> Result<f64, String> {
    let points = text.parse().ok().filter(|points: &f64| (0.0..=100.0).contains(points));
    points.ok_or_else(|| format!("`{text}` is no number of percentage points from 0 to 100"))
}

/// Micro-dollars as dollars.
pub fn dollars(micro_dollars: i64) -> String {
    format!("${}.{:06}", micro_dollars / PER_DOLLAR, micro_dollars % PER_DOLLAR)
}

#[cfg(test)]
mod tests {
    use super::{dollars, parse_dollars, parse_points};

    #[test]
    fn dollars_are_read_to_the_micro_dollar_or_refused() {
        for (text, micro_dollars) in
            [("1", 1_000_000), ("0.25", 250_000), ("12.000001", 12_000_001), ("0", 0), ("2.", 2_000_000)]
        {
            assert_eq!(parse_dollars(text), Ok(micro_dollars), "{text}");
        }
        for wrong in ["", ".5", "-1", "1e3", "0.0000001", "1,5", "NaN", "99999999999999999999", "+1", "1.+5"] {
            assert!(parse_dollars(wrong).is_err(), "{wrong}");
        }
        assert_eq!(dollars(12_000_001), "$12.000001");
    }

    #[test]
    fn points_are_numbers_from_0_to_100() {
        assert_eq!(parse_points("2.5"), Ok(2.5));
        for wrong in ["-1", "101", "NaN", "inf", "two", ""] {
            assert!(parse_points(wrong).is_err(), "{wrong}");
        }
    }
}
