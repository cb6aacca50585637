//! Playbook files: their TOML form, and everything that can be wrong with one.

mod checker;
mod context;
mod declared;
mod drift;
mod effects;
mod fields;
mod gate;
mod masking;
mod review;
mod selection;
mod tables;

use toml::Spanned;

use checker::Checker;
pub use checker::{PlaybookFinding, PlaybookFindings};
use declared::Declared;
use tables::{File, ModelTable, PromptTable};

use crate::{
    fields::AnswerFields,
    masking::Masking,
    model::{AnswerMode, ModelLines, ModelOptions},
    playbook::{AnswerRules, Effects, Playbook, Selection},
    prompt::{PromptPart, PromptTemplates},
    templates::Templates,
    variables::Samples,
};
use domain::hash::sha256_hex;

/// The default of `max_records_per_event`.
const DEFAULT_MAX_RECORDS_PER_EVENT: usize = 5;

/// The maximum length of a playbook's name. The name is also that of the answer's schema, for which `OpenAI` allows 64
/// characters.
const MAX_NAME: usize = 64;

impl Playbook {
    /// Parses the `text` of a playbook file. `file` is the file's name in findings. No playbook may write the
    /// properties in `protected`.
    ///
    /// # Errors
    /// Everything that is wrong with the file, each with its line. A file that is no TOML, or has unknown or missing
    /// keys, gives one finding.
    pub fn parse(file: &str, text: &str, protected: &[String]) -> Result<Self, PlaybookFindings> {
        let mut checker = Checker { file, text, protected, findings: Vec::new() };
        let parsed: File = match toml::from_str(text) {
            Ok(parsed) => parsed,
            Err(error) => {
                checker.add(error.span().unwrap_or(0..0), error.message().to_owned());
                return Err(PlaybookFindings(checker.findings));
            }
        };
        check_name(&mut checker, &parsed.name);
        let records = selection::records(&mut checker, &parsed.records);
        let context = context::read(&mut checker, &parsed.context, &records);
        let model = model(&mut checker, &parsed.model);
        let masking = masking::read(&mut checker, parsed.masking.as_ref(), &context);
        masking::check_templates(&mut checker, &masking, &parsed.prompt, &parsed.actions);
        let prompt = prompt(&mut checker, &parsed.prompt, &masking);
        let fields = fields::read(&mut checker, &parsed.fields);
        let declared = Declared {
            records: &records,
            context: &context,
            fields: &fields,
            samples: Samples::new(&context, &records, &fields),
        };
        let mut templates = Templates::new();
        let triggers = selection::triggers(&mut checker, &parsed.triggers, &declared, &mut templates);
        let guards = selection::guards(&mut checker, &parsed.guards, &declared, &mut templates);
        let writes = effects::writes(&mut checker, &parsed.writes, &declared, &mut templates);
        let actions = effects::actions(&mut checker, &parsed.actions, &declared, &mut templates);
        let review = review::read(&mut checker, &parsed, &writes, &declared, &mut templates);
        let gate = gate::read(&mut checker, parsed.gate.as_ref());
        let drift = drift::read(&mut checker, &parsed.drift);
        if parsed.writes.is_empty() && parsed.actions.is_empty() {
            checker.add_line(1, "neither writes nor actions; the answer would have no effect");
        }
        let max_records_per_event = checker.bounded(
            parsed.max_records_per_event.as_ref(),
            DEFAULT_MAX_RECORDS_PER_EVENT,
            "max_records_per_event",
        );
        let fields = AnswerFields::new(fields).map_err(|error| checker.add_line(1, error.to_string())).ok();
        let (Some(prompt), Some(fields)) = (prompt, fields) else { return Err(PlaybookFindings(checker.findings)) };
        let playbook = Self {
            name: parsed.name.get_ref().clone(),
            version: version(text),
            description: parsed.description.clone(),
            selection: Selection { records, triggers, max_records_per_event, guards },
            context,
            model,
            prompt,
            masking,
            answer: AnswerRules { fields, unverified: parsed.unverified },
            effects: Effects { writes, actions, escapes_formulas: true },
            review,
            gate,
            drift,
            templates,
        };
        check_no_loop(&mut checker, &parsed, &playbook);
        if checker.findings.is_empty() { Ok(playbook) } else { Err(PlaybookFindings(checker.findings)) }
    }
}

