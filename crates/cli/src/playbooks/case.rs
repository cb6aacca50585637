//! A case: what a playbook reads, and what a good answer is.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use domain::{ObjectId, ObjectType, PortalId, RecordRef};
use playbook::{
    Context, Playbook, RecordPath, TextFormat,
    context::{ContextEntry, ContextRecord},
    plain_text,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A case of `leadline playbook eval`.
pub struct EvalCase {
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

/// What a field has to be: every given bound has to hold.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Expectation {
    equals: Option<Value>,
    at_least: Option<f64>,
    at_most: Option<f64>,
    contains: Option<String>,
    one_of: Option<Vec<String>>,
    is_null: Option<bool>,
    items_at_least: Option<usize>,
    items_at_most: Option<usize>,
}

/// Whether one expectation is met.
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
        let text = std::fs::read_to_string(path)?;
        let file: CaseFile = toml::from_str(&text)?;
        EvalCase::new(file, playbook)
    };
    files.iter().map(|path| read(path).with_context(|| path.display().to_string())).collect()
}

impl EvalCase {
    fn new(file: CaseFile, playbook: &Playbook) -> anyhow::Result<Self> {
        if let Some(name) = file.expect.keys().find(|name| playbook.answer.fields.get(name).is_none()) {
            bail!("expect.{name}: the playbook has no such field");
        }
        for name in file.actions.iter().flatten() {
            if !playbook.effects.actions.iter().any(|action| action.name == *name) {
                bail!("actions: the playbook has no action `{name}`");
            }
        }
        let mut records = Vec::new();
        for (record, id) in file.records.into_iter().zip(1..) {
            let path = RecordPath::parse(&record.path).map_err(anyhow::Error::msg)?;
            if !playbook.context.reads.iter().any(|read| read.path == path) {
                bail!("records: the playbook does not read `{path}`");
            }
            let properties = record.properties.into_iter().map(|(name, value)| (name, Some(value))).collect();
            let object_type = path.end().clone();
            let record = RecordRef { portal_id: CASE_PORTAL, object_type, object_id: ObjectId(id) };
            records.push(ContextRecord { path, record, properties, merged: false, archived: false });
        }
        match records.first() {
            Some(first) if first.path.parent().is_none() => {}
            _ => bail!("records: the first record has to be the one that the playbook is about"),
        }
        let mut entries = Vec::new();
        for (entry, id) in file.entries.into_iter().zip(1..) {
            let at = OffsetDateTime::parse(&entry.at.to_string(), &Rfc3339).with_context(|| {
                format!("entries: `{}` is not a time; write it like 2026-01-31T10:00:00Z", entry.at)
            })?;
            let kind = ObjectType::from(entry.kind);
            entries.push(ContextEntry {
                kind,
                id: ObjectId(id),
                is_own: true,
                at,
                text: plain_text(&entry.text, TextFormat::HtmlIfTagged),
            });
        }
        let mut context = Context { records, entries };
        context.clean_entries();
        Ok(Self { what: file.what, context: Arc::new(context), expect: file.expect, actions: file.actions })
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

fn short(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    if text.chars().count() > 60 { text.chars().take(57).chain("...".chars()).collect() } else { text }
}

impl Expectation {
    fn is_met_by(&self, value: &Value) -> bool {
        let number = value.as_f64();
        let items = value.as_array().map(Vec::len);
        let text = value.as_str().unwrap_or_default();
        self.equals.as_ref().is_none_or(|expected| same(expected, value))
            && self.at_least.is_none_or(|bound| number.is_some_and(|number| number >= bound))
            && self.at_most.is_none_or(|bound| number.is_some_and(|number| number <= bound))
            && self.contains.as_ref().is_none_or(|part| value.to_string().to_lowercase().contains(&part.to_lowercase()))
            && self.one_of.as_ref().is_none_or(|options| options.iter().any(|option| option == text))
            && self.is_null.is_none_or(|expected| expected == value.is_null())
            && self.items_at_least.is_none_or(|bound| items.is_some_and(|items| items >= bound))
            && self.items_at_most.is_none_or(|bound| items.is_some_and(|items| items <= bound))
    }
}

/// Whether two values are equal; 5 equals 5.0.
fn same(expected: &Value, value: &Value) -> bool {
    match (expected.as_f64(), value.as_f64()) {
        (Some(expected), Some(value)) => (expected - value).abs() < f64::EPSILON,
        _ => expected == value,
    }
}

impl std::fmt::Display for Expectation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        let mut add = |sign: &str, bound: Option<String>| parts.extend(bound.map(|bound| format!("{sign} {bound}")));
        add("=", self.equals.as_ref().map(ToString::to_string));
        add("≥", self.at_least.map(|bound| bound.to_string()));
        add("≤", self.at_most.map(|bound| bound.to_string()));
        add("contains", self.contains.clone());
        add("one of", self.one_of.as_ref().map(|options| options.join(", ")));
        add("null:", self.is_null.map(|expected| expected.to_string()));
        add("items ≥", self.items_at_least.map(|bound| bound.to_string()));
        add("items ≤", self.items_at_most.map(|bound| bound.to_string()));
        f.write_str(&parts.join(", "))
    }
}
