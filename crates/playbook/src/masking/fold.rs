//! The words of a text in a form for comparison: in lower case and without accents.

use std::ops::Range;

/// How letters are folded that have two spellings in ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Letters {
    /// `ö` is `o`.
    Base,
    /// `ö` is `oe`.
    Expanded,
}

/// A word, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Word {
    pub(super) place: Range<usize>,
    pub(super) folded: String,
}

impl Word {
    pub(super) fn letters(&self) -> usize {
        self.folded.chars().count()
    }

    pub(super) fn is_number(&self) -> bool {
        self.folded.chars().all(char::is_numeric)
    }

    /// What a genitive in `text` is of; `None` for a word that does not end in `s`.
    pub(super) fn without_s(&self, text: &str) -> Option<&str> {
        let rest = self.folded.strip_suffix('s').filter(|rest| rest.len() >= 3)?;
        text[self.place.clone()].ends_with(['s', 'S']).then_some(rest)
    }
}

/// The words of a text. A letter of a script that has no spaces is a word of its own.
pub(super) fn words(text: &str, letters: Letters) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut is_open = false;
    for (start, character) in text.char_indices() {
        let end = start + character.len_utf8();
        if is_mark(character) {
            // An accent belongs to the letter before it.
            if let Some(word) = words.last_mut().filter(|word| word.place.end == start) {
                word.place.end = end;
            }
            continue;
        }
        if !character.is_alphanumeric() {
            is_open = false;
            continue;
        }
        let is_alone = is_unspaced(character);
        if !is_open || is_alone {
            words.push(Word { place: start..end, folded: String::new() });
        }
        if let Some(word) = words.last_mut() {
            word.place.end = end;
            fold(character, letters, &mut word.folded);
        }
        is_open = !is_alone;
    }
    words
}

fn is_mark(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{fe20}'..='\u{fe2f}')
}

/// Scripts that put no space between words, or between a name and what follows: Thai, Lao, Burmese, Khmer, kana, Han, Hangul.
fn is_unspaced(character: char) -> bool {
    matches!(character,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

fn fold(character: char, letters: Letters, folded: &mut String) {
    for lower in character.to_lowercase().filter(|lower| !is_mark(*lower)) {
        let expanded = match lower {
            'ä' => Some("ae"),
            'ö' | 'ø' => Some("oe"),
            'ü' => Some("ue"),
            'å' => Some("aa"),
            _ => None,
        };
        match expanded.filter(|_| letters == Letters::Expanded) {
            Some(expanded) => folded.push_str(expanded),
            None => fold_base(lower, folded),
        }
    }
}

/// The letters of Latin-1 and Latin Extended-A, and those of full width.
fn fold_base(lower: char, folded: &mut String) {
    let base = match lower {
        'ß' => return folded.push_str("ss"),
        'æ' => return folded.push_str("ae"),
        'œ' => return folded.push_str("oe"),
        'þ' => return folded.push_str("th"),
        'à'..='å' | 'ā' | 'ă' | 'ą' | 'ạ'..='ặ' => 'a',
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => 'c',
        'ď' | 'đ' | 'ð' => 'd',
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' | 'ẹ'..='ệ' => 'e',
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => 'g',
        'ĥ' | 'ħ' => 'h',
        'ì'..='ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' | 'ỉ'..='ị' => 'i',
        'ĵ' => 'j',
        'ķ' => 'k',
        'ĺ' | 'ļ' | 'ľ' | 'ŀ' | 'ł' => 'l',
        'ñ' | 'ń' | 'ņ' | 'ň' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ŏ' | 'ő' | 'ơ' | 'ọ'..='ợ' => 'o',
        'ŕ' | 'ŗ' | 'ř' => 'r',
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' => 's',
        'ţ' | 'ť' | 'ŧ' | 'ț' => 't',
        'ù'..='ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' | 'ư' | 'ụ'..='ự' => 'u',
        'ŵ' => 'w',
        'ý' | 'ÿ' | 'ŷ' | 'ỳ'..='ỹ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        'ａ'..='ｚ' => char::from_u32(u32::from(lower) - 0xff41 + u32::from('a')).unwrap_or(lower),
        other => other,
    };
    folded.push(base);
}
