//! A case: what a playbook reads, and what a good answer is.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use domain::{ObjectId, ObjectType, PortalId, RecordRef, hash::sha256_hex};
use playbook::{
    Context, Playbook, RecordPath, TextFormat,
    context::{ContextEntry, ContextRecord},
    plain_text,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::expectation::Expectation;

/// A case of `leadline playbook eval`.
pub struct EvalCase {
    /// The file's name, which is the case's name.
    pub file: String,
    /// The SHA-256 of the file, in hex.
    pub sha256: String,
    /// A short description.
    pub what: String,
    /// What the model reads.
    pub context: Arc<Context>,
    /// The expected values of the answer's fields.
    expect: BTreeMap<String, Expectation>,
    /// The expected actions, by name; `None` to accept any.
    actions: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    what: String,
    records: Vec<RecordTable>,
    #[serde(default)]
    entries: Vec<EntryTable>,
    #[serde(default)]
    expect: BTreeMap<String, Expectation>,
    actions: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordTable {
    path: String,
    #[serde(default)]
    properties: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryTable {
    kind: String,
    at: toml::value::Datetime,
    text: String,
}

/// Whether one expectation is met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectationCheck {
    /// The field, or `actions`.
    pub field: String,
    /// What was expected.
    pub expected: String,
    /// What the answer has.
    pub actual: String,
    /// Whether the expectation is met.
    pub is_met: bool,
}

/// The portal of the records in cases; no portal has this id.
const CASE_PORTAL: PortalId = PortalId(0);

/// Reads the cases in a folder, in the order of their file names.
pub fn load(folder: &Path, playbook: &Playbook) -> anyhow::Result<Vec<EvalCase>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    if files.is_empty() {
        bail!("{} holds no case (*.toml)", folder.display());
    }
    let read = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        EvalCase::parse(&name, &std::fs::read_to_string(path)?, playbook)
    };
    files.iter().map(|path| read(path).with_context(|| path.display().to_string())).collect()
}

impl EvalCase {
    /// The case in `text`, the content of the file with this name.
    ///
    /// # Errors
    /// It is no case, or none of this playbook.
    pub fn parse(name: &str, text: &str, playbook: &Playbook) -> anyhow::Result<Self> {
        let file: CaseFile = toml::from_str(text)?;
        if let Some(name) = file.expect.keys().find(|name| playbook.answer.fields.get(name).is_none()) {
            bail!("expect.{name}: the playbook has no such field");
        }
        for name in file.actions.iter().flatten() {
            if !playbook.effects.actions.iter().any(|action| action.name == *name) {
                bail!("actions: the playbook has no action `{name}`");
            }
        }
        let mut context = Context { records: records_of(file.records, playbook)?, entries: entries_of(file.entries)? };
        context.clean_entries();
        Ok(Self {
            file: name.to_owned(),
            sha256: sha256_hex(&[text.as_bytes()]),
            what: file.what,
            context: Arc::new(context),
            expect: file.expect,
            actions: file.actions,
        })
    }

    /// Every expectation as one that is not met, because there is no answer that could meet it.
    pub fn all_missed(&self, why: &str) -> Vec<ExpectationCheck> {
        let mut checks = self.check(&Map::new(), &[]);
        if checks.is_empty() {
            checks.push(ExpectationCheck {
                field: "answer".to_owned(),
                expected: "a usable answer".to_owned(),
                actual: String::new(),
                is_met: false,
            });
        }
        checks.into_iter().map(|check| ExpectationCheck { actual: why.to_owned(), is_met: false, ..check }).collect()
    }

    /// Compares an answer, and the actions that follow from it, with the expectations.
    pub fn check(&self, answer: &Map<String, Value>, actions: &[String]) -> Vec<ExpectationCheck> {
        let fields = self.expect.iter().map(|(field, expected)| {
            let value = answer.get(field).unwrap_or(&Value::Null);
            ExpectationCheck {
                field: field.clone(),
                expected: expected.to_string(),
                actual: short(value),
                is_met: expected.is_met_by(value),
            }
        });
        let actions = self.actions.iter().map(|expected| {
            let (mut expected, mut actual) = (expected.clone(), actions.to_vec());
            expected.sort();
            actual.sort();
            actual.dedup();
            let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            ExpectationCheck {
                field: "actions".to_owned(),
                expected: list(&expected),
                actual: list(&actual),
                is_met: expected == actual,
            }
        });
        fields.chain(actions).collect()
    }
}

fn records_of(tables: Vec<RecordTable>, playbook: &Playbook) -> anyhow::Result<Vec<ContextRecord>> {
    let mut records = Vec::new();
    for (record, id) in tables.into_iter().zip(1..) {
        let path = RecordPath::parse(&record.path).map_err(anyhow::Error::msg)?;
        if !playbook.context.reads.iter().any(|read| read.path == path) {
            bail!("records: the playbook does not read `{path}`");
        }
        let properties = record.properties.into_iter().map(|(name, value)| (name, Some(value))).collect();
        let object_type = path.end().clone();
        let record = RecordRef { portal_id: CASE_PORTAL, object_type, object_id: ObjectId(id) };
        records.push(ContextRecord { path, record, properties, merged: false, archived: false, is_text: false });
    }
    match records.first() {
        Some(first) if first.path.parent().is_none() => Ok(records),
        _ => bail!("records: the first record has to be the one that the playbook is about"),
    }
}

fn entries_of(tables: Vec<EntryTable>) -> anyhow::Result<Vec<ContextEntry>> {
    let entry = |(entry, id): (EntryTable, i64)| {
        let at = OffsetDateTime::parse(&entry.at.to_string(), &Rfc3339)
            .with_context(|| format!("entries: `{}` is not a time; write it like 2026-01-31T10:00:00Z", entry.at))?;
        let text = plain_text(&entry.text, TextFormat::HtmlIfTagged);
        Ok(ContextEntry { kind: ObjectType::from(entry.kind), id: ObjectId(id), is_own: true, at, text })
    };
    tables.into_iter().zip(1..).map(entry).collect()
}

fn short(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    if text.chars().count() > 60 { text.chars().take(57).chain("...".chars()).collect() } else { text }
}
