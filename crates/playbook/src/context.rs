//! What was read from HubSpot for one inference, and its text for the model.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use domain::{ObjectId, ObjectType, RecordRef, hash::sha256_hex_of_list, write_command::marker_in};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    path::RecordPath,
    text::{longest_prefix, normalize, plain_text},
};

/// The maximum length of a property's value in the text for the model, in characters. Longer texts belong to the
/// entries: a playbook names their properties in `texts`.
const MAX_PROPERTY_TEXT: usize = 1_000;

/// What was read from HubSpot for one inference.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// First the record that is enriched, then those with which it is associated. Never empty.
    pub records: Vec<ContextRecord>,
    /// What people wrote; newest first after [`Context::clean_entries`].
    pub entries: Vec<ContextEntry>,
}

/// A record with the properties that were read of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ContextRecord {
    /// The path at which it was found.
    pub path: RecordPath,
    /// The record. The id of the first record may differ from the event's: HubSpot answers a read of a merged record's
    /// old id with the record into which it was merged.
    pub record: RecordRef,
    /// The properties by internal name; `None` for one without a value.
    pub properties: BTreeMap<String, Option<String>>,
    /// Whether the id that was read belongs to a record that was merged into this one.
    pub merged: bool,
    /// Whether the record is archived.
    pub archived: bool,
}

/// A text that a person wrote: the body of an engagement, the text of a ticket, the transcript of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct ContextEntry {
    /// The type of the object that contains the text.
    pub kind: ObjectType,
    /// The id of that object.
    pub id: ObjectId,
    /// When the text was written.
    pub at: OffsetDateTime,
    /// The plain text.
    pub text: String,
}

impl ContextEntry {
    /// Where a context that is too long is divided: of several entries, before the one with the highest rank. Any order
    /// does that is the same at every reading and has nothing to do with the order of the entries.
    fn border_rank(&self) -> String {
        sha256_hex_of_list([self.kind.type_id(), &self.id.to_string()])
    }

    fn render(&self) -> String {
        // Fractions of a second would only cost tokens.
        let at = self.at.replace_nanosecond(0).unwrap_or(self.at).format(&Rfc3339).unwrap_or_default();
        format!("\n[{} {} of {at}]\n{}\n", self.kind, self.id, self.text)
    }
}

impl Context {
    /// The record that is enriched.
    ///
    /// # Panics
    /// When the context has no records. Every reader adds the enriched record first.
    pub fn record(&self) -> &RecordRef {
        &self.records[0].record
    }

    /// The records at `path`.
    pub fn records_at<'a>(&'a self, path: &'a RecordPath) -> impl Iterator<Item = &'a ContextRecord> {
        self.records.iter().filter(move |record| record.path == *path)
    }

    /// Sorts the entries newest first and removes those without text, repeated ones, and those that the fleet wrote:
    /// the model must not take the fleet's own text for a person's.
    pub fn clean_entries(&mut self) {
        self.entries.retain(|entry| !entry.text.trim().is_empty() && marker_in(&entry.text).is_none());
        self.entries.sort_by_key(|entry| std::cmp::Reverse((entry.at, entry.id)));
        let mut seen = HashSet::new();
        self.entries.retain(|entry| seen.insert(normalize(&entry.text)));
    }

    /// The properties of all records, one a line. Those without a value are omitted.
    pub fn properties_text(&self) -> String {
        self.properties_text_without(&BTreeSet::new())
    }

    fn properties_text_without(&self, omitted: &BTreeSet<(ObjectType, String)>) -> String {
        let is_omitted = |record: &ContextRecord, name: &str| {
            omitted.iter().any(|(kind, property)| *kind == record.record.object_type && property == name)
        };
        let mut lines = String::new();
        for (index, record) in self.records.iter().enumerate() {
            let role = if index == 0 { "record" } else { "associated with it" };
            lines.push_str(&format!("{role}: {}\n", record.record));
            for (name, value) in &record.properties {
                if let Some(value) = value.as_deref().filter(|value| !value.is_empty() && !is_omitted(record, name)) {
                    let text = plain_text(value);
                    let kept: String = text.chars().take(MAX_PROPERTY_TEXT).collect();
                    lines.push_str(&format!("{name}: {kept}{}\n", if kept.len() < text.len() { " […]" } else { "" }));
                }
            }
        }
        lines
    }

