//! The names of a record's people in a text.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::LazyLock,
};

use super::fold::{Letters, Word, words};

/// Names of more words are known by their parts alone.
const MAX_WORDS: usize = 12;

/// The most characters between two words of one name: `Bell, Jon`.
const MAX_BETWEEN: usize = 3;

/// Titles and small words in names, which say of nobody who it is.
const NO_NAMES: &[&str] = &[
    "al", "bin", "da", "das", "de", "del", "della", "den", "der", "des", "di", "dipl", "do", "dos", "dr", "du", "el",
    "frau", "herr", "herrn", "ibn", "ing", "jr", "la", "le", "les", "los", "madame", "miss", "monsieur", "mr", "mrs",
    "ms", "prof", "san", "sir", "sr", "ten", "ter", "the", "und", "van", "vom", "von", "zu", "zum", "zur",
];

/// Words that are names as well: they count as names where they are written like one.
static ORDINARY: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "able alt amber angel april art august autumn baker bank banks bauer berg best bill bishop black blank bond book braun brown busch \
     buck carol case cash chance chase charity christian church clay cliff coin cook cross dale daisy dawn day dean dick drew \
     duke earl east engel english ernst eve faith falk fair field fink fisher fox frank french fuchs gabel gene german ginger good gold \
     grace grant gray green grey gross gut guy hall hardy hart harry haupt heath herbst hill holly hope hunter iris ivy jack jade jan \
     jay jean job jordan joy july june jung justice kaiser kind king klein knight koch koenig konig kraft krause kuhn kurz lake lance \
     lane lang lee lieb lily little long love luck major mark march mars martin mason may merit miles miller moon morgan \
     neu nick noble norm north olive page park parker pat patience penny peter pfeiffer pierce pike poole pope porter post powers price \
     prince ray reich rein rich ritter rivers rob robin rock roman rose roth ruby rush sage sally schwarz sharp short silver singer \
     sky small smart sommer song sonntag sparks spring star stark stein sterling stone story sue summer sun taylor teller tony \
     trinity troy vera victor violet vogel wade walker wall walter ward waters weber weiss west white wild will winter wise wolf wood \
     woods worth young zimmer".split_whitespace().collect()
});

/// The names that are known, as a tree of their words.
#[derive(Debug)]
pub(super) struct KnownNames {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    next: HashMap<String, usize>,
    /// Whose name ends here.
    person: Option<Person>,
}

#[derive(Debug, Clone, Copy)]
struct Person {
    number: usize,
    /// Whether it is a name only where it begins with a capital letter.
    is_careful: bool,
}

impl Default for KnownNames {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl KnownNames {
    /// Learns a person's names; either may be empty.
    pub(super) fn learn_person(&mut self, number: usize, given: &str, family: &str) {
        for letters in [Letters::Base, Letters::Expanded] {
            let (given_words, family_words) = (words(given, letters), words(family, letters));
            if !given_words.is_empty() && !family_words.is_empty() {
                self.learn(number, given_words.iter().chain(&family_words));
                self.learn(number, family_words.iter().chain(&given_words));
                self.learn_joined(number, given_words.iter().chain(&family_words));
            }
            for (name, name_words) in [(given, given_words), (family, family_words)] {
                self.learn(number, name_words.iter());
                let parts = name
                    .split(|character: char| character.is_whitespace() || matches!(character, '-' | '‐' | ',' | '/'));
                for part in parts {
                    let part = words(part, letters);
                    let is_telling = part.iter().map(Word::letters).sum::<usize>() >= 2;
                    if is_telling && !part.iter().any(|word| NO_NAMES.contains(&word.folded.as_str())) {
                        self.learn(number, part.iter());
                    }
                }
            }
        }
    }

    /// Learns a name of which nobody says where it divides.
    pub(super) fn learn_full_name(&mut self, number: usize, name: &str) {
        match name.trim().rsplit_once(char::is_whitespace) {
            Some((given, family)) => self.learn_person(number, given, family.trim_end_matches(',')),
            None => self.learn_person(number, name, ""),
        }
    }

    /// The person who has this name, however it is written.
    pub(super) fn person_of(&self, name: &str) -> Option<usize> {
        let mut node = 0;
        for word in words(name, Letters::Base) {
            node = *self.nodes[node].next.get(&word.folded)?;
        }
        self.nodes[node].person.map(|person| person.number)
    }

    /// Where a known name stands, in order, with the number of its person. Of several that begin at one place the longest.
    pub(super) fn find_in(&self, text: &str) -> Vec<(Range<usize>, usize)> {
        if self.nodes.len() == 1 {
            return Vec::new();
        }
        let words = words(text, Letters::Base);
        let mut found = Vec::new();
        let mut at = 0;
        while at < words.len() {
            match self.name_from(text, &words[at..]) {
                Some((count, end, number)) => {
                    found.push((words[at].place.start..end, number));
                    at += count;
                }
                None => at += 1,
            }
        }
        found
    }

