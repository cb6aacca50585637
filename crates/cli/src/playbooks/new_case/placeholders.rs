//! Placeholders for what identifies people: people's names, companies' names, mail addresses, domains and phone numbers. The
//! same original has the same placeholder everywhere in a case, so that quotations are still found.

use std::collections::HashMap;

use playbook::{KnownPhones, ShownContext};
use regex::Regex;

use super::{
    addresses::{MAIL, WEB, domain_of},
    known_names::{KnownName, KnownNames, NameKind, Role, role},
};

/// The placeholders of one case. Each gets its number when it is first used.
#[derive(Default)]
pub struct Placeholders {
    names: KnownNames,
    /// The number of a group, a mail address, a domain or a phone number, by what it is of.
    numbers: HashMap<String, usize>,
    /// How many of each kind have a number.
    counts: HashMap<&'static str, usize>,
    /// Every original with its placeholder, in the order of their first use.
    replaced: Vec<(String, String)>,
}

impl Placeholders {
    /// The placeholders for these names, and for every address.
    pub fn new(names: KnownNames) -> Self {
        Self { names, ..Self::default() }
    }

    /// Replaces everything in all texts.
    pub fn replace_in(&mut self, shown: &mut ShownContext) {
        for record in &mut shown.records {
            let roles: Vec<_> = record.properties.keys().map(|name| role(record, name)).collect();
            for (value, role) in record.properties.values_mut().zip(roles) {
                *value = match role {
                    Role::Name | Role::Company | Role::FullName => self.whole_name(value),
                    Role::Phone if value.chars().any(|character| character.is_ascii_digit()) => self.phone(value),
                    Role::Web if value.contains('.') && !value.contains(char::is_whitespace) => self.web(value),
                    _ => self.replace(value),
                };
            }
        }
        for entry in &mut shown.entries {
            entry.text = self.replace(&entry.text);
        }
    }

    /// Every original and its placeholder, in the order of their first use.
    pub fn replaced(&self) -> &[(String, String)] {
        &self.replaced
    }

    /// A property that is a name and nothing else, whichever way it is written.
    fn whole_name(&mut self, value: &str) -> String {
        match self.names.of_whole(value) {
            Some(name) => self.name(value.trim(), name),
            None => self.replace(value),
        }
    }

    fn replace(&mut self, text: &str) -> String {
        let text = replace_all(&MAIL, text, |mail| self.mail(mail));
        let text = replace_all(&WEB, &text, |web| self.web(web));
        let text = self.replace_phones(&text);
        self.replace_names(&text)
    }

    fn replace_phones(&mut self, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut copied = 0;
        for place in playbook::phones(text, &KnownPhones::default()) {
            replaced.push_str(&text[copied..place.start]);
            replaced.push_str(&self.phone(&text[place.clone()]));
            copied = place.end;
        }
        replaced + &text[copied..]
    }

    fn replace_names(&mut self, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut copied = 0;
        for (place, name) in self.names.find_in(text) {
            replaced.push_str(&text[copied..place.start]);
            replaced.push_str(&self.name(&text[place.clone()], name));
            copied = place.end;
        }
        replaced + &text[copied..]
    }

    fn name(&mut self, original: &str, name: KnownName) -> String {
        // Both parts of a person's name have one number.
        let counted = if name.kind == NameKind::Company { "company" } else { "person" };
        let number = self.number(counted, &name.group.to_string());
        let (given, family) = (format!("Firstname{number}"), format!("Lastname{number}"));
        let placeholder = match name.kind {
            NameKind::Given => given,
            NameKind::Family => family,
            NameKind::GivenFamily => format!("{given} {family}"),
            NameKind::FamilyGiven => format!("{family} {given}"),
            NameKind::Company => format!("Company{number}"),
        };
        self.remember(original, placeholder)
    }

    /// Known names that were kept because they stand in lower case.
    pub fn kept_in(&self, shown: &ShownContext) -> Vec<String> {
        let values = shown.records.iter().flat_map(|record| record.properties.values());
        let texts = values.chain(shown.entries.iter().map(|entry| &entry.text));
        let mut kept: Vec<_> = texts.flat_map(|text| self.names.lower_case_in(text)).map(ToOwned::to_owned).collect();
        kept.sort();
        kept.dedup();
        kept
    }

