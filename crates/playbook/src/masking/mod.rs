//! What a playbook keeps from the model: values that stand in its texts as placeholders, and properties that it does not see.
//!
//! A context is masked before its text is made, so that everything that is made of it is masked: the prompt, its parts, their
//! summaries, repairs, and what the ledger keeps of them. The answer's placeholders are put back when it arrives.
//!
//! Everything takes time in proportion to the length of the texts, whatever strangers have written.

mod accounts;
mod addresses;
mod answer;
mod fold;
mod names;
mod phones;
mod placeholders;

use std::{collections::BTreeSet, ops::Range, rc::Rc, sync::Arc};

use crate::context::{Context, ContextRecord, property_text};
use names::KnownNames;
pub use phones::{KnownPhones, phones};
pub use placeholders::{Masks, replace_placeholders};
use placeholders::{Numbering, look_alikes};

/// What can be masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskKind {
    /// Mail addresses.
    Emails,
    /// Phone numbers.
    Phones,
    /// Card numbers, by their checksum.
    Cards,
    /// IBANs, by their checksum.
    BankAccounts,
    /// The names of the record's people.
    Names,
}

impl MaskKind {
    /// The name in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Emails => "emails",
            Self::Phones => "phones",
            Self::Cards => "cards",
            Self::BankAccounts => "bank_accounts",
            Self::Names => "names",
        }
    }
}

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MaskedKind {
    /// A mail address.
    Email,
    /// A phone number.
    Phone,
    /// A card number.
    Card,
    /// An IBAN.
    BankAccount,
    /// A person's name.
    Name,
    /// A text that looks like a placeholder.
    Literal,
}

impl MaskedKind {
    const ALL: [Self; 6] = [Self::Email, Self::Phone, Self::Card, Self::BankAccount, Self::Name, Self::Literal];

    /// The name in metrics and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Card => "card",
            Self::BankAccount => "bank_account",
            Self::Name => "name",
            Self::Literal => "literal",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Email => "EMAIL",
            Self::Phone => "PHONE",
            Self::Card => "CARD",
            Self::BankAccount => "BANK",
            Self::Name => "PERSON",
            Self::Literal => "LITERAL",
        }
    }
}

/// What a playbook keeps from the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Masking {
    /// What stands in the texts as placeholders.
    pub mask: BTreeSet<MaskKind>,
    /// The properties that are not shown.
    pub deny: BTreeSet<String>,
}

/// A context as the model reads it.
#[derive(Debug, Clone)]
pub struct MaskedContext {
    /// The context with placeholders, without what is denied.
    pub context: Arc<Context>,
    /// What the placeholders stand for.
    pub masks: Masks,
}

/// What the model is told about the placeholders.
pub(crate) const ABOUT_PLACEHOLDERS: &str = "\
In the data, placeholders in square brackets stand for people's names, mail addresses, phone numbers, card numbers or bank
accounts. Placeholders that differ only behind a dot are spellings of the same. Copy a placeholder as it is wherever you mean what
it stands for, also in quotations, and never make one up.
";

impl Masking {
    /// Whether the model reads everything as it is.
    pub fn is_off(&self) -> bool {
        self.mask.is_empty() && self.deny.is_empty()
    }

    /// The context as the model reads it. The same context gives the same placeholders. They are numbered from the oldest text
    /// to the newest, so that a new text does not change how the older ones read.
    pub fn mask(&self, context: &Arc<Context>) -> MaskedContext {
        if self.is_off() {
            return MaskedContext { context: context.clone(), masks: Masks::default() };
        }
        let mut masked = Context::clone(context);
        for record in &mut masked.records {
            record.properties.retain(|name, _| !self.deny.contains(name));
        }
        if self.mask.is_empty() {
            return MaskedContext { context: Arc::new(masked), masks: Masks::default() };
        }
        let order = records_in_order(context);
        let mut masker = Masker::new(self, order.iter().map(|index| &context.records[*index]));
        for index in order {
            masker.mask_record(&mut masked.records[index]);
        }
        let mut oldest_first: Vec<_> = masked.entries.iter_mut().collect();
        oldest_first.sort_by_key(|entry| (entry.at, entry.id));
        for entry in oldest_first {
            entry.text = masker.mask_text(&entry.text);
        }
        MaskedContext { context: Arc::new(masked), masks: masker.numbering.into_masks() }
    }
}