/// The first 12 hex digits of the SHA-256 of the file.
fn version(text: &str) -> String {
    let mut version = sha256_hex(&[text.as_bytes()]);
    version.truncate(12);
    version
}

fn check_name(checker: &mut Checker, name: &Spanned<String>) {
    let text = name.get_ref();
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || text.len() > MAX_NAME || !text.chars().all(valid) {
        checker.add(name.span(), format!("name `{text}`: use 1–{MAX_NAME} of a–z, 0–9 and `-`"));
    }
}

fn model(checker: &mut Checker, table: &ModelTable) -> ModelOptions {
    if let Some(temperature) = &table.temperature
        && !(0.0..=2.0).contains(temperature.get_ref())
    {
        checker.add(temperature.span(), format!("temperature {} is not within 0–2", temperature.get_ref()));
    }
    let mut limit = |limit: Option<&Spanned<i64>>, key: &str| {
        let limit = limit?;
        if *limit.get_ref() <= 0 {
            checker.add(limit.span(), format!("{key} {} is not above 0", limit.get_ref()));
        }
        Some(*limit.get_ref())
    };
    let per_day = limit(table.max_micro_dollars_per_day.as_ref(), "max_micro_dollars_per_day");
    let per_record = limit(table.max_micro_dollars_per_record_and_day.as_ref(), "max_micro_dollars_per_record_and_day");
    for (index, fallback) in table.fallback.iter().enumerate() {
        let name = fallback.get_ref();
        let is_earlier = |other: &Spanned<String>| other.get_ref() == name;
        if name.is_empty() || table.name.as_ref() == Some(name) || table.fallback[..index].iter().any(is_earlier) {
            checker.add(fallback.span(), format!("fallback `{name}`: name each other model once"));
        }
    }
    let lines = ModelLines {
        mode: line(checker, table.mode.as_ref()),
        temperature: line(checker, table.temperature.as_ref()),
        effort: line(checker, table.effort.as_ref()),
        service_tier: line(checker, table.service_tier.as_ref()),
        verbosity: line(checker, table.verbosity.as_ref()),
    };
    ModelOptions {
        name: table.name.clone(),
        fallback: table.fallback.iter().map(|name| name.get_ref().clone()).collect(),
        mode: table.mode.as_ref().map_or(AnswerMode::Schema, |mode| *mode.get_ref()),
        temperature: table.temperature.as_ref().map(|temperature| *temperature.get_ref()),
        effort: table.effort.as_ref().map(|effort| *effort.get_ref()),
        service_tier: table.service_tier.as_ref().map(|tier| *tier.get_ref()),
        verbosity: table.verbosity.as_ref().map(|verbosity| *verbosity.get_ref()),
        max_output_tokens: table.max_output_tokens,
        max_reasoning_tokens: table.max_reasoning_tokens,
        lines,
        max_micro_dollars_per_day: per_day,
        max_micro_dollars_per_record_and_day: per_record,
    }
}

fn line<T>(checker: &Checker, value: Option<&Spanned<T>>) -> Option<usize> {
    value.map(|value| checker.line(&value.span()))
}

fn prompt(checker: &mut Checker, table: &PromptTable, masking: &Masking) -> Option<PromptTemplates> {
    let condense = table.condense.as_ref().map(|text| text.get_ref().as_str());
    let errors = match PromptTemplates::compile(table.system.get_ref(), table.user.get_ref(), condense) {
        Ok(prompt) if masking.mask.is_empty() => return Some(prompt),
        Ok(prompt) => return Some(prompt.about_placeholders()),
        Err(errors) => errors,
    };
    for error in errors {
        let source = match error.part {
            PromptPart::System => Some(&table.system),
            PromptPart::User => Some(&table.user),
            PromptPart::Condense => table.condense.as_ref(),
        };
        let message = format!("prompt.{}: {}", error.part.as_str(), error.error.message);
        checker.add_within(source.map_or(0..0, Spanned::span), error.error.line, message);
    }
    None
}

/// A playbook must not write a property that starts it: each write would start it again.
fn check_no_loop(checker: &mut Checker, parsed: &File, playbook: &Playbook) {
    let written = playbook.written_properties();
    for (table, trigger) in parsed.triggers.iter().zip(&playbook.selection.triggers) {
        for name in &table.properties {
            if written.contains(&(trigger.object_type.clone(), name.get_ref().as_str())) {
                let message = format!("`{}` starts this playbook and is written by it: a loop", name.get_ref());
                checker.add(name.span(), message);
            }
        }
    }
}
