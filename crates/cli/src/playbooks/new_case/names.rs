//! Names in texts, by what stands around them. No list of names is complete and no rule finds all of them, so what looks like a
//! name and was not replaced is shown to a person.

use std::sync::LazyLock;

use playbook::ShownContext;
use regex::{Captures, Regex};

/// A name that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// A person's; either part may be unknown.
    Person {
        /// The first name or names.
        given: Option<String>,
        /// The last name.
        family: Option<String>,
    },
    /// A company's.
    Company(String),
}

/// A capitalised word.
const WORD: &str = r"\p{Lu}[\p{L}’'-]*\p{L}";

/// At most so many suspects are shown: a text in German is full of capitalised words.
const MAX_SUSPECTS: usize = 40;

/// Words that stand where names do.
const NO_NAMES: [&str; 40] = [
    "all",
    "alle",
    "alles",
    "april",
    "august",
    "both",
    "colleagues",
    "company",
    "customer",
    "damen",
    "december",
    "everyone",
    "everybody",
    "february",
    "folks",
    "friday",
    "friends",
    "guys",
    "herren",
    "januar",
    "january",
    "july",
    "june",
    "kollegen",
    "madam",
    "march",
    "monday",
    "november",
    "october",
    "sales",
    "saturday",
    "september",
    "sir",
    "sunday",
    "support",
    "team",
    "there",
    "thursday",
    "tuesday",
    "wednesday",
];

/// Mailboxes of a role and not of a person.
const ROLES: [&str; 24] = [
    "accounting",
    "admin",
    "billing",
    "career",
    "careers",
    "contact",
    "hallo",
    "hello",
    "help",
    "hr",
    "info",
    "invoice",
    "jobs",
    "kontakt",
    "mail",
    "marketing",
    "newsletter",
    "noreply",
    "office",
    "press",
    "sales",
    "service",
    "support",
    "team",
];

/// How to read the groups of a rule.
enum Groups {
    /// First name, then perhaps last name.
    GivenFirst,
    /// Both, or the last name alone.
    FamilyIfAlone,
    /// A company.
    Company,
}

