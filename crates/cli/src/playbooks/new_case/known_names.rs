//! The names that a case must not show: who is meant by each, and where they stand in a text.

use std::{collections::HashMap, ops::Range, sync::LazyLock};

use anyhow::Context as _;
use domain::ObjectType;
use playbook::{ShownContext, ShownRecord};
use regex::Regex;

use super::{
    addresses::{MAIL, company_of},
    names::{self, Name, regex},
};

/// The names that the operator gives beside those that are found.
#[derive(Clone, Copy)]
pub struct GivenNames<'a> {
    pub persons: &'a [String],
    pub companies: &'a [String],
}

/// Every name that is known, with what it is a name of.
#[derive(Default)]
pub struct KnownNames {
    /// By their lower-case form.
    names: HashMap<String, KnownName>,
    /// Names of one letter, or of digits, which are names only where nothing else stands.
    short: HashMap<String, KnownName>,
    /// Finds every name; longer ones first.
    finder: Option<Regex>,
    /// How many people and companies are known.
    groups: usize,
}

/// A name, or a part of one.
#[derive(Clone, Copy)]
pub struct KnownName {
    /// What it is of the person or company.
    pub kind: NameKind,
    /// The person or company that it belongs to.
    pub group: usize,
}

/// What a name is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// A first name.
    Given,
    /// A last name.
    Family,
    /// First name and last name.
    GivenFamily,
    /// Last name and first name.
    FamilyGiven,
    /// A company's name.
    Company,
}

/// A company is also called by the first word of its name, unless it is one of these.
const COMMON_FIRST_WORDS: [&str; 12] = [
    "american",
    "deutsche",
    "first",
    "general",
    "german",
    "global",
    "great",
    "international",
    "national",
    "royal",
    "united",
    "west",
];

/// The ends of a company's name that are not its name.
static LEGAL_FORM: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)[,\s]+(?:gmbh(?: & co\.? kg)?|ag|kg|ug|se|inc|llc|llp|ltd|limited|corp|corporation|plc|s\.a|sas|sarl|b\.v|oy|ab)\.?$",
    )
});

impl KnownNames {
    /// The names in `shown`: those of its properties, those that are `given`, and those that stand in its texts.
    ///
    /// # Errors
    /// There are too many names.
    pub fn of(shown: &ShownContext, given: GivenNames<'_>) -> anyhow::Result<Self> {
        let mut names = Self::default();
        for ShownRecord { properties, .. } in &shown.records {
            let property = |name: &str| properties.get(name).map(String::as_str);
            names.learn_person(property("firstname"), property("lastname"));
        }
        given.persons.iter().for_each(|name| names.learn_full_name(name));
        for record in &shown.records {
            for (name, value) in &record.properties {
                match role(record, name) {
                    Role::Company => names.learn_company(value),
                    Role::FullName => names.learn_full_name(value),
                    _ => {}
                }
            }
        }
        given.companies.iter().for_each(|name| names.learn_company(name));
        let values = shown.records.iter().flat_map(|record| record.properties.values());
        for text in values.chain(shown.entries.iter().map(|entry| &entry.text)) {
            names.learn_from(text);
        }
        names.finder = names.compile()?;
        Ok(names)
    }

    /// What this is a name of, however it is written.
    fn get(&self, name: &str) -> Option<KnownName> {
        self.names.get(&name.to_lowercase()).copied()
    }

    /// What the value of a property is a name of that holds nothing else, however short and however it is written.
    pub fn of_whole(&self, value: &str) -> Option<KnownName> {
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        self.get(&value).or_else(|| self.short.get(&value.to_lowercase()).copied())
    }

    /// Where each name stands in a text, with what it is a name of.
    pub fn find_in(&self, text: &str) -> Vec<(Range<usize>, KnownName)> {
        self.find_words(text, is_capitalised)
    }

