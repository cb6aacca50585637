//! Card numbers and bank accounts in a text. Both have a checksum, so that hardly any other number is taken for one.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use crate::patterns::compiled;

/// The digits of a card.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Digits with what people put between them; a line may end within them.
static DIGITS: LazyLock<Regex> = LazyLock::new(|| compiled(r"[0-9](?:[\s\p{Pd}\p{Cf}./·_]{0,3}[0-9]){12,}"));

static GROUP: LazyLock<Regex> = LazyLock::new(|| compiled("[0-9]+"));

static IBAN_START: LazyLock<Regex> = LazyLock::new(|| compiled(r"\b[A-Za-z]{2}[\s\p{Pd}.]{0,2}[0-9]"));

/// The lengths of the IBANs of each country. Source: the IBAN registry of SWIFT, release 99.
const IBAN_LENGTHS: &str = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18\
    FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MN20\
    MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24\
    XK20YE30";

/// Where card numbers stand, in order.
pub(super) fn cards(text: &str) -> Vec<Range<usize>> {
    let mut cards = Vec::new();
    for run in DIGITS.find_iter(text) {
        let groups: Vec<_> = GROUP.find_iter(run.as_str()).map(|group| group.range()).collect();
        let mut at = 0;
        while at < groups.len() {
            match card_from(run.as_str(), &groups[at..]) {
                Some(count) => {
                    cards.push(run.start() + groups[at].start..run.start() + groups[at + count - 1].end);
                    at += count;
                }
                None => at += 1,
            }
        }
    }
    cards
}

/// How many of the `groups` are a card's number, beginning with the first one.
fn card_from(run: &str, groups: &[Range<usize>]) -> Option<usize> {
    let mut digits = Vec::with_capacity(*CARD_DIGITS.end());
    let mut found = None;
    for (index, group) in groups.iter().enumerate() {
        digits.extend(run[group.clone()].bytes().map(|digit| digit - b'0').take(CARD_DIGITS.end() + 1));
        if digits.len() > *CARD_DIGITS.end() {
            break;
        }
        if CARD_DIGITS.contains(&digits.len()) && is_card(&digits) {
            found = Some(index + 1);
        }
    }
    found
}

/// Whether an issuer has such numbers, and the last digit fits the others (Luhn).
fn is_card(digits: &[u8]) -> bool {
    let first_four = digits.iter().take(4).fold(0_u32, |number, digit| number * 10 + u32::from(*digit));
    let is_issued = matches!(first_four, 2221..=2720 | 3000..=6999);
    let sum = digits.iter().rev().enumerate().fold(0_u32, |sum, (index, digit)| {
        let weighed = u32::from(*digit) * if index % 2 == 1 { 2 } else { 1 };
        sum + if weighed > 9 { weighed - 9 } else { weighed }
    });
    is_issued && sum.is_multiple_of(10)
}

/// Where IBANs stand, in order.
pub(super) fn bank_accounts(text: &str) -> Vec<Range<usize>> {
    let mut accounts: Vec<Range<usize>> = Vec::new();
    for start in IBAN_START.find_iter(text).map(|found| found.start()) {
        if accounts.last().is_none_or(|last| last.end <= start)
            && let Some(length) = iban_at(&text[start..])
        {
            accounts.push(start..start + length);
        }
    }
    accounts
}

/// The bytes of the IBAN with which the text begins.
fn iban_at(text: &str) -> Option<usize> {
    let country = text.get(..2)?.to_ascii_uppercase();
    let table = IBAN_LENGTHS.as_bytes().chunks_exact(4);
    let length: usize = table
        .filter_map(|entry| std::str::from_utf8(entry).ok()?.split_at_checked(2))
        .find(|(name, _)| *name == country)?
        .1
        .parse()
        .ok()?;
    let mut number = String::with_capacity(length);
    let mut between = 0;
    for (index, character) in text.char_indices() {
        if character.is_ascii_alphanumeric() {
            number.push(character.to_ascii_uppercase());
            between = 0;
            if number.len() == length {
                let is_whole = !text[index + 1..].starts_with(char::is_alphanumeric);
                return (is_whole && is_iban(&number)).then_some(index + 1);
            }
        } else if (character.is_whitespace() || matches!(character, '.' | '-' | '\u{2010}'..='\u{2015}')) && between < 3
        {
            between += 1;
        } else {
            return None;
        }
    }
    None
}

/// The remainder of the number with its first four characters at its end is 1 (ISO 7064, mod 97-10).
fn is_iban(number: &str) -> bool {
    let (head, rest) = number.split_at(4);
    let remainder = rest.chars().chain(head.chars()).try_fold(0_u32, |remainder, character| {
        let value = character.to_digit(36)?;
        Some((remainder * if value > 9 { 100 } else { 10 } + value) % 97)
    });
    remainder == Some(1) && head[2..].bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{bank_accounts, cards};

    fn found(find: fn(&str) -> Vec<std::ops::Range<usize>>, text: &str) -> Vec<&str> {
        find(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn cards_are_found_by_their_checksum_in_whatever_groups() {
        for (text, expected) in [
            ("Visa 4111 1111 1111 1111, 12/27", "4111 1111 1111 1111"),
            ("4111-1111-1111-1111 1227 123", "4111-1111-1111-1111"),
            ("amex 378282246310005.", "378282246310005"),
            ("5555\u{a0}5555\u{a0}5555\u{a0}4444", "5555\u{a0}5555\u{a0}5555\u{a0}4444"),
            ("no 12 4111.1111.1111\n1111", "4111.1111.1111\n1111"),
        ] {
            assert_eq!(found(cards, text), [expected], "{text}");
        }
        for text in
            ["4111 1111 1111 1112", "1698400800000", "2026-11-24 2026-11-25 10", "4 000 000 000 000", "0000000000000"]
        {
            assert_eq!(found(cards, text), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn bank_accounts_are_found_by_their_checksum_and_length() {
        for (text, expected) in [
            ("IBAN: DE89 3704 0044 0532 0130 00 please", "DE89 3704 0044 0532 0130 00"),
            ("gb82west12345698765432", "gb82west12345698765432"),
            ("(NL91-ABNA-0417-1643-00)", "NL91-ABNA-0417-1643-00"),
            ("to FR14 2004 1010 0505\n0001 3M02 606.", "FR14 2004 1010 0505\n0001 3M02 606"),
        ] {
            assert_eq!(found(bank_accounts, text), [expected], "{text}");
        }
        for text in
            ["DE89 3704 0044 0532 0130 01", "DE89 3704 0044 0532 0130 00X", "at 12 o'clock", "it 2026", "XX12 1234"]
        {
            assert_eq!(found(bank_accounts, text), Vec::<&str>::new(), "{text}");
        }
    }
}