    /// The words, the end and the person of the name with which `words` begin.
    fn name_from(&self, text: &str, words: &[Word]) -> Option<(usize, usize, usize)> {
        let mut node = 0;
        let mut found = None;
        for (index, word) in words.iter().take(MAX_WORDS).enumerate() {
            if index > 0 && !is_joint(&text[words[index - 1].place.end..word.place.start]) {
                break;
            }
            let next = &self.nodes[node].next;
            let (next, end) = match next.get(&word.folded) {
                Some(next) => (*next, word.place.end),
                // A genitive is a name as well, and ends one.
                None => match word.without_s(text).and_then(|folded| next.get(folded)) {
                    Some(next) => (*next, word.place.end - 1),
                    None => break,
                },
            };
            let is_name =
                |person: &Person| !person.is_careful || !text[words[0].place.clone()].starts_with(char::is_lowercase);
            if let Some(person) = self.nodes[next].person.filter(is_name) {
                found = Some((index + 1, end, person.number));
            }
            if end < word.place.end {
                break;
            }
            node = next;
        }
        found
    }

    /// What is known already stays whose it is.
    fn learn<'a>(&mut self, number: usize, words: impl Iterator<Item = &'a Word> + Clone) {
        let (count, letters) = (words.clone().count(), words.clone().map(Word::letters).sum::<usize>());
        if !(1..=MAX_WORDS).contains(&count) || letters < 2 || words.clone().all(Word::is_number) {
            return;
        }
        let is_careful =
            count == 1 && words.clone().all(|word| word.letters() < 3 || ORDINARY.contains(word.folded.as_str()));
        let mut node = 0;
        for word in words {
            let fresh = self.nodes.len();
            node = *self.nodes[node].next.entry(word.folded.clone()).or_insert(fresh);
            if node == fresh {
                self.nodes.push(Node::default());
            }
        }
        self.nodes[node].person.get_or_insert(Person { number, is_careful });
    }

    /// As in a handle or the name of a file.
    fn learn_joined<'a>(&mut self, number: usize, words: impl Iterator<Item = &'a Word>) {
        let folded: String = words.map(|word| word.folded.as_str()).collect();
        self.learn(number, std::iter::once(&Word { place: 0..folded.len(), folded }));
    }
}

/// Whether this may stand between two words of one name.
fn is_joint(between: &str) -> bool {
    between.chars().count() <= MAX_BETWEEN
        && between.chars().all(|sign| sign.is_whitespace() || ".,-‐‑_'’‘`´·".contains(sign))
}

#[cfg(test)]
mod tests {
    use super::KnownNames;

    fn masked(people: &[(&str, &str)], text: &str) -> String {
        let mut names = KnownNames::default();
        people.iter().zip(1..).for_each(|((given, family), number)| names.learn_person(number, given, family));
        let mut masked = String::new();
        let mut copied = 0;
        for (place, number) in names.find_in(text) {
            masked.push_str(&format!("{}<{number}>", &text[copied..place.start]));
            copied = place.end;
        }
        masked + &text[copied..]
    }

    #[test]
    fn names_are_found_as_whole_words_in_whatever_case() {
        let people = [("Ada", "Marsh"), ("Jean-Luc", "O'Neil"), ("Jörg", "Größer")];
        for (text, expected) in [
            ("Ada's idea: ADA and ada.", "<1>'s idea: <1> and <1>."),
            ("Mr. Marsh, Marsh Ada, ada-marsh.pdf, adamarsh, @AdaMarsh", "Mr. <1>, <1>, <1>.pdf, <1>, @<1>"),
            ("Adas Plan; Marshs Plan; a marshal; Adam; Canada", "<1>s Plan; <1>s Plan; a marshal; Adam; Canada"),
            ("Jean called. o’neil, ONeil? jean luc o'neil", "<2> called. <2>, ONeil? <2>"),
            ("joerg GRÖSSER; Jo\u{308}rg; Jorg Grosser; Groesser", "<3> <3>; <3>; <3>; <3>"),
        ] {
            assert_eq!(masked(&people, text), expected);
        }
    }

    #[test]
    fn names_that_are_ordinary_or_short_words_are_names_where_they_are_written_like_one() {
        let people = [("Will", "Rose"), ("Bo", "Li"), ("J", "Long"), ("Ana", "de la Vega")];
        for (text, expected) in [
            ("they will call; prices rose; Will agrees; will rose", "they will call; prices rose; <1> agrees; <1>"),
            ("bo knows; Bo knows; li; Li; BO LI; Li, Bo; bo li", "bo knows; <2> knows; li; <2>; <2>; <2>; <2>"),
            ("J is a letter, J. Long is not, as long as", "J is a letter, <3> is not, as long as"),
            ("de la casa, la Vega, de la Vega", "de la casa, la <4>, <4>"),
        ] {
            assert_eq!(masked(&people, text), expected);
        }
    }

    #[test]
    fn a_name_in_a_script_without_spaces_is_found_within_other_letters() {
        assert_eq!(
            masked(&[("太郎", "田中"), ("明", "李")], "昨日は田中さんと田中太郎、李子と李明"),
            "昨日は<1>さんと<1>、李子と<2>"
        );
        assert_eq!(masked(&[("דן", "כהן")], "דן כהן אמר לדניאל"), "<1> אמר לדניאל");
    }
}