static RULES: LazyLock<Vec<(Regex, Groups)>> = LazyLock::new(|| {
    let greeting = r"(?:Hi|Hello|Hey|Dear|Hallo|Liebe|Lieber|Moin|Bonjour|Hola|Ciao|Good (?:morning|afternoon|evening)|Guten (?:Tag|Morgen|Abend))";
    let honorific = r"(?:Mr|Mrs|Ms|Miss|Dr|Prof|Herr|Herrn|Frau|Monsieur|Madame)\b\.?(?:[ \t]+(?:Dr|Prof)\.?)*";
    let farewell =
        r"(?i:regards|wishes|best|cheers|thanks|thank you|sincerely|yours|grüße|grüßen|grüsse|gruß|gruss|vg|lg|mfg)";
    let meeting = r"(?i:spoke (?:to|with)|talked (?:to|with)|call (?:with|from)|met(?: with)?|meeting with|e-?mail from|demo for|gespräch mit|telefonat mit|treffen mit)";
    let form = r"(?:GmbH(?: & Co\. KG)?|AG|KG|UG|SE|Inc|LLC|LLP|Ltd|Limited|Corp|Corporation|PLC|plc|S\.A|SAS|SARL|B\.V|Oy|AB)\b";
    [
        (format!(r"(?m)^[ \t>]*{greeting}[ \t]+({WORD})(?:[ \t]+({WORD}))?[ \t]*(?:[,!:;–-]|$)"), Groups::GivenFirst),
        (format!(r"\b{honorific}[ \t]+({WORD})(?:[ \t]+({WORD}))?"), Groups::FamilyIfAlone),
        (
            format!(r#"({WORD})(?:[ \t]+{WORD})??[ \t]+({WORD})"?[ \t]*[<(\[][ \t]*(?:mailto:)?[^\s<>@]+@"#),
            Groups::GivenFirst,
        ),
        (format!(r"(?m){farewell}[,.!]?[ \t]*\n\s*({WORD})(?:[ \t]+({WORD}))?[ \t]*$"), Groups::GivenFirst),
        (format!(r"\b{meeting}[ \t]+({WORD})[ \t]+({WORD})"), Groups::GivenFirst),
        (format!(r"((?:{WORD}[ \t]+(?:(?:&|und|and)[ \t]+)?){{1,4}}){form}"), Groups::Company),
    ]
    .into_iter()
    .map(|(rule, groups)| (regex(&rule), groups))
    .collect()
});

/// A rule of this program.
#[expect(clippy::expect_used, reason = "the rules are a part of the program, and a test uses each")]
pub fn regex(rule: &str) -> Regex {
    Regex::new(rule).expect("a valid rule")
}

/// The names in a text that a greeting, a title, a farewell, an address or a company's form gives away.
pub fn in_text(text: &str) -> Vec<Name> {
    let of_rule = |(rule, groups): &(Regex, Groups)| -> Vec<Name> {
        rule.captures_iter(text).filter_map(|found| name(&found, groups)).collect()
    };
    RULES.iter().flat_map(of_rule).collect()
}

fn name(found: &Captures<'_>, groups: &Groups) -> Option<Name> {
    let group = |index| found.get(index).map(|group| group.as_str().trim().to_owned());
    let (first, second) = (group(1)?, group(2));
    let is_title = ["Mr", "Mrs", "Ms", "Miss", "Dr", "Prof", "Herr", "Herrn", "Frau"].contains(&first.as_str());
    if is_title || NO_NAMES.contains(&first.to_lowercase().as_str()) {
        return None;
    }
    Some(match (groups, second) {
        (Groups::Company, _) => Name::Company(first),
        (Groups::FamilyIfAlone, None) => Name::Person { given: None, family: Some(first) },
        (_, family) => Name::Person { given: Some(first), family },
    })
}

/// The name in the first part of a mail address.
pub fn in_mailbox(mailbox: &str) -> Option<Name> {
    let parts: Vec<_> = mailbox.split(['.', '_', '-']).collect();
    let is_name = |part: &str| part.chars().count() >= 2 && part.chars().all(char::is_alphabetic);
    match parts[..] {
        [given, family] if is_name(given) && is_name(family) => {
            Some(Name::Person { given: Some(given.to_owned()), family: Some(family.to_owned()) })
        }
        [given] if given.chars().count() >= 3 && is_name(given) && !ROLES.contains(&given.to_lowercase().as_str()) => {
            Some(Name::Person { given: Some(given.to_owned()), family: None })
        }
        _ => None,
    }
}

/// What may be a name and was not replaced: words in a row that are capitalised, and single ones within a sentence. Placeholders
/// end in a digit.
pub fn suspects(shown: &ShownContext) -> Vec<String> {
    static ROW: LazyLock<Regex> = LazyLock::new(|| regex(&format!(r"{WORD}(?:[ \t]+{WORD})+\b")));
    static WITHIN: LazyLock<Regex> = LazyLock::new(|| regex(&format!(r"\p{{Ll}},?[ \t]+({WORD})\b")));
    let values = shown.records.iter().flat_map(|record| record.properties.values());
    let mut suspects: Vec<String> = Vec::new();
    for text in values.chain(shown.entries.iter().map(|entry| &entry.text)) {
        let rows = ROW.find_iter(text).map(|found| found.as_str());
        let single = WITHIN.captures_iter(text).filter_map(|found| found.get(1)).map(|found| found.as_str());
        for suspect in rows.chain(single) {
            // An abbreviation is none.
            let is_name = suspect.contains(char::is_lowercase) && !NO_NAMES.contains(&suspect.to_lowercase().as_str());
            if is_name && !suspects.iter().any(|other| other.contains(suspect)) && suspects.len() < MAX_SUSPECTS {
                suspects.push(suspect.to_owned());
            }
        }
    }
    suspects
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(given: &str, family: &str) -> Name {
        let part = |part: &str| Some(part.to_owned()).filter(|part| !part.is_empty());
        Name::Person { given: part(given), family: part(family) }
    }

    #[test]
    fn names_are_found_by_what_stands_around_them() {
        for (text, expected) in [
            ("Hi Jon,\nthanks", person("Jon", "")),
            ("Hallo Anna Weiß!", person("Anna", "Weiß")),
            ("Spoke to Mrs. Bell about it", person("", "Bell")),
            ("Termin mit Herrn Dr. Groß", person("", "Groß")),
            ("From: Jon Bell <jb@x.test>", person("Jon", "Bell")),
            ("Best regards,\nAnna Weiß\nCEO", person("Anna", "Weiß")),
            ("Viele Grüße\n\nAnna", person("Anna", "")),
            ("We had a call with Jon O'Bell yesterday", person("Jon", "O'Bell")),
            ("an offer of Weiß & Groß GmbH today", Name::Company("Weiß & Groß".to_owned())),
            ("Bell Farms Ltd. wants it", Name::Company("Bell Farms".to_owned())),
        ] {
            assert_eq!(in_text(text), [expected], "{text}");
        }
        for text in ["Hi team,", "Dear Sir,", "Hello all", "We met the CEO.", "Best,\nwe will call", "they like AG"] {
            assert_eq!(in_text(text), [], "{text}");
        }
    }

    #[test]
    fn a_mailbox_of_a_person_says_their_name() {
        assert_eq!(in_mailbox("jon.bell"), Some(person("jon", "bell")));
        assert_eq!(in_mailbox("anna"), Some(person("anna", "")));
        for mailbox in ["info", "sales", "j.b", "jon.bell.x", "a1", "x", "noreply"] {
            assert_eq!(in_mailbox(mailbox), None, "{mailbox}");
        }
    }
}
