//! What was read from HubSpot for one inference.

mod text;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use domain::{ObjectId, ObjectType, RecordRef, hash::sha256_hex_of_list, write_command::marker_in};

use crate::RecordPath;

pub use text::{fold, plain_text, without_quotes};

/// A fact longer than this is cut: what people write at length belongs among the entries. In characters.
const MAX_FACT: usize = 1_000;

/// What was read from HubSpot for one inference.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// The record that is enriched, first, and those it is associated to.
    pub records: Vec<ContextRecord>,
    /// What people wrote, newest first after [`Context::tidy`].
    pub entries: Vec<Entry>,
}

/// A record with the properties that were read of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ContextRecord {
    /// How it was reached.
    pub path: RecordPath,
    /// Which one it is. The first one's id may differ from the event's: reading a merged record's old id answers with
    /// the record that survived.
    pub record: RecordRef,
    /// Its properties, by internal name; `None` where it has no value.
    pub properties: BTreeMap<String, Option<String>>,
    /// Whether it was asked for under an id that was merged away.
    pub merged: bool,
    /// Whether somebody has archived it.
    pub archived: bool,
}

/// Something that somebody wrote: an engagement's body, a ticket's text, a call's transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The kind of what holds it.
    pub kind: ObjectType,
    /// The id of what holds it.
    pub id: ObjectId,
    /// When it was written.
    pub at: OffsetDateTime,
    /// Plain text.
    pub text: String,
}

impl Entry {
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
    /// Never: a context is made with it.
    pub fn record(&self) -> &RecordRef {
        &self.records[0].record
    }

    /// The records that `path` leads to.
    pub fn at<'a>(&'a self, path: &'a RecordPath) -> impl Iterator<Item = &'a ContextRecord> {
        self.records.iter().filter(move |record| record.path == *path)
    }

    /// Orders the entries newest first and forgets those without text, repeated ones, and those that the fleet wrote
    /// itself: it must not take its own words for a person's.
    pub fn tidy(&mut self) {
        self.entries.retain(|entry| !entry.text.trim().is_empty() && marker_in(&entry.text).is_none());
        self.entries.sort_by_key(|entry| std::cmp::Reverse((entry.at, entry.id)));
        let mut seen = HashSet::new();
        self.entries.retain(|entry| seen.insert(fold(&entry.text)));
    }

    /// What is known about the records, one property a line.
    pub fn facts(&self) -> String {
        self.facts_but(&BTreeSet::new())
    }

    /// The same without some properties.
    fn facts_but(&self, without: &BTreeSet<(ObjectType, String)>) -> String {
        let left_out = |known: &ContextRecord, name: &str| {
            without.iter().any(|(kind, property)| *kind == known.record.object_type && property == name)
        };
        let mut facts = String::new();
        for (index, known) in self.records.iter().enumerate() {
            let role = if index == 0 { "record" } else { "associated to it" };
            facts.push_str(&format!("{role}: {}\n", known.record));
            for (name, value) in &known.properties {
                if let Some(value) = value.as_deref().filter(|value| !value.is_empty() && !left_out(known, name)) {
                    let text = plain_text(value);
                    let kept: String = text.chars().take(MAX_FACT).collect();
                    facts.push_str(&format!("{name}: {kept}{}\n", if kept.len() < text.len() { " […]" } else { "" }));
                }
            }
        }
        facts
    }

    /// Facts and entries as one block of text of at most `max_tokens` by `count`: facts, then entries newest first.
    /// What does not fit is left out, and a line says so.
    pub fn render(&self, max_tokens: usize, count: impl Fn(&str) -> usize) -> String {
        let mut block = self.facts();
        let mut left = max_tokens.saturating_sub(count(&block));
        for (index, entry) in self.entries.iter().enumerate() {
            let text = entry.render();
            let tokens = count(&text);
            if tokens <= left {
                block.push_str(&text);
                left -= tokens;
                continue;
            }
            block.push_str(text::head(&text, left, &count));
            let older = self.entries.len() - index - 1;
            block.push_str(&format!("\n[left out: the rest of this {} and {older} older entries]\n", entry.kind));
            break;
        }
        block
    }