    /// Properties and entries as one text of at most `max_tokens` tokens as `count` counts them: all properties, then
    /// as many entries as fit, newest first. If some do not fit, a last line says how many.
    pub fn render(&self, max_tokens: usize, count: impl Fn(&str) -> usize) -> String {
        let mut block = self.properties_text();
        let mut left = max_tokens.saturating_sub(count(&block));
        for (index, entry) in self.entries.iter().enumerate() {
            let text = entry.render();
            let tokens = count(&text);
            if tokens <= left {
                block.push_str(&text);
                left -= tokens;
                continue;
            }
            block.push_str(longest_prefix(&text, left, &count));
            let older = self.entries.len() - index - 1;
            block.push_str(&format!("\n[left out: the rest of this {} and {older} older entries]\n", entry.kind));
            break;
        }
        block
    }

    /// All entries, newest first, in parts of at most `max_tokens` tokens as `count` counts them. An entry is split only if
    /// it is longer than a part.
    ///
    /// The borders follow from the entries themselves and not from what stands before them: a new entry changes the part
    /// that it belongs to and no other, and neither does one that is no longer read. So the stored summaries of all other
    /// parts can be used again. A part's text therefore holds nothing that differs from one reading to the next.
    pub fn parts(&self, max_tokens: usize, count: impl Fn(&str) -> usize) -> Vec<String> {
        let texts: Vec<_> = self.entries.iter().map(ContextEntry::render).collect();
        let tokens: Vec<_> = texts.iter().map(|text| count(text)).collect();
        let ranks: Vec<_> = self.entries.iter().map(ContextEntry::border_rank).collect();
        let mut parts = Vec::new();
        let mut pending = vec![0..texts.len()];
        while let Some(range) = pending.pop() {
            if tokens[range.clone()].iter().sum::<usize>() <= max_tokens {
                parts.extend((!range.is_empty()).then(|| texts[range].concat()));
                continue;
            }
            // The entry with the highest rank is the oldest of its part. The oldest of all is it in any case.
            match range.clone().take(range.len() - 1).max_by_key(|index| &ranks[*index]) {
                Some(oldest) => pending.extend([oldest + 1..range.end, range.start..oldest + 1]),
                None => parts.extend(pieces(&texts[range.start], max_tokens, &count).into_iter().rev()),
            }
        }
        parts
    }

    /// The SHA-256, in hex, of what a playbook of this `version` reads in this context. The properties in `written` do
    /// not count: a value that the fleet itself has written is no reason to ask the model again.
    pub fn hash(&self, version: &str, written: &BTreeSet<(ObjectType, String)>) -> String {
        let texts = self.entries.iter().map(|entry| entry.text.as_str());
        sha256_hex_of_list([version, &self.properties_text_without(written)].into_iter().chain(texts))
    }

    /// The whole text in which a quotation may be found: properties and entries.
    pub fn full_text(&self) -> String {
        let entries = self.entries.iter().map(|entry| entry.text.as_str());
        std::iter::once(self.properties_text().as_str()).chain(entries).collect::<Vec<_>>().join("\n")
    }
}

