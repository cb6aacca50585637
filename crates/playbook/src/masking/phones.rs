//! Phone numbers in a text, told from days, amounts and other numbers.

use std::{collections::HashSet, ops::Range, sync::LazyLock};

use regex::Regex;

use crate::patterns::{FULL_DATE, compiled};

/// The fewest digits of a phone number.
const MIN_DIGITS: usize = 7;

/// So many digits belong to one number at most. International ones have 15; people write two of them in a row.
const MAX_DIGITS: usize = 20;

/// By so many digits at its end a number is known again, with or without its country.
const KNOWN_DIGITS: usize = 7;

/// A known number has at most so many groups of digits.
const MAX_GROUPS: usize = 10;

/// Digits with what people put between them, on one line.
static DIGITS: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"[+＋]?\(?\d(?:[\s\p{Cf}\p{Pd}()/.·−&&[^\n\r]]{0,4}\d){5,}"));

static GROUP: LazyLock<Regex> = LazyLock::new(|| compiled(r"\d+"));

/// A day; with two digits of the year, or without it, or without signs.
static DATE: LazyLock<Regex> = LazyLock::new(|| {
    let (day, month) = ("(?:0?[1-9]|[12][0-9]|3[01])", "(?:0?[1-9]|1[0-2])");
    let date = format!(
        concat!(
            r"(?:(?:{full}|(?:19|20)\d\d[/.]{month}[/.]{day}|{day}[./-]{month}[./-]\d\d",
            r"|(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])(?:19|20)\d\d|{day}\.\s?{month}\.\s?(?:19|20)\d\d)\b|{day}\.\s?{month}\.)"
        ),
        full = FULL_DATE,
        day = day,
        month = month,
    );
    compiled(&format!(r"\b{date}(?:\s*[-–/]\s*{date})*"))
});

/// What stands before a number that is said to be one.
static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"(?i)(?:\b(?:tele?(?:fon|phone)?|phone|fon|fax|mobile?|cell(?:phone)?|handy|whatsapp|signal)|☎|📞|📱)\.?(?:\s?(?:nr|no|number|nummer)\.?)?\s?(?:is|:|=|#)?\s{0,3}$",
    )
});

/// What stands behind an amount, or before it.
static MONEY: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"^\s?(?:[€$£¥₹%]|(?i:eur|usd|gbp|chf|jpy|dollars?|euros?|users?|mio|million)\b)"));

/// Groups of three digits, as in an amount.
static AMOUNT: LazyLock<Regex> = LazyLock::new(|| compiled(r"\b[1-9]\d{0,2}(?:[.\s]\d{3})+\b"));

/// The whole of an amount.
static THOUSANDS: LazyLock<Regex> = LazyLock::new(|| compiled(r"^\+?[1-9]\d{0,2}(?:[\s.]\d{3})+$"));

/// Where phone numbers stand, in order. Those in `known` are found however they are written; another one by how it begins, by
/// its groups, or by the word before it.
pub fn phones(text: &str, known: &KnownPhones) -> Vec<Range<usize>> {
    let mut phones = Vec::new();
    for run in DIGITS.find_iter(text) {
        for piece in without(&DATE, text, run.range(), is_apart) {
            let is_amount = |text: &str, amount: &Range<usize>| is_amount(text, amount, known);
            for piece in without(&AMOUNT, text, piece, is_amount) {
                phones_of(text, piece, known, &mut phones);
            }
        }
    }
    phones
}

/// The numbers that properties hold, by their last digits.
#[derive(Debug, Default)]
pub struct KnownPhones(HashSet<String>);

impl KnownPhones {
    /// Learns the number in the value of a property.
    pub(super) fn learn(&mut self, value: &str) {
        self.0.extend(last_digits(&digits_of(value)));
    }

    fn contains(&self, digits: &str) -> bool {
        !self.0.is_empty() && last_digits(digits).is_some_and(|last| self.0.contains(&last))
    }
}

fn last_digits(digits: &str) -> Option<String> {
    let skipped = digits.chars().count().checked_sub(KNOWN_DIGITS)?;
    Some(digits.chars().skip(skipped).collect())
}

/// The digits of a number, which are the same however it is written.
pub(super) fn digits_of(text: &str) -> String {
    text.chars().filter(|character| character.is_numeric()).collect()
}

/// The parts of a run of digits between what the pattern finds in it and is one by its surroundings.
fn without(
    pattern: &Regex,
    text: &str,
    run: Range<usize>,
    is_one: impl Fn(&str, &Range<usize>) -> bool,
) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = run.start;
    for found in pattern.find_iter(&text[run.clone()]) {
        let found = run.start + found.start()..run.start + found.end();
        if is_one(text, &found) {
            pieces.push(start..found.start);
            start = found.end;
        }
    }
    pieces.push(start..run.end);
    pieces
}