    fn mail(&mut self, original: &str) -> String {
        let (_, host) = original.split_once('@').unwrap_or((original, ""));
        let number = self.number("mail", &original.to_lowercase());
        let domain = self.domain(host);
        self.remember(original, format!("person{number}@{domain}"))
    }

    fn domain(&mut self, host: &str) -> String {
        format!("domain{}.example", self.number("domain", &domain_of(host)))
    }

    /// Without the path: it may name a person, too.
    fn web(&mut self, found: &str) -> String {
        let original = found.trim_end_matches(['.', ',', ';', ':', '!', '?']);
        let (scheme, rest) = original.split_once("://").map_or(("", original), |(_, rest)| ("https://", rest));
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(end);
        let host = host.rsplit('@').next().unwrap_or(host);
        let page = if path.trim_matches('/').is_empty() { "" } else { "/page" };
        let placeholder = format!("{scheme}{}{page}", self.domain(host.split(':').next().unwrap_or(host)));
        self.remember(original, placeholder) + &found[original.len()..]
    }

    fn phone(&mut self, original: &str) -> String {
        let digits: String = original.chars().filter(char::is_ascii_digit).collect();
        let number = self.number("phone", &digits);
        // 555-01xx is kept for fiction in each area.
        let placeholder = format!("+1 {} 555 01{:02}", 202 + number / 100, number % 100);
        self.remember(original, placeholder)
    }

    fn number(&mut self, kind: &'static str, of: &str) -> usize {
        let key = format!("{kind} {of}");
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        self.numbers.insert(key, *count);
        *count
    }

    fn remember(&mut self, original: &str, placeholder: String) -> String {
        if !self.replaced.iter().any(|(known, _)| known == original) {
            self.replaced.push((original.to_owned(), placeholder.clone()));
        }
        placeholder
    }
}

