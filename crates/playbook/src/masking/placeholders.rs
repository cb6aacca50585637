//! The placeholders of one question: which value stands behind which, and how the values are put back.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
    sync::LazyLock,
};

use regex::{Captures, Regex};

use super::MaskedKind;
use crate::{patterns::compiled, text::MAX_HUBSPOT_TEXT};

/// The most values of one question that can be put back. Those beyond it are masked as well, by a placeholder without a
/// number: a text of a hundred thousand addresses takes no more memory than this.
pub(super) const MAX_PLACEHOLDERS: usize = 10_000;

/// A placeholder as the model reads it.
static PLACEHOLDER: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"\[(?:EMAIL|PHONE|CARD|BANK|PERSON|LITERAL)-[0-9]{1,6}(?:\.[0-9]{1,6})?\]"));

/// What looks like a placeholder in a text of a stranger, however it is written.
static LOOK_ALIKE: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"(?i)[\[［]\s*(?:EMAIL|PHONE|CARD|BANK|PERSON|LITERAL)\s*[\p{Pd}_]\s*\p{Nd}{1,12}\s*(?:\.\s*\p{Nd}{1,12}\s*)?[\]］]",
    )
});

/// Where a text looks as if it had placeholders.
pub(super) fn look_alikes(text: &str) -> Vec<std::ops::Range<usize>> {
    LOOK_ALIKE.find_iter(text).map(|found| found.range()).collect()
}

/// The text with what `of` gives in the place of each placeholder, by its kind and number; where it gives nothing the placeholder
/// stays.
pub fn replace_placeholders(text: &str, of: impl Fn(MaskedKind, usize) -> Option<String>) -> String {
    let value = |placeholder: &str| {
        let (word, number) = placeholder.trim_matches(['[', ']']).split_once('-')?;
        let kind = MaskedKind::ALL.into_iter().find(|kind| kind.word() == word)?;
        of(kind, number.split('.').next()?.parse().ok()?)
    };
    let replace = |found: &Captures<'_>| value(&found[0]).unwrap_or_else(|| found[0].to_owned());
    PLACEHOLDER.replace_all(text, replace).into_owned()
}

/// Gives values their placeholders. A value has one placeholder; values of one group (spellings of one address, names of
/// one person) have one number, and a second one from the second spelling on.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    numbers: HashMap<(MaskedKind, String), usize>,
    counts: HashMap<MaskedKind, usize>,
    spellings: HashMap<(MaskedKind, usize), usize>,
    placeholders: HashMap<(MaskedKind, String), String>,
    masks: Masks,
}

impl Numbering {
    /// The placeholder of `value`, which is of this `group`.
    pub(super) fn placeholder(&mut self, kind: MaskedKind, group: &str, value: &str) -> String {
        self.known_or_full(kind, value).unwrap_or_else(|| {
            let number = self.number(kind, group);
            self.of_number(kind, number, value)
        })
    }

    /// The placeholder of `value`, which is one of those with this number.
    pub(super) fn placeholder_of_number(&mut self, kind: MaskedKind, number: usize, value: &str) -> String {
        self.known_or_full(kind, value).unwrap_or_else(|| self.of_number(kind, number, value))
    }

    /// The placeholder that the value has, or the one of all for which there is no room.
    fn known_or_full(&mut self, kind: MaskedKind, value: &str) -> Option<String> {
        if let Some(known) = self.placeholders.get(&(kind, value.to_owned())) {
            return Some(known.clone());
        }
        *self.masks.counts.entry(kind).or_default() += 1;
        (self.placeholders.len() >= MAX_PLACEHOLDERS).then(|| format!("[{}]", kind.word()))
    }

    fn of_number(&mut self, kind: MaskedKind, number: usize, value: &str) -> String {
        let spelling = self.spellings.entry((kind, number)).or_default();
        *spelling += 1;
        let mut placeholder = format!("[{}-{number}", kind.word());
        if *spelling > 1 {
            let _ = write!(placeholder, ".{spelling}");
        }
        placeholder.push(']');
        self.masks.originals.insert(placeholder.clone(), value.to_owned());
        self.placeholders.insert((kind, value.to_owned()), placeholder.clone());
        placeholder
    }

    /// The number of a group, which it has from now on.
    pub(super) fn number(&mut self, kind: MaskedKind, group: &str) -> usize {
        if let Some(number) = self.numbers.get(&(kind, group.to_owned())) {
            return *number;
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        self.numbers.insert((kind, group.to_owned()), *count);
        *count
    }

    pub(super) fn into_masks(self) -> Masks {
        self.masks
    }
}

/// The values behind the placeholders of one question.
#[derive(Debug, Clone, Default)]
pub struct Masks {
    originals: HashMap<String, String>,
    counts: BTreeMap<MaskedKind, usize>,
}

impl Masks {
    /// How many values of each kind were masked. One beyond the bound counts each time.
    pub fn counts(&self) -> &BTreeMap<MaskedKind, usize> {
        &self.counts
    }

    /// Those whose placeholders are in `prompt`: the model knows no others, and what it makes up stays text.
    #[must_use]
    pub fn shown_in(&self, prompt: &str) -> Self {
        if self.originals.is_empty() {
            return Self::default();
        }
        let shown: HashSet<_> = PLACEHOLDER.find_iter(prompt).map(|found| found.as_str()).collect();
        let original = |placeholder: &str| Some((placeholder.to_owned(), self.originals.get(placeholder)?.clone()));
        Self { originals: shown.into_iter().filter_map(original).collect(), counts: self.counts.clone() }
    }

    /// Whether nothing can be put back.
    pub fn is_empty(&self) -> bool {
        self.originals.is_empty()
    }

    /// The text with the values in the place of their placeholders. What no value stands behind stays as it is, and so does what
    /// a value looks like. A text ends where HubSpot's do, so that no answer becomes endless by long values.
    pub fn put_back(&self, text: &str) -> String {
        let mut whole = String::with_capacity(text.len());
        let mut copied = 0;
        for found in PLACEHOLDER.find_iter(text) {
            let Some(original) = self.originals.get(found.as_str()) else { continue };
            whole.push_str(&text[copied..found.start()]);
            whole.push_str(original);
            copied = found.end();
            if whole.len() > MAX_RESTORED {
                break;
            }
        }
        whole.push_str(&text[copied..]);
        whole
    }
}

/// The most bytes up to which values are put back into one text.
const MAX_RESTORED: usize = 4 * MAX_HUBSPOT_TEXT;
