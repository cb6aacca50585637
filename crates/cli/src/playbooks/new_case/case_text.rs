//! A case as a TOML file that people read and edit.

use std::collections::BTreeMap;

use anyhow::Context as _;
use playbook::{Playbook, RecordPath, ShownContext, ShownEntry};
use time::{Date, format_description::well_known::Rfc3339};

use crate::print::is_visible;

/// What a case file says.
pub struct CaseText {
    /// A short description.
    pub what: String,
    /// The records with their paths.
    pub records: Vec<(RecordPath, BTreeMap<String, String>)>,
    /// The texts, oldest first.
    pub entries: Vec<ShownEntry>,
    /// The bounds of fields, as TOML.
    pub expect: Vec<(String, String)>,
    /// The names of the expected actions; `None`: any.
    pub actions: Option<Vec<String>>,
}

impl CaseText {
    /// A case of what was shown, without expectations; and what is not certain about it.
    ///
    /// # Errors
    /// The playbook does not read these records.
    pub fn of(shown: &ShownContext, playbook: &Playbook, day: Date) -> anyhow::Result<(Self, Vec<String>)> {
        let (paths, notes) = paths_of(shown, playbook)?;
        let properties = shown.records.iter().map(|record| record.properties.clone());
        // Of entries of the same second, a case takes the later one for the newer one.
        let entries = shown.entries.iter().rev().cloned().collect();
        let what = format!("an event of {day}");
        let records = paths.into_iter().zip(properties).collect();
        Ok((Self { what, records, entries, expect: Vec::new(), actions: None }, notes))
    }
}

/// The path of each record. A prompt says its type alone; records come in the order in which the playbook reads them.
fn paths_of(shown: &ShownContext, playbook: &Playbook) -> anyhow::Result<(Vec<RecordPath>, Vec<String>)> {
    let first = shown.records.first().context("the prompt shows no record")?;
    let reads = playbook.context.reads_for(&first.object_type);
    let (mut paths, mut notes) = (Vec::<RecordPath>::new(), Vec::new());
    let mut at = 0;
    for record in &shown.records {
        let is_read = |path: &RecordPath| *path.end() == record.object_type;
        let found = (at..reads.len()).find(|index| is_read(&reads[*index].path));
        at = found.with_context(|| format!("the playbook reads no {} here", record.object_type))?;
        let path = reads[at].path.clone();
        let others: Vec<_> = reads.iter().filter(|read| is_read(&read.path) && read.path != path).collect();
        if !others.is_empty() && !paths.contains(&path) {
            notes
                .push(format!("a {} may have been read at another path than `{path}`; correct it", record.object_type));
        }
        paths.push(path);
    }
    Ok((paths, notes))
}

/// The file.
pub fn case_text(case: &CaseText) -> String {
    let mut text =
        "# Made by `leadline playbook case` of a real event. Read every line before you commit it.\n".to_owned();
    text.push_str(&format!("what = {}\n", toml_line(&case.what)));
    if let Some(actions) = &case.actions {
        let names: Vec<_> = actions.iter().map(|name| toml_line(name)).collect();
        text.push_str(&format!("actions = [{}]\n", names.join(", ")));
    }
    for (path, properties) in &case.records {
        text.push_str(&format!("\n[[records]]\npath = {}\n", toml_line(&path.to_string())));
        if !properties.is_empty() {
            text.push_str("[records.properties]\n");
        }
        for (name, value) in properties {
            text.push_str(&format!("{} = {}\n", key(name), toml_line(value)));
        }
    }
    for ShownEntry { kind, at, text: written, .. } in &case.entries {
        let at = at.format(&Rfc3339).unwrap_or_default();
        let (kind, written) = (toml_line(kind.name()), toml_lines(written));
        text.push_str(&format!("\n[[entries]]\nkind = {kind}\nat = {at}\ntext = {written}\n"));
    }
    text.push_str("\n[expect]\n");
    case.expect.iter().for_each(|(field, bounds)| text.push_str(&format!("{field} = {bounds}\n")));
    text
}

/// A key, in quotation marks where it needs them.
fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !name.is_empty() && name.bytes().all(is_bare) { name.to_owned() } else { toml_line(name) }
}

/// A text as a TOML string of one line.
pub fn toml_line(text: &str) -> String {
    format!("\"{}\"", escaped(text).replace('\n', "\\n"))
}

/// A text as a TOML string of as many lines as it has.
fn toml_lines(text: &str) -> String {
    if text.contains('\n') { format!("\"\"\"\n{}\"\"\"", escaped(text)) } else { toml_line(text) }
}

/// Everything but line breaks that a TOML string or a terminal has a meaning of its own for.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => escaped.extend(['\\', character]),
            '\n' => escaped.push(character),
            _ if is_visible(character) => escaped.push(character),
            _ => escaped.push_str(&format!("\\U{:08X}", u32::from(character))),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::{toml_line, toml_lines};

    #[test]
    fn every_text_is_itself_when_it_is_read() {
        for text in [
            "",
            "größer \"as\" \\n is\tthat\r 🚀",
            "two\nlines \"\"\" and \"\"\"\" a quote at the end\"",
            "\nbegins and ends\n",
            "back\\\n slash \\",
            "\u{0}\u{1b}\u{7f}\u{202e}\u{e0041}\u{feff}\u{85}",
        ] {
            for toml in [toml_line(text), toml_lines(text)] {
                let table: toml::Table = toml::from_str(&format!("t = {toml}\n")).expect("TOML");
                assert_eq!(table["t"].as_str(), Some(text), "{toml}");
            }
            assert_eq!(toml_line(text).lines().count(), 1);
        }
    }
}
