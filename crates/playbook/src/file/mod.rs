//! The form of a playbook file, and everything that can be wrong with one.

mod actions;
mod checker;
mod fields;
mod tables;

use toml::Spanned;

use checker::Checker;
pub use checker::{Finding, Findings};
use tables::{ContextTable, File, GuardTable, ModelTable, PromptTable, ReadTable, TriggerTable};

use super::{
    ContextPlan, Fields, Guard, ModelPlan, Playbook, Prompt, Read, RecordPath, Templates, Trigger, prompt,
    templates::{Samples, Scope},
    trigger,
};
use domain::{hash::sha256_hex, ids::ObjectType};

/// An event on an engagement is carried to this many records of a kind, unless the file says otherwise.
const CARRY_AT_MOST: usize = 5;

/// Records read at a path, unless the file says otherwise.
const READ_AT_MOST: usize = 5;

/// Engagements of each kind that are read, unless the file says otherwise.
const NEWEST: usize = 20;

impl Playbook {
    /// Reads a playbook from the `text` of `file` (named only to say where something is wrong). No playbook may write
    /// the properties in `protected`.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line. TOML that cannot be read at all gives one finding.
    pub fn parse(file: &str, text: &str, protected: &[String]) -> Result<Self, Findings> {
        let mut checker = Checker { file, text, protected, findings: Vec::new() };
        let parsed: File = match toml::from_str(text) {
            Ok(parsed) => parsed,
            Err(error) => {
                checker.add(error.span().unwrap_or(0..0), error.message().to_owned());
                return Err(Findings(checker.findings));
            }
        };
        check_name(&mut checker, &parsed.name);
        let records = records(&mut checker, &parsed.records);
        let context = context(&mut checker, &parsed.context, &records);
        let model = model(&mut checker, &parsed.model);
        let prompt = prompt(&mut checker, &parsed.prompt);
        let fields = fields::read(&mut checker, &parsed.fields);
        let known = actions::Known {
            records: &records,
            context: &context,
            fields: &fields,
            samples: Samples::new(&context, &records, &fields),
        };
        let mut templates = Templates::new();
        let triggers = triggers(&mut checker, &parsed.triggers, &known, &mut templates);
        let guards = guards(&mut checker, &parsed.guards, &known, &mut templates);
        let writes = actions::writes(&mut checker, &parsed.writes, &known, &mut templates);
        let actions = actions::actions(&mut checker, &parsed.actions, &known, &mut templates);
        if parsed.writes.is_empty() && parsed.actions.is_empty() {
            checker.add_line(1, "neither writes nor actions: the answer would be for nothing");
        }
        let max_records_per_event = parsed.max_records_per_event.as_ref().map_or(CARRY_AT_MOST, |most| {
            checker.within(most, 1..=100, "max_records_per_event");
            *most.get_ref()
        });
        let fields = Fields::new(fields).map_err(|message| checker.add_line(1, format!("fields: {message}"))).ok();
        let (Some(prompt), Some(fields)) = (prompt, fields) else { return Err(Findings(checker.findings)) };
        let playbook = Self {
            name: parsed.name.get_ref().clone(),
            version: version(text),
            description: parsed.description.clone(),
            records,
            triggers,
            max_records_per_event,
            guards,
            context,
            model,
            prompt,
            fields,
            unverified: parsed.unverified,
            writes,
            actions,
            templates,
        };
        check_no_loop(&mut checker, &parsed, &playbook);
        if checker.findings.is_empty() { Ok(playbook) } else { Err(Findings(checker.findings)) }
    }
}

fn version(text: &str) -> String {
    let mut version = sha256_hex(&[text.as_bytes()]);
    version.truncate(12);
    version
}

fn check_name(checker: &mut Checker, name: &Spanned<String>) {
    let text = name.get_ref();
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    // OpenAI allows 64 characters in a schema's name, which is the playbook's.
    if text.is_empty() || text.len() > 64 || !text.chars().all(valid) {
        checker.add(name.span(), format!("name `{text}`: use 1–64 of a–z, 0–9 and `-`"));
    }
}

fn records(checker: &mut Checker, kinds: &[Spanned<String>]) -> Vec<ObjectType> {
    if kinds.is_empty() {
        checker.add_line(1, "records is empty: what is this playbook about?");
    }
    let mut records = Vec::new();
    for kind in kinds {
        match RecordPath::parse(kind.get_ref()) {
            Ok(path) if path.parent().is_none() => records.push(path.end().clone()),
            Ok(_) => checker.add(kind.span(), "records are kinds, not paths"),
            Err(message) => checker.add(kind.span(), message),
        }
    }
    records
}

fn triggers(
    checker: &mut Checker,
    tables: &[TriggerTable],
    known: &actions::Known,
    templates: &mut Templates,
) -> Vec<Trigger> {
    if tables.is_empty() {
        checker.add_line(1, "no triggers: nothing would ever start this playbook");
    }
    let mut triggers = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        table.properties.iter().for_each(|name| checker.property_name(name));
        let properties: Vec<_> = table.properties.iter().map(|name| name.get_ref().clone()).collect();
        let (object_type, kind) = match trigger::parse(table.event.get_ref(), table.object_type.as_deref(), &properties)
        {
            Ok(parsed) => parsed,
            Err(message) => {
                checker.add(table.event.span(), message);
                continue;
            }
        };
        if !object_type.is_engagement() && !known.records.contains(&object_type) {
            checker.add(table.event.span(), format!("`{object_type}` is not among this playbook's records"));
        }
        let when = table.when.as_ref().and_then(|when| {
            let name = format!("triggers[{index}]");
            let added = templates.condition(&name, when.get_ref(), &known.samples, Scope::Records);
            checker.template("when", &when.span(), added)
        });
        triggers.push(Trigger { object_type, kind, properties, when });
    }
    triggers
}