/// Whether no digit stands at either end of it, also behind one sign: `06.12.34.56.78` holds no day.
fn is_apart(text: &str, date: &Range<usize>) -> bool {
    let is_sign = |character: char| matches!(character, '.' | '/' | '-');
    let behind = &text[date.end..];
    let before = &text[..date.start];
    let ends_in_sign = text[date.clone()].ends_with(is_sign);
    !behind.starts_with(char::is_numeric)
        && (ends_in_sign || !behind.strip_prefix(is_sign).is_some_and(|rest| rest.starts_with(char::is_numeric)))
        && !before.ends_with(char::is_numeric)
        && !before.ends_with('+')
        && !before.strip_suffix(is_sign).is_some_and(|rest| rest.ends_with(char::is_numeric))
}

/// Whether groups of three digits are an amount: no more digits stand beside them, and nothing says that they are a phone number.
fn is_amount(text: &str, amount: &Range<usize>, known: &KnownPhones) -> bool {
    let is_sign = |character: char| character.is_whitespace() || matches!(character, '.' | '(' | ')' | '-');
    let (before, behind) = (&text[..amount.start], &text[amount.end..]);
    !before.ends_with(['+', '＋', '('])
        && !before.strip_suffix(is_sign).is_some_and(|rest| rest.ends_with(char::is_numeric) || rest.ends_with(')'))
        && !behind.strip_prefix(is_sign).is_some_and(|rest| rest.starts_with(char::is_numeric))
        && !known.contains(&digits_of(&text[amount.clone()]))
        && !is_labelled(text, amount.start)
}

/// Adds the numbers in a piece of a run.
fn phones_of(text: &str, piece: Range<usize>, known: &KnownPhones, phones: &mut Vec<Range<usize>>) {
    let groups: Vec<_> = GROUP
        .find_iter(&text[piece.clone()])
        .map(|group| piece.start + group.start()..piece.start + group.end())
        .collect();
    let mut at = 0;
    while at < groups.len() {
        let rest = &groups[at..];
        let is_dialled = is_dialled(text, &rest[0]);
        let count = if is_dialled || (at == 0 && is_labelled(text, rest[0].start)) {
            dialled(text, rest)
        } else {
            american(text, rest).or_else(|| known_from(text, rest, known))
        };
        let Some(count) = count else {
            at += 1;
            continue;
        };
        let range = start_of(text, rest[0].start)..rest[count - 1].end;
        if !is_money(text, &range) {
            phones.push(range);
        }
        at += count;
    }
}

/// With the sign and the parenthesis before it.
fn start_of(text: &str, start: usize) -> usize {
    let before = &text[..start];
    let before = before.strip_suffix('(').unwrap_or(before);
    let with_sign = before.strip_suffix(['+', '＋']).unwrap_or(before);
    if with_sign.len() < before.len() || before.len() < start { with_sign.len() } else { start }
}

/// Whether a number begins here as it is dialled: with a plus, or with a zero.
fn is_dialled(text: &str, group: &Range<usize>) -> bool {
    let before = &text[..group.start];
    let has_plus = before.strip_suffix('(').unwrap_or(before).ends_with(['+', '＋']);
    let digits = &text[group.clone()];
    let begins_with_zero = digits.chars().next().and_then(|first| first.to_digit(10).or(arabic_zero(first))) == Some(0);
    has_plus || (begins_with_zero && digits.chars().nth(1).is_some())
}

/// The zeros of other scripts.
fn arabic_zero(digit: char) -> Option<u32> {
    matches!(digit, '٠' | '۰' | '०' | '０').then_some(0)
}

fn is_labelled(text: &str, start: usize) -> bool {
    let before = &text[..start];
    let mut near = before.len().saturating_sub(40);
    while !before.is_char_boundary(near) {
        near += 1;
    }
    LABEL.is_match(before[near..].trim_end_matches(['(', '+']))
}

/// How many groups a number has that begins with the first one: all of them, up to where another number begins.
fn dialled(text: &str, groups: &[Range<usize>]) -> Option<usize> {
    let mut digits = 0;
    let mut count = 0;
    let all: usize = groups.iter().take(2 * MAX_DIGITS).map(|group| digits_in(text, group)).sum();
    for group in groups {
        let length = digits_in(text, group);
        let begins_another = digits >= MIN_DIGITS + 2 && length > 2 && is_dialled(text, group);
        // What is left over would be too short to be found by itself.
        if count > 0 && (begins_another || (digits + length > MAX_DIGITS && all.saturating_sub(digits) >= MIN_DIGITS)) {
            break;
        }
        digits += length;
        count += 1;
    }
    (digits >= MIN_DIGITS).then_some(count)
}

