//! A case: what a playbook would read, and what a good answer to it is.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use domain::{ObjectId, ObjectType, PortalId, RecordRef};
use playbook::{
    Context, Playbook, RecordPath,
    context::{ContextEntry, ContextRecord},
    plain_text,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// One case.
pub struct Case {
    /// What it is, in a few words.
    pub what: String,
    /// What the model reads.
    pub context: Context,
    /// What its fields have to be.
    expect: BTreeMap<String, Expected>,
    /// The actions that have to follow, by name; not looked at if absent.
    actions: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    what: String,
    records: Vec<Record>,
    #[serde(default)]
    entries: Vec<Written>,
    #[serde(default)]
    expect: BTreeMap<String, Expected>,
    actions: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    path: String,
    #[serde(default)]
    properties: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: String,
    at: toml::value::Datetime,
    text: String,
}

/// What a field has to be; every bound that is given has to hold.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Expected {
    equals: Option<Value>,
    at_least: Option<f64>,
    at_most: Option<f64>,
    contains: Option<String>,
    one_of: Option<Vec<String>>,
    is_null: Option<bool>,
    items_at_least: Option<usize>,
    items_at_most: Option<usize>,
}

/// How one expectation turned out.
pub struct Hit {
    /// The field, or `actions`.
    pub field: String,
    /// What was expected.
    pub expected: String,
    /// What the model said.
    pub got: String,
    /// Whether it fits.
    pub fits: bool,
}

/// The portal that cases live in.
const NOWHERE: PortalId = PortalId(0);

/// Every case of a folder, by file name.
pub fn load(folder: &Path, playbook: &Playbook) -> anyhow::Result<Vec<Case>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    if files.is_empty() {
        bail!("{} holds no case (*.toml)", folder.display());
    }
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path)?;
        let file: File = toml::from_str(&text)?;
        Case::new(file, playbook)
    };
    files.iter().map(|path| read(path).with_context(|| path.display().to_string())).collect()
}

impl Case {
    fn new(file: File, playbook: &Playbook) -> anyhow::Result<Self> {
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
            let record = RecordRef { portal_id: NOWHERE, object_type, object_id: ObjectId(id) };
            records.push(ContextRecord { path, record, properties, merged: false, archived: false });
        }
        match records.first() {
            Some(first) if first.path.parent().is_none() => {}
            _ => bail!("records: the first one has to be the record itself"),
        }
        let mut entries = Vec::new();
        for (written, id) in file.entries.into_iter().zip(1..) {
            let at = OffsetDateTime::parse(&written.at.to_string(), &Rfc3339)
                .with_context(|| format!("entries: `{}` is no time like 2026-01-31T10:00:00Z", written.at))?;
            let kind = ObjectType::from(written.kind);
            entries.push(ContextEntry { kind, id: ObjectId(id), at, text: plain_text(&written.text) });
        }
        let mut context = Context { records, entries };
        context.clean_entries();
        Ok(Self { what: file.what, context, expect: file.expect, actions: file.actions })
    }

    /// Holds an answer and the actions that follow from it against what was expected.
    pub fn judge(&self, answer: &Map<String, Value>, actions: &[String]) -> Vec<Hit> {
        let fields = self.expect.iter().map(|(field, expected)| {
            let value = answer.get(field).unwrap_or(&Value::Null);
            Hit { field: field.clone(), expected: expected.to_string(), got: short(value), fits: expected.fits(value) }
        });
        let acted = self.actions.iter().map(|wanted| {
            let (mut wanted, mut done) = (wanted.clone(), actions.to_vec());
            wanted.sort();
            done.sort();
            done.dedup();
            let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Hit { field: "actions".to_owned(), expected: list(&wanted), got: list(&done), fits: wanted == done }
        });
        fields.chain(acted).collect()
    }
}

fn short(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    if text.chars().count() > 60 { text.chars().take(57).chain("...".chars()).collect() } else { text }
}

impl Expected {
    fn fits(&self, value: &Value) -> bool {
        let number = value.as_f64();
        let items = value.as_array().map(Vec::len);
        let text = value.as_str().unwrap_or_default();
        self.equals.as_ref().is_none_or(|wanted| same(wanted, value))
            && self.at_least.is_none_or(|bound| number.is_some_and(|number| number >= bound))
            && self.at_most.is_none_or(|bound| number.is_some_and(|number| number <= bound))
            && self.contains.as_ref().is_none_or(|part| value.to_string().to_lowercase().contains(&part.to_lowercase()))
            && self.one_of.as_ref().is_none_or(|options| options.iter().any(|option| option == text))
            && self.is_null.is_none_or(|wanted| wanted == value.is_null())
            && self.items_at_least.is_none_or(|bound| items.is_some_and(|items| items >= bound))
            && self.items_at_most.is_none_or(|bound| items.is_some_and(|items| items <= bound))
    }
}

/// 5 and 5.0 are the same to whoever writes a case.
fn same(wanted: &Value, value: &Value) -> bool {
    match (wanted.as_f64(), value.as_f64()) {
        (Some(wanted), Some(value)) => (wanted - value).abs() < f64::EPSILON,
        _ => wanted == value,
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        let mut add = |sign: &str, bound: Option<String>| parts.extend(bound.map(|bound| format!("{sign} {bound}")));
        add("=", self.equals.as_ref().map(ToString::to_string));
        add("≥", self.at_least.map(|bound| bound.to_string()));
        add("≤", self.at_most.map(|bound| bound.to_string()));
        add("holds", self.contains.clone());
        add("one of", self.one_of.as_ref().map(|options| options.join(", ")));
        add("null:", self.is_null.map(|wanted| wanted.to_string()));
        add("items ≥", self.items_at_least.map(|bound| bound.to_string()));
        add("items ≤", self.items_at_most.map(|bound| bound.to_string()));
        f.write_str(&parts.join(", "))
    }
}