    /// Known names that stand in a text in lower case, where they may be other words.
    pub fn lower_case_in<'t>(&self, text: &'t str) -> Vec<&'t str> {
        self.find_words(text, |found| !is_capitalised(found)).into_iter().map(|(place, _)| &text[place]).collect()
    }

    fn find_words(&self, text: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<(Range<usize>, KnownName)> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(place) = self.finder.as_ref().and_then(|finder| finder.find_at(text, at)) {
            let is_name = is_word_at(text, place.start(), place.end()) && is_wanted(place.as_str());
            match self.get(place.as_str()).filter(|_| is_name) {
                Some(name) => {
                    found.push((place.range(), name));
                    at = place.end();
                }
                // The next character: a name may begin within what is none.
                None => at = place.start() + place.as_str().chars().next().map_or(1, char::len_utf8),
            }
        }
        found
    }

    fn learn_from(&mut self, text: &str) {
        let mailboxes = MAIL.captures_iter(text).filter_map(|mail| names::in_mailbox(mail.get(1)?.as_str()));
        for name in names::in_text(text).into_iter().chain(mailboxes.collect::<Vec<_>>()) {
            match name {
                Name::Person { given, family } => self.learn_person(given.as_deref(), family.as_deref()),
                Name::Company(name) => self.learn_company(&name),
            }
        }
        let companies = MAIL.captures_iter(text).filter_map(|mail| company_of(mail.get(2)?.as_str()));
        companies.for_each(|name| self.learn_company(&name));
    }

    fn learn_full_name(&mut self, name: &str) {
        // A mail address may stand where a name is missing.
        if name.contains('@') {
            return;
        }
        match name.trim().rsplit_once(char::is_whitespace) {
            Some((given, family)) => self.learn_person(Some(given), Some(family)),
            None => self.learn_person(Some(name), None),
        }
    }

    fn learn_person(&mut self, given: Option<&str>, family: Option<&str>) {
        let [given, family] = [given, family].map(|name| name.unwrap_or_default().trim());
        let half_known = |kind, name, other| self.half_known(kind, name, other);
        let group = half_known(NameKind::Given, given, NameKind::Family);
        let group = group.or_else(|| half_known(NameKind::Family, family, NameKind::Given));
        let group = group.unwrap_or_else(|| self.new_group());
        if !given.is_empty() && !family.is_empty() {
            // Scripts without case have no space between names either.
            let space = if given.chars().chain(family.chars()).all(is_without_case) { "" } else { " " };
            self.learn(NameKind::GivenFamily, &format!("{given}{space}{family}"), group);
            self.learn(NameKind::FamilyGiven, &format!("{family}{space}{given}"), group);
        }
        for (kind, name) in [(NameKind::Given, given), (NameKind::Family, family)] {
            self.learn(kind, name, group);
            // Of two first names, or a name with `von`, one is enough to tell who it is.
            let is_telling = |part: &&str| part.chars().count() >= 3 && !part.chars().all(char::is_lowercase);
            name.split_whitespace().filter(is_telling).for_each(|part| self.learn(kind, part, group));
        }
    }

    /// The person of whom this name is known, and not yet the `other` one.
    fn half_known(&self, kind: NameKind, name: &str, other: NameKind) -> Option<usize> {
        let known = self.names.get(&name.to_lowercase()).filter(|known| known.kind == kind)?;
        let is_whole = self.names.values().any(|name| name.group == known.group && name.kind == other);
        (!is_whole).then_some(known.group)
    }

    fn new_group(&mut self) -> usize {
        self.groups += 1;
        self.groups
    }

    fn learn_company(&mut self, name: &str) {
        let group = self.new_group();
        let name = name.trim();
        self.learn(NameKind::Company, name, group);
        let short = LEGAL_FORM.replace(name, "");
        self.learn(NameKind::Company, &short, group);
        if let Some((first, _)) = short.split_once(' ')
            && first.chars().count() >= 4
            && !COMMON_FIRST_WORDS.contains(&first.to_lowercase().as_str())
        {
            self.learn(NameKind::Company, first, group);
        }
    }

    /// What is known already keeps its meaning.
    fn learn(&mut self, kind: NameKind, name: &str, group: usize) {
        let letters = name.chars().filter(|character| character.is_alphabetic()).count();
        let names = if letters >= 2 { &mut self.names } else { &mut self.short };
        if !name.is_empty() {
            names.entry(name.to_lowercase()).or_insert(KnownName { kind, group });
        }
    }

    fn compile(&self) -> anyhow::Result<Option<Regex>> {
        let mut names: Vec<_> = self.names.keys().collect();
        names.sort_by_key(|name| (std::cmp::Reverse(name.len()), *name));
        let names: Vec<_> = names.into_iter().map(|name| regex::escape(name)).collect();
        if names.is_empty() {
            return Ok(None);
        }
        let finder = Regex::new(&format!("(?i){}", names.join("|"))).context("there are too many names to replace")?;
        Ok(Some(finder))
    }
}

/// What a property holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Name,
    FullName,
    Company,
    Phone,
    Web,
    Other,
}

/// What a property holds, by its name.
pub fn role(record: &ShownRecord, name: &str) -> Role {
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    match name {
        "firstname" | "lastname" => Role::Name,
        "company" => Role::Company,
        "name" if record.object_type == ObjectType::Company => Role::Company,
        _ if has(&["full_name", "fullname", "contact_name"]) => Role::FullName,
        _ if has(&["company_name", "companyname"]) => Role::Company,
        _ if has(&["phone", "mobile", "fax"]) => Role::Phone,
        _ if has(&["website", "domain", "url"]) => Role::Web,
        _ => Role::Other,
    }
}

/// Whether what was found is a word of its own, perhaps with the `s` of a genitive. Scripts without case have no spaces between
/// words, so that nothing is known of their ends.
fn is_word_at(text: &str, start: usize, end: usize) -> bool {
    let is_word = |character: char| character.is_alphanumeric() && !is_without_case(character);
    let before = text[..start].chars().next_back();
    let behind = text[end..].strip_prefix('s').unwrap_or(&text[end..]);
    !before.is_some_and(is_word) && !behind.starts_with(is_word)
}

fn is_without_case(character: char) -> bool {
    character.is_alphabetic() && !character.is_lowercase() && !character.is_uppercase()
}

/// Whether a name is written like one. Several such words do not stand together by chance.
fn is_capitalised(name: &str) -> bool {
    name.contains(char::is_whitespace) || name.chars().next().is_some_and(|first| !first.is_lowercase())
}