fn digits_in(text: &str, group: &Range<usize>) -> usize {
    text[group.clone()].chars().count()
}

/// Three, three and four digits, as in North America, perhaps behind a 1.
fn american(text: &str, groups: &[Range<usize>]) -> Option<usize> {
    let lengths: Vec<_> = groups.iter().take(4).map(|group| digits_in(text, group)).collect();
    match lengths[..] {
        [1, 3, 3, 4] if &text[groups[0].clone()] == "1" => Some(4),
        [3, 3, 4, ..] => Some(3),
        _ => None,
    }
}

fn known_from(text: &str, groups: &[Range<usize>], known: &KnownPhones) -> Option<usize> {
    let mut digits = String::new();
    let mut found = None;
    for (index, group) in groups.iter().take(MAX_GROUPS).enumerate() {
        digits.push_str(&text[group.clone()]);
        if digits.len() > 4 * MAX_DIGITS {
            break;
        }
        if known.contains(&digits) {
            found = Some(index + 1);
        }
    }
    found
}

/// Whether it is money in spite of its plus.
fn is_money(text: &str, range: &Range<usize>) -> bool {
    let digits = text[range.clone()].trim_start_matches(['+', '＋']);
    let is_grouped = THOUSANDS.is_match(digits) || digits.chars().all(char::is_numeric);
    is_grouped && !digits.starts_with('0') && MONEY.is_match(&text[range.end..])
}

#[cfg(test)]
mod tests {
    use super::{KnownPhones, phones};

    fn found<'a>(text: &'a str, known: &[&str]) -> Vec<&'a str> {
        let mut numbers = KnownPhones::default();
        known.iter().for_each(|known| numbers.learn(known));
        phones(text, &numbers).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn phone_numbers_are_found_in_whatever_form_people_write_them() {
        for (text, expected) in [
            ("Call +49 (30) 123-4567 or 0171/1234567.", &["+49 (30) 123-4567", "0171/1234567"][..]),
            ("(555) 123-4567; 555-123-4567, 1-555-123-4567", &["(555) 123-4567", "555-123-4567", "1-555-123-4567"]),
            ("0049 30 1234567 - 0172 7654321", &["0049 30 1234567", "0172 7654321"]),
            ("tel:+1\u{a0}555\u{a0}123\u{2011}4567", &["+1\u{a0}555\u{a0}123\u{2011}4567"]),
            ("Room 12\n0171 1234567 2026-11-24", &["0171 1234567"]),
            ("on 2026-11-24 030 1234567, from 10:30", &["030 1234567"]),
            ("06.12.34.56.78 ou 06 12 34 56 78", &["06.12.34.56.78", "06 12 34 56 78"]),
            ("5 0171 1234567", &["0171 1234567"]),
            ("+49 171 123 456 and +49 (0)30 123456", &["+49 171 123 456", "+49 (0)30 123456"]),
            (
                "Mobil: 171 1234567, phone 5551234567, WhatsApp 600 123 456",
                &["171 1234567", "5551234567", "600 123 456"],
            ),
            ("0171-12-34567 0482-12-34-56", &["0171-12-34567", "0482-12-34-56"]),
            ("٠١٧١١٢٣٤٥٦٧", &["٠١٧١١٢٣٤٥٦٧"]),
            ("+(49) 30 1234567", &["+(49) 30 1234567"]),
        ] {
            assert_eq!(found(text, &[]), expected, "{text}");
        }
    }

    #[test]
    fn dates_amounts_and_other_numbers_stay() {
        for text in [
            "They have $50k (50,000) ready for Q1 2027.",
            "2026-11-24 10:30, 24.11.2026 - 26.11.2026, 2026-11-20T10:00:00Z",
            "01.02. - 03.02.2026, 01.02.26-03.02.26, 01/02/2026 03/04/2026, 01022026",
            "80.000 - 120.000, 1 000 000, 12345678901, 1698400800000",
            "+5 000 000 EUR, +1.500.000 €, +50 000",
            "0.123456789 and 0,1234567",
            "a 24/7 desk, 10-12, 2024-2026, 1.5-2.5 million",
        ] {
            assert_eq!(found(text, &[]), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn a_number_of_a_property_is_known_again_however_it_is_written() {
        assert_eq!(
            found("at 555 1234567 or 49 (555) 123.45.67", &["+49 555 1234567"]),
            ["555 1234567", "49 (555) 123.45.67"]
        );
    }
}
