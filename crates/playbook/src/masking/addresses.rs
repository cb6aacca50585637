//! Mail addresses in a text.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use crate::patterns::{EMAIL, compiled};

/// Addresses that people write so that no program finds them: `ada (at) example (dot) com`, `ada @ example.com`.
static SPELT_OUT: LazyLock<Regex> = LazyLock::new(|| {
    let word = r"[\p{L}\p{N}\p{M}_\-]";
    let dot = r"(?:\.|\s{0,2}[(\[{<]\s?(?i:dot|punkt|point|\.)\s?[)\]}>]\s{0,2})";
    let at = r"(?:\s{0,2}[(\[{<]\s?(?i:at|ät|a|@)\s?[)\]}>]\s{0,2}|[\t\x20\u{a0}][@＠﹫][\t\x20\u{a0}]?|[@＠﹫][\t\x20\u{a0}])";
    compiled(&format!(r"[\p{{L}}\p{{N}}\p{{M}}_.+'\-]+{at}{word}+(?:{dot}{word}+)*?{dot}\p{{L}}{{2,}}\b"))
});

/// Where mail addresses stand, in order. An amount like `3@50` is none.
pub(super) fn emails(text: &str) -> Vec<Range<usize>> {
    let found = EMAIL.captures_iter(text).filter_map(|found| {
        let (whole, kept) = (found.get(0)?, found.name("kept").map_or(0, |kept| kept.len()));
        let mut start = whole.start() + kept;
        let address = &text[start..whole.end()];
        // Signs before an address belong to the text around it.
        start += address.len() - address.trim_start_matches(|sign: char| ".!#$%&'*+/=?^`{|}~-_".contains(sign)).len();
        has_host(&text[start..whole.end()]).then_some(start..whole.end())
    });
    let mut found: Vec<_> = found.collect();
    found.extend(SPELT_OUT.find_iter(text).map(|found| found.range()));
    without_overlaps(found)
}

/// Whether a letter stands behind the last sign, or an address in brackets.
fn has_host(address: &str) -> bool {
    let host = address.rsplit(['@', '＠', '﹫', ';', '%']).next().unwrap_or_default();
    let host = if address.contains(['@', '＠', '﹫', ';']) { host } else { host.get(2..).unwrap_or_default() };
    host.starts_with('[') || host.contains(char::is_alphabetic)
}

/// The ranges in order, those that overlap as one.
pub(super) fn without_overlaps(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    let mut apart: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match apart.last_mut().filter(|last| range.start < last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => apart.push(range),
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::emails;

    #[test]
    fn addresses_are_found_in_whatever_form_people_write_them() {
        for (text, expected) in [
            ("Write to Ada.Marsh+crm@mail.example.co.uk!", &["Ada.Marsh+crm@mail.example.co.uk"][..]),
            ("<mailto:müller@bücher.example>, o'neil@localhost", &["müller@bücher.example", "o'neil@localhost"]),
            ("*ada@example.com* ada＠example.com", &["ada@example.com", "ada＠example.com"]),
            ("ada%40example.com ada&#64;example.com", &["ada%40example.com", "ada&#64;example.com"]),
            (r#""ada marsh"@example.com or ada@[10.0.0.1]"#, &[r#""ada marsh"@example.com"#, "ada@[10.0.0.1]"]),
            ("ada (at) example (dot) com, ada[at]example.com", &["ada (at) example (dot) com", "ada[at]example.com"]),
            ("ada @ example.com; ada@ example.com", &["ada @ example.com", "ada@ example.com"]),
            ("a@x.com;b@y.org", &["a@x.com", "b@y.org"]),
        ] {
            let found: Vec<_> = emails(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected, "{text}");
        }
        for text in
            ["5 @ 20 each", "3@50 EUR", "@marsh", "meet @ office", "50%40", "1.5 @ 2.5 million", "we meet (at) noon"]
        {
            assert!(emails(text).is_empty(), "{text}");
        }
    }
}