fn guards(
    checker: &mut Checker,
    tables: &[GuardTable],
    known: &actions::Known,
    templates: &mut Templates,
) -> Vec<Guard> {
    let mut guards = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        checker.property_name(&table.reason);
        let name = format!("guards[{index}]");
        let added = templates.condition(&name, table.when.get_ref(), &known.samples, Scope::Records);
        if let Some(when) = checker.template("when", &table.when.span(), added) {
            guards.push(Guard { when, reason: table.reason.get_ref().clone() });
        }
    }
    guards
}

fn context(checker: &mut Checker, table: &ContextTable, records: &[ObjectType]) -> ContextPlan {
    checker.within(&table.max_tokens, 100..=1_000_000, "max_tokens");
    let mut reads: Vec<Read> = Vec::new();
    for table in &table.reads {
        let Some(read) = read(checker, table) else { continue };
        if !records.contains(read.path.start()) {
            checker.add(table.of.span(), format!("`{}` is not among this playbook's records", read.path.start()));
        }
        if reads.iter().any(|other| other.path == read.path) {
            checker.add(table.of.span(), format!("`{}` is read twice", read.path));
        }
        reads.push(read);
    }
    for kind in records.iter().filter(|kind| !reads.iter().any(|read| read.path == RecordPath::of((*kind).clone()))) {
        checker.add_line(1, format!("[[context.reads]] does not read `{kind}`, which this playbook is about"));
    }
    for (table, path) in table.reads.iter().zip(reads.iter().map(|read| read.path.clone()).collect::<Vec<_>>()) {
        if let Some(parent) = path.parent()
            && !reads.iter().any(|read| read.path == parent)
        {
            checker.add(table.of.span(), format!("`{path}` goes by `{parent}`, which is not read"));
        }
    }
    ContextPlan { reads, window: table.window, max_tokens: *table.max_tokens.get_ref() }
}

fn read(checker: &mut Checker, table: &ReadTable) -> Option<Read> {
    let path = RecordPath::parse(table.of.get_ref()).map_err(|message| checker.add(table.of.span(), message)).ok()?;
    table.properties.iter().chain(&table.texts).for_each(|name| checker.property_name(name));
    let mut engagements = Vec::new();
    for kind in &table.engagements {
        match ObjectType::from(kind.get_ref().as_str()) {
            known if known.is_engagement() => engagements.push(known),
            _ => checker
                .add(kind.span(), format!("`{}` is none of notes, calls, emails, meetings, tasks", kind.get_ref())),
        }
    }
    let bound = |checker: &mut Checker, value: Option<&Spanned<usize>>, default, key| {
        // One batch read fetches them; HubSpot takes 100 inputs in it.
        value.map_or(default, |value| {
            checker.within(value, 1..=100, key);
            *value.get_ref()
        })
    };
    let names = |list: &[Spanned<String>]| list.iter().map(|name| name.get_ref().clone()).collect();
    Some(Read {
        max_records: bound(checker, table.max_records.as_ref(), READ_AT_MOST, "max_records"),
        newest: bound(checker, table.newest.as_ref(), NEWEST, "newest"),
        properties: names(&table.properties),
        texts: names(&table.texts),
        engagements,
        path,
    })
}

fn model(checker: &mut Checker, table: &ModelTable) -> ModelPlan {
    if let Some(temperature) = &table.temperature
        && !(0.0..=2.0).contains(temperature.get_ref())
    {
        checker.add(temperature.span(), format!("temperature {} is not within 0–2", temperature.get_ref()));
    }
    if let Some(cap) = table.max_micro_dollars_per_day.as_ref().filter(|cap| *cap.get_ref() <= 0) {
        checker.add(cap.span(), format!("max_micro_dollars_per_day {} is not above 0", cap.get_ref()));
    }
    ModelPlan {
        name: table.name.clone(),
        mode: table.mode,
        temperature: table.temperature.as_ref().map(|temperature| *temperature.get_ref()),
        max_output_tokens: table.max_output_tokens,
        max_micro_dollars_per_day: table.max_micro_dollars_per_day.as_ref().map(|cap| *cap.get_ref()),
    }
}

fn prompt(checker: &mut Checker, table: &PromptTable) -> Option<Prompt> {
    let condense = table.condense.as_ref().map(|text| text.get_ref().as_str());
    match Prompt::compile(table.system.get_ref(), table.user.get_ref(), condense) {
        Ok(prompt) => Some(prompt),
        Err(errors) => {
            let sources = [Some(&table.system), Some(&table.user), table.condense.as_ref()];
            for error in errors {
                let named = prompt::TEMPLATES.iter().position(|name| *name == error.template);
                let span = named.and_then(|index| sources[index]).map_or(0..0, Spanned::span);
                checker.add_within(span, error.line, format!("prompt.{}: {}", error.template, error.message));
            }
            None
        }
    }
}

/// A playbook that writes what starts it would feed itself.
fn check_no_loop(checker: &mut Checker, parsed: &File, playbook: &Playbook) {
    let written = playbook.written_properties();
    for (table, trigger) in parsed.triggers.iter().zip(&playbook.triggers) {
        for name in &table.properties {
            if written.contains(&(trigger.object_type.clone(), name.get_ref().as_str())) {
                let message = format!("`{}` starts this playbook and is written by it: a loop", name.get_ref());
                checker.add(name.span(), message);
            }
        }
    }
}
