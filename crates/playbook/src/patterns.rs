//! How mail addresses and days are written: the patterns that masking and the redaction of logs have in common.
//!
//! All of them are matched in time that grows with the text alone.

use std::sync::LazyLock;

use regex::Regex;

/// A space or a break that JSON escapes, of a text that was escaped once or more often.
pub const ESCAPED: &str = r"\\+(?:[nrtbf]|u[0-9A-Fa-f]{4})";

/// A day of this century or the last, with its year in four digits.
pub const FULL_DATE: &str = concat!(
    r"(?:(?:19|20)\d\d-(?:0?[1-9]|1[0-2])-(?:0?[1-9]|[12][0-9]|3[01])",
    r"|(?:0?[1-9]|[12][0-9]|3[01])[./-](?:0?[1-9]|1[0-2])[./-](?:19|20)\d\d",
    r"|(?:0?[1-9]|1[0-2])[./-](?:0?[1-9]|[12][0-9]|3[01])[./-](?:19|20)\d\d)",
);

/// Characters of which a part of a mail address can be made, for a class. Format characters are invisible.
const WORD: &str = r"\p{L}\p{N}\p{M}\p{Cf}_\-";

/// What looks like a mail address: also encoded as in a URL or in HTML, with a quoted name, and at an address in the place of a
/// host. What an escape before it ends in is the group `kept`. In doubt it matches: `3@50` does.
pub static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    compiled(&format!(
        concat!(
            r#"(?P<kept>{escaped})?(?:[{word}.!#$%&'*+/=?^`{{|}}~]+|\\*"[^"\r\n]{{0,64}}?[\p{{L}}\p{{N}}][^"\r\n]{{0,64}}")"#,
            r"(?:(?:[@＠﹫]|%(?:25)*40|&#(?:0*64|[xX]0*40);|&commat;)",
            r"(?:[{word}]+(?:\.[{word}]+)*|\[[0-9A-Za-z:.]{{0,30}}[0-9:.][0-9A-Za-z:.]{{1,30}}\]))+",
        ),
        escaped = ESCAPED,
        word = WORD,
    ))
});

/// A pattern that is a constant of the program.
///
/// # Panics
/// When it is not one: a test has to use each.
#[expect(clippy::expect_used, reason = "the patterns are constants, and tests compile each of them")]
pub fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern")
}
