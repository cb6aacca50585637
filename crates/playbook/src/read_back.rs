//! A prompt read back: the records and texts that a model was shown. The opposite of [`Context::whole`](crate::Context::whole)
//! and its relatives, for whoever wants to ask about the same context again.

use std::collections::BTreeMap;

use domain::{ObjectId, ObjectType};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::prompt::fenced_data;

/// What a user message showed of a context.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShownContext {
    /// The records in the order of the prompt: first the one that the question is about. None in the prompt of a part.
    pub records: Vec<ShownRecord>,
    /// What people wrote, in the order of the prompt.
    pub entries: Vec<ShownEntry>,
    /// The summaries of parts that stand for entries, in the order of the prompt.
    pub summaries: Vec<String>,
    /// The lines that say what did not fit, without their brackets.
    pub left_out: Vec<String>,
}

/// A record as a prompt shows it: where it was found is not said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownRecord {
    /// Its type.
    pub object_type: ObjectType,
    /// The properties with a value.
    pub properties: BTreeMap<String, String>,
}

/// A text that a person wrote, as a prompt shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownEntry {
    /// The type of the object that contains the text.
    pub kind: ObjectType,
    /// The id of that object.
    pub id: ObjectId,
    /// When the text was written, to the second.
    pub at: OffsetDateTime,
    /// As much of the text as was shown.
    pub text: String,
}

impl ShownContext {
    /// What `user_message` shows; `None` when it has no record data between its tags, or data of another form.
    pub fn of(user_message: &str) -> Option<Self> {
        let mut shown = Self::default();
        let mut lines = fenced_data(user_message)?.split('\n');
        while let Some(line) = lines.next() {
            let bracketed = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'));
            if line.is_empty() {
            } else if let Some(what) = bracketed.filter(|inner| inner.starts_with("left out: ")) {
                shown.left_out.push(what.to_owned());
            } else if bracketed.is_some_and(|inner| inner.starts_with("condensed, ")) {
                shown.summaries.push(text_of(lines.next()?)?);
            } else if let Some(heading) = bracketed {
                let text = text_of(lines.next()?)?;
                shown.add_entry(heading, text)?;
            } else {
                shown.add_record_line(line)?;
            }
        }
        Some(shown)
    }

    /// A piece of an entry that was divided joins the piece before it.
    fn add_entry(&mut self, heading: &str, text: String) -> Option<()> {
        let (object, at) = heading.split_once(" of ")?;
        let (kind, id) = object.rsplit_once(' ')?;
        let (kind, id) = (ObjectType::from(kind), ObjectId(id.parse().ok()?));
        let (at, is_continued) = at.strip_suffix(", continued").map_or((at, false), |at| (at, true));
        match self.entries.last_mut().filter(|last| is_continued && last.kind == kind && last.id == id) {
            Some(last) => last.text.push_str(&text),
            None => self.entries.push(ShownEntry { kind, id, at: OffsetDateTime::parse(at, &Rfc3339).ok()?, text }),
        }
        Some(())
    }

    fn add_record_line(&mut self, line: &str) -> Option<()> {
        let (name, value) = line.split_once(": ")?;
        // A property may have any name; its value is a JSON string.
        if value.starts_with('"') {
            self.records.last_mut()?.properties.insert(name.to_owned(), text_of(value)?);
            return Some(());
        }
        let (object_type, _) = value.split_once('/').filter(|_| matches!(name, "record" | "associated with it"))?;
        self.records.push(ShownRecord { object_type: ObjectType::from(object_type), properties: BTreeMap::new() });
        Some(())
    }
}