/// A text in pieces of at most `max_tokens` tokens, from its beginning. Where not even a character fits, the last piece is
/// longer: better than a loop without end.
fn pieces(text: &str, max_tokens: usize, count: impl Fn(&str) -> usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let piece = match longest_prefix(rest, max_tokens, &count) {
            "" => rest,
            prefix => prefix,
        };
        pieces.push(piece.to_owned());
        rest = &rest[piece.len()..];
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{PortalId, write_command::marker};

    fn context(texts: &[&str]) -> Context {
        let entries = texts
            .iter()
            .zip(1..)
            .map(|(text, id)| ContextEntry {
                kind: ObjectType::Note,
                id: ObjectId(id),
                at: OffsetDateTime::UNIX_EPOCH + time::Duration::days(id),
                text: (*text).to_owned(),
            })
            .collect();
        let record = RecordRef { portal_id: PortalId(1), object_type: ObjectType::Contact, object_id: ObjectId(54321) };
        let record = ContextRecord {
            path: RecordPath::of(ObjectType::Contact),
            record,
            properties: BTreeMap::from([("company".to_owned(), Some("Acme".to_owned()))]),
            merged: false,
            archived: false,
        };
        Context { records: vec![record], entries }
    }

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    #[test]
    fn the_newest_entries_come_first_and_a_line_says_what_did_not_fit() {
        let mut context = context(&["the oldest note", "a note in the middle", "the newest note"]);
        context.clean_entries();
        let whole = context.render(1_000, words);
        assert!(whole.find("newest") < whole.find("middle") && whole.find("middle") < whole.find("oldest"));
        assert!(!whole.contains("left out"));

        let cut = context.render(14, words);
        assert!(cut.contains("the newest note") && !cut.contains("oldest"));
        assert!(cut.contains("[left out: the rest of this note and 1 older entries]"), "{cut}");
    }

    #[test]
    fn parts_contain_every_word_and_keep_their_limit() {
        let long = (0..200).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
        let mut context = context(&["a short one", &long, "the newest"]);
        context.clean_entries();
        let parts = context.parts(50, words);
        assert!(parts.len() >= 5, "{}", parts.len());
        assert!(parts.iter().all(|part| words(part) <= 50));
        let all = parts.concat();
        assert!((0..200).all(|n| all.contains(&format!("w{n}"))) && all.contains("a short one"));
        assert!(parts[0].contains("the newest"), "newest first: {parts:?}");
        assert!(parts[parts.len() - 1].contains("a short one"), "{parts:?}");
    }

    /// A ticket with `mails` of thirty words each, of which the newest forty are read.
    fn thread(mails: i64) -> Vec<String> {
        let texts: Vec<_> = (1..=mails).map(|n| format!("mail{n} {}", "word ".repeat(25))).collect();
        let mut context = context(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        context.clean_entries();
        context.entries.truncate(40);
        context.parts(200, words)
    }

    #[test]
    fn a_new_entry_and_one_that_is_no_longer_read_change_no_other_part() {
        for mails in [20, 40, 100, 1_000] {
            let (before, after) = (thread(mails), thread(mails + 1));
            let new = after.iter().filter(|part| !before.contains(part)).count();
            assert!(before.len() >= 5, "{} parts", before.len());
            // The newest part, and the oldest when the fortieth mail is no longer read. A part that is full is divided, and
            // the rest of one may join its neighbour.
            assert!(new <= 3, "{new} of {} parts are new after mail {}", after.len(), mails + 1);
        }
    }

    #[test]
    fn values_that_the_fleet_writes_do_not_change_the_hash() {
        let written = BTreeSet::from([(ObjectType::Contact, "score".to_owned())]);
        let with = |name: &str, value: &str| {
            let mut context = context(&["a note"]);
            context.records[0].properties.insert(name.to_owned(), Some(value.to_owned()));
            context.hash("v", &written)
        };
        assert_eq!(with("score", "1"), with("score", "2"));
        assert_ne!(with("company", "1"), with("company", "2"));
    }

    #[test]
    fn empty_entries_repeated_entries_and_those_of_the_fleet_are_removed() {
        let ours = format!("Call her.\n{}", marker(domain::ActionId::new()));
        let mut context = context(&["same words", " \n", "Same  words", &ours]);
        context.clean_entries();
        assert_eq!(context.entries.len(), 1);
        assert_eq!(context.entries[0].id, ObjectId(3), "the newest of two equal ones stays");
    }
}