fn replace_all(regex: &Regex, text: &str, mut placeholder: impl FnMut(&str) -> String) -> String {
    regex.replace_all(text, |found: &regex::Captures<'_>| placeholder(&found[0])).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::{ObjectId, ObjectType};
    use playbook::{ShownEntry, ShownRecord};
    use time::OffsetDateTime;

    use super::*;
    use crate::playbooks::new_case::{known_names::GivenNames, names};

    fn record(object_type: ObjectType, properties: &[(&str, &str)]) -> ShownRecord {
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        ShownRecord { object_type, properties: properties.collect::<BTreeMap<_, _>>() }
    }

    fn placeholders(shown: &ShownContext) -> Placeholders {
        let given = GivenNames { persons: &[], companies: &["Marsh".to_owned()] };
        Placeholders::new(KnownNames::of(shown, given).expect("few names"))
    }

    /// The texts with everything replaced.
    fn replaced(properties: &[(&str, &str)], texts: &[&str]) -> ShownContext {
        let entry = |text: &&str| ShownEntry {
            kind: ObjectType::Note,
            id: ObjectId(1),
            at: OffsetDateTime::UNIX_EPOCH,
            text: (*text).to_owned(),
        };
        let mut shown = ShownContext {
            records: vec![record(ObjectType::Contact, properties)],
            entries: texts.iter().map(entry).collect(),
            ..ShownContext::default()
        };
        let mut placeholders = placeholders(&shown);
        placeholders.replace_in(&mut shown);
        shown
    }

    fn text(properties: &[(&str, &str)], text: &str) -> String {
        replaced(properties, &[text]).entries.remove(0).text
    }

    const JON: [(&str, &str); 4] =
        [("firstname", "jon"), ("lastname", "Bell"), ("company", "Bell & Sons GmbH"), ("phone", "030 / 123 456-7")];

    #[test]
    fn the_same_person_company_and_number_are_the_same_everywhere() {
        let shown = replaced(
            &JON,
            &[
                "Mr. Bell of Bell & Sons called from 030 1234567. JON's boss is Anna Weiß <a.weiss@bell-sons.de>.",
                "Bells idea",
                "Mrs Groß wrote: Best,\nEva Groß",
            ],
        );
        let values: Vec<_> = shown.records[0].properties.values().map(String::as_str).collect();
        assert_eq!(values, ["Company1", "Firstname1", "Lastname1", "+1 202 555 0101"]);
        assert_eq!(
            shown.entries[0].text,
            "Mr. Lastname1 of Company1 called from +1 202 555 0101. Firstname1's boss is Firstname2 Lastname2 \
             <person1@domain1.example>."
        );
        assert_eq!(shown.entries[1].text, "Lastname1s idea");
        assert_eq!(shown.entries[2].text, "Mrs Lastname3 wrote: Best,\nFirstname3 Lastname3");
    }

    #[test]
    fn addresses_lose_their_names_and_keep_their_form() {
        for (original, expected) in [
            (
                "see https://www.bell.co.uk/team/jon?x=1, or bell.co.uk.",
                "see https://domain1.example/page, or domain1.example.",
            ),
            ("Jon.Bell@BELL.com and jon.bell@bell.com", "person1@domain1.example and person1@domain1.example"),
            ("ask anna@marsh.io; Anna answers", "ask person1@domain1.example; Firstname1 answers"),
            ("at Marsh they use marsh.com/x", "at Company1 they use domain1.example/page"),
        ] {
            assert_eq!(text(&[], original), expected);
        }
    }

    #[test]
    fn a_whole_name_in_lower_case_is_replaced_and_a_part_of_it_is_shown() {
        let mut shown = replaced(&JON, &["spoke to jon bell, or bell jon. then jon rang the bell"]);
        let expected = "spoke to Firstname1 Lastname1, or Lastname1 Firstname1. then jon rang the bell";
        assert_eq!(shown.entries[0].text, expected);
        let mut with_names = shown.clone();
        with_names.records = vec![record(ObjectType::Contact, &JON)];
        let placeholders = placeholders(&with_names);
        shown.records.clear();
        assert_eq!(placeholders.kept_in(&shown), ["bell", "jon"]);
    }

    #[test]
    fn a_property_that_is_a_name_is_replaced_whole_however_short() {
        let of = |properties: &[(&str, &str)]| {
            let shown = replaced(properties, &["J is a letter, and 3M a number"]);
            assert_eq!(shown.entries[0].text, "J is a letter, and 3M a number");
            shown.records[0].properties.values().cloned().collect::<Vec<_>>().join(", ")
        };
        assert_eq!(of(&[("company", "3M"), ("firstname", "J"), ("lastname", "李")]), "Company1, Firstname1, Lastname1");
        assert_eq!(of(&[("contact_name", "jon  bell"), ("company", "99")]), "Company1, Firstname1 Lastname1");
    }

    #[test]
    fn a_name_in_a_script_without_case_is_found_within_other_letters() {
        let known = [("firstname", "太郎"), ("lastname", "田中")];
        assert_eq!(text(&known, "昨日は田中さんと話した"), "昨日はLastname1さんと話した");
        assert_eq!(text(&known, "田中太郎です"), "Lastname1 Firstname1です");
    }

    #[test]
    fn words_that_only_look_like_names_stay() {
        let will = [("firstname", "Will"), ("lastname", "Rose")];
        assert_eq!(
            text(&will, "they will call; prices rose; a Roset; Will agrees"),
            "they will call; prices rose; a Roset; Firstname1 agrees"
        );
        assert_eq!(text(&[], "Node.js and e.g. v1.2.3 stay."), "Node.js and e.g. v1.2.3 stay.");
    }

    #[test]
    fn what_was_replaced_is_known() {
        let mut shown = replaced(&[], &[]);
        shown.entries.push(ShownEntry {
            kind: ObjectType::Note,
            id: ObjectId(1),
            at: OffsetDateTime::UNIX_EPOCH,
            text: "Hi Anna,\nmeet Max Muster at Marsh. Anna".to_owned(),
        });
        let mut placeholders = placeholders(&shown);
        placeholders.replace_in(&mut shown);
        let replaced: Vec<_> = placeholders.replaced().iter().map(|(from, to)| format!("{from} {to}")).collect();
        assert_eq!(replaced, ["Anna Firstname1", "Marsh Company1"]);
        assert_eq!(names::suspects(&shown), ["Max Muster"]);
    }
}
