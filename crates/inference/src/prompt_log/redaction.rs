//! Replaces what looks like a mail address, a phone number or a key.
//!
//! In doubt it is replaced: a log that lacks a number is of use, one with a person's number is not. Names, companies and places stay.
//! The patterns are matched in time that grows with the text alone, whatever it holds.
//!
//! Texts of the CRM stand in a prompt as JSON strings, and answers are JSON: a line break is there `\n`, two characters of which the second
//! is a letter, and any character may be `\u` and four digits.

use std::{borrow::Cow, char::DecodeUtf16Error, sync::LazyLock};

use playbook::patterns::{EMAIL, ESCAPED, FULL_DATE, compiled};
use regex::{Captures, Regex};

/// The fewest digits of what is taken for a phone number.
const PHONE_DIGITS: usize = 7;

/// What is replaced, and by what, in this order.
static PATTERNS: LazyLock<[(Regex, &str); 6]> = LazyLock::new(|| {
    // What stands before a key: no letter and no digit, but those of an escape.
    let before = format!(r"(?P<kept>^|[^A-Za-z0-9]|{ESCAPED}|%[0-9A-Fa-f]{{2}})");
    let gap = format!(r"(?:[\s\p{{Cf}}]|%20|{ESCAPED})+");
    [
        // The end may have been cut off.
        (
            r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\z)"
                .to_owned(),
            "[key]",
        ),
        // Passwords in URLs, then keys in their queries, also where the URL is encoded itself.
        (r"(?P<kept>[A-Za-z][A-Za-z0-9+.-]{1,20}://)[^\s/@]+@".to_owned(), "${kept}[key]@"),
        (
            concat!(
                r"(?P<kept>(?i:[?&#;]|%26|%3f)(?i:[a-z0-9_.-]{0,30}(?:token|key|secret|password))(?i:=|%3d))",
                r#"[^\s&#"'<>\\]+"#
            )
            .to_owned(),
            "${kept}[key]",
        ),
        (
            format!(
                r#"(?P<kept>(?i:authorization)["'\\\s:=]{{1,12}})(?i:basic|digest|token|apikey|negotiate){gap}[^\s"'\\,;]{{4,}}"#
            ),
            "${kept}[key]",
        ),
        (format!(r"{before}(?i:basic){gap}[A-Za-z0-9+/]{{6,}}={{1,2}}"), "${kept}[key]"),
        (format!(r"{before}(?:{MARKED}|(?i:bearer){gap}[A-Za-z0-9._~+/=-]{{8,}})"), "${kept}[key]"),
    ]
    .map(|(pattern, replacement)| (compiled(&pattern), replacement))
});

/// Keys, by the marks that their makers give them.
const MARKED: &str = concat!(
    // OpenAI, Stripe, HubSpot.
    r"(?i:sk|rk|pat)[-_][A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)*",
    // GitHub, GitLab, Slack, Google, AWS, Hugging Face, npm.
    r"|(?:gh[pousr]_|github_pat_|glpat-|xox[a-z]-|AIza|AKIA|ASIA|hf_|npm_)[A-Za-z0-9_-]{10,}",
    r"|hooks\.slack\.com/services/[A-Za-z0-9/_-]+",
    // JSON web tokens.
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]+",
);

/// Digits with what people put between them.
static DIGITS: LazyLock<Regex> =
    LazyLock::new(|| compiled(&format!(r"[+(]?\d(?:(?:[\s\p{{Cf}}\p{{Pd}}()/.·−]|{ESCAPED}){{0,4}}\d){{6,}}")));

/// What digits are more often than a phone number: days of this century and the last.
static DATE: LazyLock<Regex> = LazyLock::new(|| compiled(&format!(r"\b{FULL_DATE}\b")));

static BETWEEN: LazyLock<Regex> = LazyLock::new(|| compiled(ESCAPED));

/// Characters that JSON does not need to escape, escaped once or more often.
static NEEDLESS: LazyLock<Regex> = LazyLock::new(|| compiled(r"\\+/|(?:\\+u[0-9A-Fa-f]{4})+"));

