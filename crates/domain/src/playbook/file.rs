//! The form of a playbook file, and everything that can be wrong with one.

use std::{collections::HashSet, fmt, ops::Range};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use toml::Spanned;

use super::{
    AnswerMode, ContextPlan, Field, FieldKind, Fields, ModelPlan, Playbook, Prompt, Stamp, StampValue, Trigger,
};
use crate::ids::ObjectType;

/// One thing that is wrong with a playbook file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, as the caller named it.
    pub file: String,
    /// 1-based.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Everything that is wrong with a playbook file.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Findings(pub Vec<Finding>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Spanned<String>,
    #[serde(default)]
    description: String,
    triggers: Vec<TriggerTable>,
    context: ContextTable,
    #[serde(default)]
    model: ModelTable,
    prompt: PromptTable,
    fields: Vec<FieldTable>,
    #[serde(default)]
    stamps: Vec<StampTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TriggerTable {
    event: Spanned<String>,
    #[serde(default)]
    properties: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextTable {
    properties: Vec<Spanned<String>>,
    engagements: Vec<Spanned<String>>,
    newest: Spanned<usize>,
    max_tokens: Spanned<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ModelTable {
    name: Option<String>,
    mode: AnswerMode,
    temperature: Option<Spanned<f64>>,
    max_output_tokens: u32,
}

impl Default for ModelTable {
    fn default() -> Self {
        Self { name: None, mode: AnswerMode::Schema, temperature: None, max_output_tokens: 1_000 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptTable {
    system: Spanned<String>,
    user: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldTable {
    name: Spanned<String>,
    description: String,
    property: Spanned<String>,
    #[serde(default)]
    optional: bool,
    #[serde(rename = "type")]
    kind: Spanned<String>,
    minimum: Option<toml::Value>,
    maximum: Option<toml::Value>,
    max_length: Option<usize>,
    options: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StampTable {
    property: Spanned<String>,
    value: StampValue,
}

/// Gathers findings with the lines they are on.
struct Checker<'a> {
    file: &'a str,
    text: &'a str,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn line_of(&self, offset: usize) -> usize {
        self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
    }

    fn add(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.add_line(self.line_of(span.start), message);
    }

    fn add_line(&mut self, line: usize, message: impl Into<String>) {
        self.findings.push(Finding { file: self.file.to_owned(), line, message: message.into() });
    }

    /// HubSpot's rule for internal names: lower case, digits, underscore, first a letter.
    fn property_name(&mut self, name: &Spanned<String>) {
        let text = name.get_ref();
        let starts = text.starts_with(|first: char| first.is_ascii_lowercase());
        let rest = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !(starts && rest) {
            self.add(
                name.span(),
                format!("`{text}` is no HubSpot property name: lower case, digits, underscore, first a letter"),
            );
        }
    }
}

impl Playbook {
    /// Reads a playbook from the `text` of `file` (named only to say where something is wrong).
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line. TOML that cannot be read at all gives one finding.
    pub fn parse(file: &str, text: &str) -> Result<Self, Findings> {
        let mut checker = Checker { file, text, findings: Vec::new() };
        let parsed: File = match toml::from_str(text) {
            Ok(parsed) => parsed,
            Err(error) => {
                checker.add(error.span().unwrap_or(0..0), error.message().to_owned());
                return Err(Findings(checker.findings));
            }
        };
        check_name(&mut checker, &parsed.name);
        let triggers = triggers(&mut checker, &parsed.triggers);
        let reads = reads(&mut checker, &parsed.context);
        let model = model(&mut checker, &parsed.model);
        let prompt = prompt(&mut checker, &parsed.prompt);
        let stamps = stamps(&mut checker, &parsed.stamps);
        let fields = fields(&mut checker, &parsed.fields);
        check_written_once(&mut checker, &parsed);
        check_no_loop(&mut checker, &parsed);
        match (prompt, fields) {
            (Some(prompt), Some(fields)) if checker.findings.is_empty() => Ok(Self {
                name: parsed.name.into_inner(),
                version: version(text),
                description: parsed.description,
                triggers,
                reads,
                model,
                prompt,
                fields,
                stamps,
            }),
            _ => Err(Findings(checker.findings)),
        }
    }
}

fn version(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn check_name(checker: &mut Checker, name: &Spanned<String>) {
    let text = name.get_ref();
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    // OpenAI allows 64 characters in a schema's name, which is the playbook's.
    if text.is_empty() || text.len() > 64 || !text.chars().all(valid) {
        checker.add(name.span(), format!("name `{text}`: use 1–64 of a–z, 0–9 and `-`"));
    }
}

fn triggers(checker: &mut Checker, tables: &[TriggerTable]) -> Vec<Trigger> {
    if tables.is_empty() {
        checker.add_line(1, "no triggers: nothing would ever start this playbook");
    }
    let mut triggers = Vec::new();
    for table in tables {
        table.properties.iter().for_each(|name| checker.property_name(name));
        let names = table.properties.iter().map(|name| name.get_ref().clone()).collect();
        match Trigger::parse(table.event.get_ref(), names) {
            Ok(trigger) => triggers.push(trigger),
            Err(message) => checker.add(table.event.span(), message),
        }
    }
    triggers
}

fn reads(checker: &mut Checker, table: &ContextTable) -> ContextPlan {
    table.properties.iter().for_each(|name| checker.property_name(name));
    let mut engagements = Vec::new();
    for kind in &table.engagements {
        match ObjectType::from(kind.get_ref().as_str()) {
            ObjectType::Note => engagements.push(ObjectType::Note),
            _ => checker.add(kind.span(), format!("`{}` cannot be read as context; use `notes`", kind.get_ref())),
        }
    }
    // One batch read fetches the bodies; HubSpot takes 100 inputs in it.
    if !(1..=100).contains(table.newest.get_ref()) {
        checker.add(table.newest.span(), format!("newest = {} is not within 1–100", table.newest.get_ref()));
    }
    if !(100..=1_000_000).contains(table.max_tokens.get_ref()) {
        checker.add(table.max_tokens.span(), "max_tokens is not within 100–1,000,000");
    }
    ContextPlan {
        properties: table.properties.iter().map(|name| name.get_ref().clone()).collect(),
        engagements,
        newest: *table.newest.get_ref(),
        max_tokens: *table.max_tokens.get_ref(),
    }
}

fn model(checker: &mut Checker, table: &ModelTable) -> ModelPlan {
    if let Some(temperature) = &table.temperature
        && !(0.0..=2.0).contains(temperature.get_ref())
    {
        checker.add(temperature.span(), format!("temperature {} is not within 0–2", temperature.get_ref()));
    }
    ModelPlan {
        name: table.name.clone(),
        mode: table.mode,
        temperature: table.temperature.as_ref().map(|temperature| *temperature.get_ref()),
        max_output_tokens: table.max_output_tokens,
    }
}

fn prompt(checker: &mut Checker, table: &PromptTable) -> Option<Prompt> {
    match Prompt::compile(table.system.get_ref(), table.user.get_ref()) {
        Ok(prompt) => Some(prompt),
        Err(errors) => {
            for error in errors {
                let template = if error.template == "system" { &table.system } else { &table.user };
                // A multi-line string begins on the line after its opening quotes.
                let multi_line = checker.text[template.span()].starts_with("\"\"\"\n");
                let first = checker.line_of(template.span().start) + usize::from(multi_line);
                checker.add_line(first + error.line - 1, format!("prompt.{}: {}", error.template, error.message));
            }
            None
        }
    }
}

fn stamps(checker: &mut Checker, tables: &[StampTable]) -> Vec<Stamp> {
    tables.iter().for_each(|table| checker.property_name(&table.property));
    tables.iter().map(|table| Stamp { property: table.property.get_ref().clone(), value: table.value }).collect()
}

fn fields(checker: &mut Checker, tables: &[FieldTable]) -> Option<Fields> {
    if tables.is_empty() {
        checker.add_line(1, "no fields: the model would have nothing to answer");
    }
    let mut names = HashSet::new();
    let mut fields = Vec::new();
    for table in tables {
        checker.property_name(&table.name);
        checker.property_name(&table.property);
        if !names.insert(table.name.get_ref()) {
            checker.add(table.name.span(), format!("field `{}` is there twice", table.name.get_ref()));
        }
        match field_kind(table) {
            Ok(kind) => {
                if let Some(flaw) = kind.flaw() {
                    checker.add(table.name.span(), format!("field `{}`: {flaw}", table.name.get_ref()));
                }
                fields.push(Field {
                    name: table.name.get_ref().clone(),
                    description: table.description.clone(),
                    kind,
                    optional: table.optional,
                    property: table.property.get_ref().clone(),
                });
            }
            Err(message) => checker.add(table.kind.span(), format!("field `{}`: {message}", table.name.get_ref())),
        }
    }
    if !checker.findings.is_empty() {
        return None;
    }
    Fields::new(fields).map_err(|message| checker.add_line(1, format!("fields: {message}"))).ok()
}

fn field_kind(table: &FieldTable) -> Result<FieldKind, String> {
    let bounds = (table.minimum.as_ref(), table.maximum.as_ref());
    let (kind, uses): (_, &[&str]) = match table.kind.get_ref().as_str() {
        "integer" => {
            let whole = |bound: Option<&toml::Value>| bound.and_then(toml::Value::as_integer);
            let (Some(minimum), Some(maximum)) = (whole(bounds.0), whole(bounds.1)) else {
                return Err("an integer needs whole numbers `minimum` and `maximum`".to_owned());
            };
            (FieldKind::Integer { minimum, maximum }, &["minimum", "maximum"])
        }
        "number" => {
            #[expect(clippy::cast_precision_loss, reason = "bounds people write are far below 2^53")]
            let number = |bound: Option<&toml::Value>| {
                bound.and_then(|value| value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64)))
            };
            let (Some(minimum), Some(maximum)) = (number(bounds.0), number(bounds.1)) else {
                return Err("a number needs `minimum` and `maximum`".to_owned());
            };
            (FieldKind::Number { minimum, maximum }, &["minimum", "maximum"])
        }
        "text" => match table.max_length {
            Some(max_length) => (FieldKind::Text { max_length }, &["max_length"]),
            None => return Err("a text needs `max_length`, in characters".to_owned()),
        },
        "boolean" => (FieldKind::Boolean, &[]),
        "choice" => match &table.options {
            Some(options) => (FieldKind::Choice { options: options.clone() }, &["options"]),
            None => return Err("a choice needs `options`".to_owned()),
        },
        other => return Err(format!("type `{other}` is none of integer, number, text, boolean, choice")),
    };
    let given = [
        ("minimum", table.minimum.is_some()),
        ("maximum", table.maximum.is_some()),
        ("max_length", table.max_length.is_some()),
        ("options", table.options.is_some()),
    ];
    match given.iter().find(|(name, is_given)| *is_given && !uses.contains(name)) {
        Some((name, _)) => Err(format!("`{name}` means nothing for type `{}`", table.kind.get_ref())),
        None => Ok(kind),
    }
}

/// Two sources for one property would be a coin toss.
fn check_written_once(checker: &mut Checker, parsed: &File) {
    let mut written = HashSet::new();
    let fields = parsed.fields.iter().map(|field| &field.property);
    for property in fields.chain(parsed.stamps.iter().map(|stamp| &stamp.property)) {
        if !written.insert(property.get_ref()) {
            checker.add(property.span(), format!("property `{}` is written twice", property.get_ref()));
        }
    }
}

/// A playbook that writes what starts it would feed itself.
fn check_no_loop(checker: &mut Checker, parsed: &File) {
    for trigger in parsed.triggers.iter().flat_map(|trigger| &trigger.properties) {
        let name = trigger.get_ref();
        if parsed.fields.iter().any(|field| field.property.get_ref() == name)
            || parsed.stamps.iter().any(|stamp| stamp.property.get_ref() == name)
        {
            checker.add(trigger.span(), format!("`{name}` starts this playbook and is written by it: a loop"));
        }
    }
}