/// The enriched record, then the others in an order that does not change when another one is associated.
fn records_in_order(context: &Context) -> Vec<usize> {
    let mut order: Vec<_> = (0..context.records.len()).collect();
    let key = |index: &usize| {
        let record = &context.records[*index].record;
        (*index > 0, record.object_type.type_id().to_owned(), record.object_id)
    };
    order.sort_by_key(key);
    order
}

/// What the value of a property is, by the property's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropertyRole {
    /// A first or a last name.
    NamePart,
    /// A whole name.
    FullName,
    /// A phone number.
    Phone,
    /// Anything else.
    Other,
}

impl PropertyRole {
    /// The role of a property with this name.
    pub fn of(property: &str) -> Self {
        let has = |parts: &[&str]| parts.iter().any(|part| property.contains(part));
        match property {
            "firstname" | "lastname" => Self::NamePart,
            _ if has(&["full_name", "fullname", "contact_name", "owner_name", "ownername"]) => Self::FullName,
            _ if has(&["phone", "mobile", "fax"]) => Self::Phone,
            _ => Self::Other,
        }
    }
}

/// Masks the texts of one context, one after the other.
struct Masker<'a> {
    masking: &'a Masking,
    /// Shared with the work on a text, which numbers what it finds.
    names: Rc<KnownNames>,
    phones: Rc<KnownPhones>,
    numbering: Numbering,
}