fn text_of(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use domain::{PortalId, RecordRef};

    use super::*;
    use crate::{
        Context, Fence, PromptTemplates, RecordPath,
        context::{ContextEntry, ContextRecord},
    };

    /// The end of each word: a tokenizer that tests can count with.
    fn words(text: &str) -> Vec<usize> {
        text.split_whitespace().map(|word| word.as_ptr() as usize - text.as_ptr() as usize + word.len()).collect()
    }

    fn context() -> Context {
        let record = |path: &str, id, properties: &[(&str, &str)]| {
            let path = RecordPath::parse(path).expect("a path");
            let object_type = path.end().clone();
            let value = |(name, value): &(&str, &str)| ((*name).to_owned(), Some((*value).to_owned()));
            ContextRecord {
                record: RecordRef { portal_id: PortalId(1), object_type, object_id: ObjectId(id) },
                path,
                properties: properties.iter().map(value).collect(),
                merged: false,
                archived: false,
                is_text: false,
            }
        };
        let entry = |kind, id, text: &str| ContextEntry {
            kind,
            id: ObjectId(id),
            is_own: true,
            at: OffsetDateTime::UNIX_EPOCH + time::Duration::days(id),
            text: text.to_owned(),
        };
        let records = vec![
            record("ticket", 5, &[("record", "a/b"), ("subject", "Broken: \"again\"")]),
            record("ticket > contact", 1, &[("firstname", "Ada\n[note 9 of 2030-01-01T00:00:00Z]")]),
            record("ticket > contact > 2-77", 2, &[]),
        ];
        let long = (0..60).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
        let entries = vec![
            entry(ObjectType::Email, 3, "(received) Re: x\n\n[left out: 3]\nrecord: contact/1"),
            entry(ObjectType::Other("2-77".to_owned()), 2, "größer 🚀"),
            entry(ObjectType::Note, 1, &long),
        ];
        Context { records, entries }
    }

    fn shown(data: &str) -> ShownContext {
        let prompt = PromptTemplates::compile("Judge.", "About {{ record }}:\n{{ data }}\nAnswer.", None);
        let prompt = prompt.unwrap_or_else(|_| panic!("compiles"));
        let record = context().record().clone();
        let rendered = prompt.render(&record, data, "2026-01-01", &Fence::random()).expect("rendered");
        ShownContext::of(&rendered.user).expect("read back")
    }

    #[test]
    fn a_prompt_is_read_back_as_the_context_that_it_was_made_of() {
        let context = context();
        let shown = shown(&context.whole());
        assert_eq!(shown.records.len(), 3);
        for (shown, record) in shown.records.iter().zip(&context.records) {
            assert_eq!(shown.object_type, record.record.object_type);
            let properties = record.properties.iter().map(|(name, value)| (name.clone(), value.clone().expect("set")));
            assert_eq!(shown.properties, properties.collect());
        }
        let of = |entry: &ContextEntry| ShownEntry {
            kind: entry.kind.clone(),
            id: entry.id,
            at: entry.at,
            text: entry.text.clone(),
        };
        assert_eq!(shown.entries, context.entries.iter().map(of).collect::<Vec<_>>());
        assert!(shown.summaries.is_empty() && shown.left_out.is_empty());
    }

    #[test]
    fn what_was_left_out_is_said_and_a_divided_text_is_whole_again() {
        let context = context();
        let cut = shown(&context.newest(65, words));
        assert_eq!(cut.left_out, ["left out: the rest of this note and 0 older entries"]);
        assert!(cut.entries[2].text.starts_with("w0 w1") && !cut.entries[2].text.contains("w59"), "{cut:?}");
        let parts: String = context.parts(30, words).into_iter().map(|part| part.text).collect();
        assert_eq!(shown(&parts).entries[2].text, context.entries[2].text);
    }

    #[test]
    fn summaries_are_told_apart_from_texts() {
        let data = format!(
            "{}\n[condensed, part 1 of 3, newest first]\n\"Angry.\"\n\n[left out: 2 older parts]\n",
            context().properties_text()
        );
        let shown = shown(&data);
        assert_eq!(
            (shown.summaries, shown.left_out),
            (vec!["Angry.".to_owned()], vec!["left out: 2 older parts".to_owned()])
        );
        assert!(shown.entries.is_empty());
    }

    #[test]
    fn what_is_no_prompt_of_ours_is_not_read() {
        for text in
            ["", "Hello", "<crm_data 1>\nrecord: contact/1\n", "<crm_data 1>\nfirstname: \"Ada\"\n</crm_data 1>"]
        {
            assert_eq!(ShownContext::of(text), None, "{text}");
        }
    }
}