    /// Every entry, none left out, in pieces of at most `max_tokens` by `count`, newest first.
    pub fn chunks(&self, max_tokens: usize, count: impl Fn(&str) -> usize) -> Vec<String> {
        let mut chunks = Vec::new();
        let (mut chunk, mut used) = (String::new(), 0);
        for entry in &self.entries {
            let text = entry.render();
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let tokens = count(rest);
                if used + tokens <= max_tokens {
                    chunk.push_str(rest);
                    used += tokens;
                    break;
                }
                // What fits into a chunk of its own is not torn; what does not is cut where this chunk ends.
                let head = if tokens <= max_tokens { "" } else { text::head(rest, max_tokens - used, &count) };
                chunk.push_str(head);
                if head.is_empty() && chunk.is_empty() {
                    // Not even one character fits: `max_tokens` is no sensible bound. Give up on tearing.
                    chunk.push_str(rest);
                    rest = "";
                } else {
                    rest = &rest[head.len()..];
                }
                chunks.push(std::mem::take(&mut chunk));
                used = 0;
            }
        }
        if !chunk.is_empty() {
            chunks.push(chunk);
        }
        chunks
    }

    /// What tells this context from another: the SHA-256 of what a playbook of this `version` would read in it, without
    /// the properties in `written`: what the fleet itself writes is no news.
    pub fn hash(&self, version: &str, written: &BTreeSet<(ObjectType, String)>) -> String {
        let texts = self.entries.iter().map(|entry| entry.text.as_str());
        sha256_hex_of_list([version, &self.facts_but(written)].into_iter().chain(texts))
    }

    /// Everything that a quotation may come from.
    pub fn everything(&self) -> String {
        let entries = self.entries.iter().map(|entry| entry.text.as_str());
        std::iter::once(self.facts().as_str()).chain(entries).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{PortalId, write_command::marker};

    fn context(texts: &[&str]) -> Context {
        let entries = texts
            .iter()
            .zip(1..)
            .map(|(text, id)| Entry {
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
    fn the_newest_entries_come_first_and_what_does_not_fit_is_named() {
        let mut context = context(&["the oldest note", "a note in the middle", "the newest note"]);
        context.tidy();
        let whole = context.render(1_000, words);
        assert!(whole.find("newest") < whole.find("middle") && whole.find("middle") < whole.find("oldest"));
        assert!(!whole.contains("left out"));

        let cut = context.render(14, words);
        assert!(cut.contains("the newest note") && !cut.contains("oldest"));
        assert!(cut.contains("[left out: the rest of this note and 1 older entries]"), "{cut}");
    }

    #[test]
    fn chunks_hold_every_word_within_their_bound() {
        let long = (0..200).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
        let mut context = context(&["a short one", &long, "the newest"]);
        context.tidy();
        let chunks = context.chunks(50, words);
        assert!(chunks.len() >= 5, "{}", chunks.len());
        assert!(chunks.iter().all(|chunk| words(chunk) <= 50));
        let all = chunks.concat();
        assert!((0..200).all(|n| all.contains(&format!("w{n}"))) && all.contains("a short one"));
    }

    #[test]
    fn what_the_fleet_writes_itself_is_no_news() {
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
    fn empty_and_repeated_entries_and_our_own_are_forgotten() {
        let ours = format!("Call her.\n{}", marker(domain::ActionId::new()));
        let mut context = context(&["same words", " \n", "Same  words", &ours]);
        context.tidy();
        assert_eq!(context.entries.len(), 1);
        assert_eq!(context.entries[0].id, ObjectId(3), "the newest of two equal ones stays");
    }
}