impl<'a> Masker<'a> {
    /// Knows the names and numbers in the properties of `records`, also in those that the model does not see.
    fn new<'r>(masking: &'a Masking, records: impl Iterator<Item = &'r ContextRecord>) -> Self {
        let mut masker = Self { masking, names: Rc::default(), phones: Rc::default(), numbering: Numbering::default() };
        let (mut names, mut phones) = (KnownNames::default(), KnownPhones::default());
        for record in records {
            masker.learn(record, &mut names, &mut phones);
        }
        Self { names: Rc::new(names), phones: Rc::new(phones), ..masker }
    }

    fn masks(&self, kind: MaskKind) -> bool {
        self.masking.mask.contains(&kind)
    }

    fn learn(&mut self, record: &ContextRecord, names: &mut KnownNames, phones: &mut KnownPhones) {
        let property = |name: &str| record.properties.get(name).and_then(Option::as_deref).unwrap_or_default().trim();
        let (given, family) = (property("firstname"), property("lastname"));
        if self.masks(MaskKind::Names) && !(given.is_empty() && family.is_empty()) {
            let person = self.person(&record.record.to_string());
            names.learn_person(person, given, family);
        }
        for (name, value) in &record.properties {
            let Some(value) = value.as_deref().map(str::trim).filter(|value| !value.is_empty()) else { continue };
            match PropertyRole::of(name) {
                PropertyRole::FullName if self.masks(MaskKind::Names) && !value.contains('@') => {
                    let person = names.person_of(value).unwrap_or_else(|| self.person(value));
                    names.learn_full_name(person, value);
                }
                PropertyRole::Phone if self.masks(MaskKind::Phones) => phones.learn(value),
                _ => {}
            }
        }
    }

    fn person(&mut self, who: &str) -> usize {
        self.numbering.number(MaskedKind::Name, &format!("person {who}"))
    }

    fn mask_record(&mut self, record: &mut ContextRecord) {
        let who = record.record.to_string();
        for (name, value) in &mut record.properties {
            let Some(value) = value else { continue };
            let text = property_text(name, value);
            *value = match PropertyRole::of(name) {
                PropertyRole::NamePart if self.masks(MaskKind::Names) => self.whole_name(&text, &who),
                PropertyRole::FullName if self.masks(MaskKind::Names) && !text.contains('@') => {
                    let spelling = text.clone();
                    self.whole_name(&text, &spelling)
                }
                PropertyRole::Phone if self.masks(MaskKind::Phones) && text.contains(char::is_numeric) => {
                    self.placeholder(MaskedKind::Phone, &phones::digits_of(&text), &text)
                }
                _ => self.mask_text(&text),
            };
        }
        record.is_text = true;
    }

    /// The placeholder of a property that is a name and nothing else, however short.
    fn whole_name(&mut self, name: &str, who: &str) -> String {
        if name.trim().is_empty() {
            return name.to_owned();
        }
        let number = self.names.person_of(name).unwrap_or_else(|| self.person(who));
        self.name(number, name)
    }

    fn name(&mut self, number: usize, spelling: &str) -> String {
        self.numbering.placeholder_of_number(MaskedKind::Name, number, spelling)
    }

    fn placeholder(&mut self, kind: MaskedKind, group: &str, value: &str) -> String {
        self.numbering.placeholder(kind, group, value)
    }

    /// The text with placeholders. What looks like one in it gets one of its own, so that nothing else is put in its place.
    fn mask_text(&mut self, text: &str) -> String {
        let mut pieces = vec![Piece::Text(text)];
        self.replace(&mut pieces, look_alikes, |this, value| this.placeholder(MaskedKind::Literal, value, value));
        if self.masks(MaskKind::Emails) {
            self.replace(&mut pieces, addresses::emails, |this, value| {
                this.placeholder(MaskedKind::Email, &value.to_lowercase(), value)
            });
        }
        if self.masks(MaskKind::BankAccounts) {
            self.replace(&mut pieces, accounts::bank_accounts, |this, value| {
                this.placeholder(MaskedKind::BankAccount, &compact(value), value)
            });
        }
        if self.masks(MaskKind::Cards) {
            self.replace(&mut pieces, accounts::cards, |this, value| {
                this.placeholder(MaskedKind::Card, &compact(value), value)
            });
        }
        if self.masks(MaskKind::Phones) {
            let known = self.phones.clone();
            self.replace(
                &mut pieces,
                |text| phones(text, &known),
                |this, value| this.placeholder(MaskedKind::Phone, &phones::digits_of(value), value),
            );
        }
        if self.masks(MaskKind::Names) {
            let names = self.names.clone();
            let found = |text: &str| names.find_in(text);
            self.replace_each(&mut pieces, found, |this, value, person| this.name(person, value));
        }
        pieces.iter().map(Piece::as_str).collect()
    }

    /// Replaces what `find` finds in the pieces that are text still.
    fn replace(
        &mut self,
        pieces: &mut Vec<Piece<'_>>,
        find: impl Fn(&str) -> Vec<Range<usize>>,
        placeholder: impl Fn(&mut Self, &str) -> String,
    ) {
        let found = |text: &str| find(text).into_iter().map(|place| (place, ())).collect();
        self.replace_each(pieces, found, |this, value, ()| placeholder(this, value));
    }

    fn replace_each<Of>(
        &mut self,
        pieces: &mut Vec<Piece<'_>>,
        find: impl Fn(&str) -> Vec<(Range<usize>, Of)>,
        placeholder: impl Fn(&mut Self, &str, Of) -> String,
    ) {
        let mut replaced = Vec::with_capacity(pieces.len());
        for piece in std::mem::take(pieces) {
            let Piece::Text(text) = piece else {
                replaced.push(piece);
                continue;
            };
            let mut copied = 0;
            for (place, of) in find(text) {
                replaced.push(Piece::Text(&text[copied..place.start]));
                replaced.push(Piece::Placeholder(placeholder(self, &text[place.clone()], of)));
                copied = place.end;
            }
            replaced.push(Piece::Text(&text[copied..]));
        }
        *pieces = replaced;
    }
}

/// The letters and digits of a number, which are the same however it is written.
fn compact(value: &str) -> String {
    value.chars().filter(char::is_ascii_alphanumeric).map(|character| character.to_ascii_uppercase()).collect()
}

/// A part of a text that is being masked.
enum Piece<'t> {
    Text(&'t str),
    Placeholder(String),
}

impl Piece<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Placeholder(placeholder) => placeholder,
        }
    }
}
