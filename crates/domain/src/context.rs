//! A context: what was read from HubSpot for one inference, made fit for a prompt.

mod text;

use std::collections::BTreeMap;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    event::RecordRef,
    ids::{ObjectId, ObjectType},
};
pub use text::plain_text;

/// What was read from HubSpot for one inference.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// The record that is enriched. Its id may differ from the event's: reading a merged contact's old id answers
    /// with the record that survived.
    pub record: RecordRef,
    /// The record's own properties, by internal name; `None` where it has no value.
    pub properties: BTreeMap<String, Option<String>>,
    /// What people wrote about it, newest first.
    pub engagements: Vec<Engagement>,
}

/// A note, call, email, meeting or task tied to a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Engagement {
    /// Its kind.
    pub kind: ObjectType,
    /// Its id.
    pub id: ObjectId,
    /// When it took place.
    pub at: OffsetDateTime,
    /// Its body as plain text.
    pub text: String,
}

impl Context {
    /// Orders the engagements newest first and forgets those without text and repeated ones.
    pub fn tidy(&mut self) {
        self.engagements.retain(|engagement| !engagement.text.trim().is_empty());
        self.engagements.sort_by_key(|engagement| std::cmp::Reverse((engagement.at, engagement.id)));
        let mut seen = std::collections::HashSet::new();
        self.engagements.retain(|engagement| seen.insert(engagement.text.clone()));
    }

    /// The context as one block of text of at most `max_tokens` by `count`: properties, then engagements newest
    /// first. What does not fit is left out, and a line says so.
    pub fn render(&self, max_tokens: usize, count: impl Fn(&str) -> usize) -> String {
        let mut block = format!("record: {}\n", self.record);
        for (name, value) in &self.properties {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                block.push_str(&format!("{name}: {}\n", plain_text(value)));
            }
        }
        let mut left = max_tokens.saturating_sub(count(&block));
        for (index, engagement) in self.engagements.iter().enumerate() {
            let at = engagement.at.format(&Rfc3339).unwrap_or_default();
            let entry = format!("\n[{} {} of {at}]\n{}\n", engagement.kind, engagement.id, engagement.text);
            let tokens = count(&entry);
            if tokens <= left {
                block.push_str(&entry);
                left -= tokens;
                continue;
            }
            let kept = text::head(&entry, left, &count);
            block.push_str(kept);
            let older = self.engagements.len() - index - 1;
            block.push_str(&format!("\n[left out: the rest of this {} and {older} older entries]\n", engagement.kind));
            break;
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PortalId;

    fn context(texts: &[&str]) -> Context {
        let engagements = texts
            .iter()
            .zip(1..)
            .map(|(text, id)| Engagement {
                kind: ObjectType::Note,
                id: ObjectId(id),
                at: OffsetDateTime::UNIX_EPOCH + time::Duration::days(id),
                text: (*text).to_owned(),
            })
            .collect();
        let record = RecordRef { portal_id: PortalId(1), object_type: ObjectType::Contact, object_id: ObjectId(54321) };
        Context { record, properties: BTreeMap::from([("company".to_owned(), Some("Acme".to_owned()))]), engagements }
    }

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    #[test]
    fn the_newest_engagements_come_first_and_what_does_not_fit_is_named() {
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
    fn empty_and_repeated_engagements_are_forgotten() {
        let mut context = context(&["same words", " \n", "same words"]);
        context.tidy();
        assert_eq!(context.engagements.len(), 1);
        assert_eq!(context.engagements[0].id, ObjectId(3), "the newest of two equal ones stays");
    }
}
