//! Replaces what looks like a mail address, a phone number or a key.
//!
//! In doubt it is replaced: a log that lacks a number is of use, one with a person's number is not. Names, companies and places stay.
//! The patterns are matched in time that grows with the text alone, whatever it holds.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};

/// The fewest digits of what is taken for a phone number.
const PHONE_DIGITS: usize = 7;

/// Keys, by the marks that their makers give them, and passwords in URLs. Each pattern keeps its group `kept`.
static KEYS: LazyLock<Regex> = LazyLock::new(|| {
    compiled(concat!(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
        // OpenAI, Stripe, HubSpot.
        r"|\b(?i:sk|rk|pat)[-_][A-Za-z0-9_-]{8,}",
        // GitHub, GitLab, Slack, Google, AWS, Hugging Face, npm.
        r"|\b(?:gh[pousr]_|github_pat_|glpat-|xox[a-z]-|AIza|AKIA|ASIA|hf_|npm_)[A-Za-z0-9_-]{10,}",
        r"|\bhooks\.slack\.com/services/[^\s]+",
        // JSON web tokens, and whatever follows `Bearer`.
        r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]+",
        r"|(?i:\bbearer)\s+[A-Za-z0-9._~+/=-]{8,}",
        r"|(?P<kept>\b[A-Za-z][A-Za-z0-9+.-]{1,20}://)[^\s/@]+@",
    ))
});

static MAIL: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"[\p{L}\p{N}\p{M}._%+'-]+[@＠][\p{L}\p{N}\p{M}-]+(?:\.[\p{L}\p{N}\p{M}-]+)*"));

/// Digits with what people put between them.
static DIGITS: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"[+(]?\d(?:[ ()/.\u{a0}\u{2009}\u{202f}\u{2010}-\u{2013}-]{0,3}\d){6,}"));

/// What digits are more often than a phone number.
static DATE: LazyLock<Regex> = LazyLock::new(|| compiled(r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[./-]\d{1,2}[./-]\d{4}"));

/// The text with `[key]`, `[email]` and `[phone]` in the place of what it must not hold.
pub fn redacted(text: &str) -> String {
    let text = KEYS.replace_all(text, |found: &Captures<'_>| {
        found.name("kept").map_or_else(|| "[key]".to_owned(), |kept| format!("{}[key]@", kept.as_str()))
    });
    let text = MAIL.replace_all(&text, "[email]");
    DIGITS.replace_all(&text, |found: &Captures<'_>| phone_or_not(&found[0])).into_owned()
}

fn phone_or_not(found: &str) -> Cow<'static, str> {
    let without_dates = DATE.replace_all(found, "");
    let digits = without_dates.chars().filter(|character| character.is_numeric()).count();
    if digits >= PHONE_DIGITS { "[phone]".into() } else { found.to_owned().into() }
}

#[expect(clippy::expect_used, reason = "the patterns are constants, and tests compile each of them")]
fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::redacted;

    #[test]
    fn addresses_numbers_and_keys_are_replaced() {
        for (text, expected) in [
            ("Write to Ada.Marsh+crm@mail.example.co.uk!", "Write to [email]!"),
            ("müller@bücher.example, o'neil@localhost", "[email], [email]"),
            ("＠ as in ada＠example.com", "＠ as in [email]"),
            ("<a href=\"mailto:ada@example.com\">", "<a href=\"mailto:[email]\">"),
            ("Call +49 (30) 123-4567 or 0171/1234567.", "Call [phone] or [phone]."),
            ("(555) 123-4567; 600 123 456; 4915112345678", "[phone]; [phone]; [phone]"),
            ("tel:+1\u{a0}555\u{a0}123\u{2011}4567", "tel:[phone]"),
            ("٠١٧١١٢٣٤٥٦٧", "[phone]"),
            ("key sk-proj-abcDEF123_456-7890xyz.", "key [key]."),
            ("pat-na1-0a1b2c3d-1111-2222-3333-444455556666", "[key]"),
            ("AUTHORIZATION: Bearer abc.def-ghi_jkl", "AUTHORIZATION: [key]"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "[key]"),
            ("postgres://leadline:s3cret@db:5432/x", "postgres://[key]@db:5432/x"),
            ("https://hooks.slack.com/services/T0/B0/xyz", "https://[key]"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- end", "[key] end"),
            ("-----BEGIN PRIVATE KEY-----\nMIIE, cut off", "[key]"),
        ] {
            assert_eq!(redacted(text), expected);
        }
    }

    #[test]
    fn dates_amounts_and_words_stay() {
        for text in [
            "They have $50k (50,000) ready for Q1 2027.",
            "2026-11-24 10:30, 24.11.2026 - 26.11.2026, 2026-11-20T10:00:00Z",
            "risk-assessment, task-force-members, a 24/7 desk, patio-furniture",
            "5 @ 20 each, @marsh, 1.5-2.5 million",
            "",
        ] {
            assert_eq!(redacted(text), text);
        }
    }

    #[test]
    fn long_hostile_texts_are_read_to_their_end() {
        for unit in
            ["a", "a@", "@", "1 ", "1-", "+", "sk-", "eyJa.", "-----BEGIN PRIVATE KEY-----", "://", "ü", "\u{202e}"]
        {
            let text = unit.repeat(300_000 / unit.len());
            let text = redacted(&format!("{text} ada@example.com"));
            assert!(!text.contains("ada@"), "{unit}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_is_redacted_stays_as_it_is(text in "(?s).{0,300}") {
            let once = redacted(&text);
            prop_assert_eq!(redacted(&once), once);
        }

        #[test]
        fn whatever_stands_around_an_address_or_a_key_it_goes(before in "(?s)[^a-zA-Z0-9]{0,20}", after in "(?s)[^a-zA-Z0-9]{0,20}") {
            let text = redacted(&format!("{before} ada.k@example.com {after} pat-na1-0a1b2c3d4e5f {before}"));
            prop_assert!(!text.contains("example") && !text.contains("0a1b2c"), "{}", text);
        }
    }
}