/// The text with `[key]`, `[email]` and `[phone]` in the place of what it must not hold.
pub fn redacted(text: &str) -> String {
    let text = NEEDLESS.replace_all(text, |found: &Captures<'_>| unescaped(&found[0]));
    let patterns = PATTERNS.iter().map(|(pattern, replacement)| (pattern, *replacement));
    let text = patterns.chain([(&*EMAIL, "${kept}[email]")]).fold(text, |text, (pattern, replacement)| {
        // `Cow::Borrowed` means that nothing was replaced.
        match pattern.replace_all(&text, replacement) {
            Cow::Owned(replaced) => replaced.into(),
            Cow::Borrowed(_) => text,
        }
    });
    DIGITS.replace_all(&text, |found: &Captures<'_>| phone_or_not(&found[0])).into_owned()
}

/// The characters that are escaped, but those that a JSON string must escape, and halves of characters.
fn unescaped(escapes: &str) -> String {
    if escapes.ends_with('/') {
        return "/".to_owned();
    }
    let units = escapes.split(['\\', 'u']).filter_map(|hex| u16::from_str_radix(hex, 16).ok());
    let character = |decoded: Result<char, DecodeUtf16Error>| match decoded {
        Ok(character) if !character.is_control() && !matches!(character, '"' | '\\') => character.to_string(),
        Ok(character) => format!("\\u{:04x}", u32::from(character)),
        Err(half) => format!("\\u{:04x}", half.unpaired_surrogate()),
    };
    char::decode_utf16(units).map(character).collect()
}

fn phone_or_not(found: &str) -> Cow<'static, str> {
    let without_escapes = BETWEEN.replace_all(found, " ");
    let without_dates = DATE.replace_all(&without_escapes, "");
    let digits = without_dates.chars().filter(|character| character.is_numeric()).count();
    if digits >= PHONE_DIGITS { "[phone]".into() } else { found.to_owned().into() }
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
            // As they are encoded, or seldom written.
            ("to=ada%40example.com ada%2540example.com", "[email] [email]"),
            ("ada&#64;example.com, ada&#x40;example.com", "[email], [email]"),
            ("a@b@example.com", "[email]"),
            (r#"from "ada marsh"@example.com"#, "from [email]"),
            (r#"{"from":"\"ada marsh\"@example.com"}"#, r#"{"from":"[email]"}"#),
            ("ada@[10.0.0.1], ada@[IPv6:2001:db8::1]", "[email], [email]"),
            ("a/b@x.com john&jane@x.com {ada}!#$%*?^`|~@x.com ada@my_host", "[email] [email] [email] [email]"),
            (r"ada\u0040example.com 0171\/1234567, \u0030\u0031\u0037\u0031-1234567", "[email] [phone], [phone]"),
            (r"ada\\u0040example.com 0171\\/1234567, \\\u0030171-1234567", "[email] [phone], [phone]"),
            (r"\ud83d\ude00 \u0022\u005c\u000a\ud83d", r"😀 \u0022\u005c\u000a\ud83d"),
            ("0171\t123\u{2003}45\u{200b}67, 0171 \n 1234567", "[phone], [phone]"),
            (r"0171\n1234567, 0171\t\u000b123\\n4567", "[phone], [phone]"),
            ("Authorization: Basic bGVhZGxpbmU6czNjcmV0", "Authorization: [key]"),
            (r#"{"authorization":"Basic bGVhZGxpbmU6"}"#, r#"{"authorization":"[key]"}"#),
            ("curl with basic YTpi+2NkZQ==", "curl with [key]"),
            ("https://x.com/?a=1&token=s3cret#end", "https://x.com/?a=1&token=[key]#end"),
            ("?Access_Token=s%2f3&amp;api-key=t\"", "?Access_Token=[key]&amp;api-key=[key]\""),
            ("u=%3Fpassword%3Dhunter2", "u=%3Fpassword%3D[key]"),
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

    /// The forms of keys, without what stands before them.
    const KEYS: [&str; 7] = [
        "sk-proj-0a1b2c3d4e5f",
        "pat-na1-0a1b2c3d4e5f",
        "ghp_0a1b2c3d4e5f",
        "AKIA0a1b2c3d4e5f",
        "eyJ0a1b2c3d4e5f.0a1b2c",
        "Bearer 0a1b2c3d4e5f",
        "hooks.slack.com/services/T0/0a1b2c",
    ];

    #[test]
    fn a_key_is_found_wherever_a_line_begins() {
        for key in KEYS {
            assert_eq!(redacted(key), "[key]");
            for before in [r"\n", r"\r\n", r"\t", r"\\n", r"\u000a", "é", "_", r"\", "%3D", "\n"] {
                assert_eq!(redacted(&format!("x{before}{key} y")), format!("x{before}[key] y"));
            }
        }
        assert_eq!(redacted(r"\nada@example.com\n0171 1234567"), r"\n[email]\n[phone]");
    }

    #[test]
    fn numbers_that_only_look_like_a_date_are_replaced() {
        for number in ["0171-12-34567", "0482-12-34-56", "22-33-4455", "01-12-345678", "2026-13-01", "2126-11-24"] {
            assert_eq!(redacted(number), "[phone]");
        }
        for date in ["2026-11-24 2026-11-25", "31.12.1999/01.01.2000", "12/31/2026 - 1/2/2027", r"2026-11-24\n10"] {
            assert_eq!(redacted(date), date);
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

        #[test]
        fn nor_does_it_stay_in_the_text_of_a_json_string(
            before in "(?s).{0,20}[\\n\\r\\té_\"]",
            key in proptest::sample::select(&KEYS[..]),
            after in "(?s)[^a-zA-Z0-9]{0,20}",
        ) {
            // A number that touches an address is a part of it.
            let text = format!("{before}{key} {before}ada.k@example.com{after}\n0171\n123\t45 67\n{after}");
            let text = redacted(&serde_json::json!({ "text": text }).to_string());
            // The host of a URL stays: `a://[key]@example.com`.
            for secret in ["0a1b2c", "ada.k", "123"] {
                prop_assert!(!text.contains(secret), "{}", text);
            }
        }
    }
}
