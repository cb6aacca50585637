//! A playbook: a declarative file that says which events start which question, and what becomes of the answer.
//!
//! [`Playbook::parse`] is the only way to one, and it refuses everything that could fail later: what is read here is
//! right. The file's form is in [`file`]; in the order of an event's way: what triggers it in [`trigger`], which
//! records are read in [`path`], the wording in [`prompt`], the answer's shape in [`fields`], the proof it owes in
//! [`evidence`], what is written and done in [`plan`]; conditions and texts throughout in [`templates`].

pub mod context;
mod evidence;
mod fields;
mod file;
mod load;
mod path;
mod plan;
mod prompt;
mod templates;
#[cfg(test)]
mod tests;
mod trigger;

use std::collections::BTreeSet;

use domain::{Event, ObjectType};

pub use context::Context;
pub use evidence::Unverified;
pub use fields::{Field, FieldKind, Fields, Mismatch};
pub use file::{Finding, Findings};
pub use load::{PlaybooksError, load, load_files};
pub use path::RecordPath;
pub use plan::{ActionPlan, ActionTemplate, Intended, Stamp, Write, WriteValue, manual_event};
pub use prompt::{Prompt, PromptError, Rendered};
pub use templates::{Condition, TemplateError, Templates, Text, Variables, event_variable};
pub use trigger::Trigger;

/// What the operator wants done about certain events.
#[derive(Debug)]
pub struct Playbook {
    /// Its name: the key under which the ledger keeps inferences.
    pub name: String,
    /// The first 12 hex digits of the SHA-256 of the file.
    pub version: String,
    /// What it is for.
    pub description: String,
    /// The kinds of records that it is about.
    pub records: Vec<ObjectType>,
    /// The events that start it.
    pub triggers: Vec<Trigger>,
    /// An event on an engagement is carried to at most this many records of each kind.
    pub max_records_per_event: usize,
    /// Under which conditions nothing is asked.
    pub guards: Vec<Guard>,
    /// What is read from HubSpot.
    pub context: ContextPlan,
    /// Which model, and how.
    pub model: ModelPlan,
    /// What the model is asked.
    pub prompt: Prompt,
    /// What it has to answer.
    pub fields: Fields,
    /// What becomes of fields whose quotation is not found.
    pub unverified: Unverified,
    /// Which property gets which value.
    pub writes: Vec<Write>,
    /// What is done beyond properties.
    pub actions: Vec<ActionPlan>,
    /// Conditions and texts.
    pub templates: Templates,
}

/// A condition on the record under which nothing is asked or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The condition.
    pub when: Condition,
    /// The reason that the ledger shows, in `snake_case`.
    pub reason: String,
}

/// What is read from HubSpot for one inference.
#[derive(Debug, Clone)]
pub struct ContextPlan {
    /// Which records, and what of each.
    pub reads: Vec<Read>,
    /// What becomes of what does not fit.
    pub window: Window,
    /// The context's share of the model's window, in tokens.
    pub max_tokens: usize,
}

/// What is read of the records at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Which records.
    pub path: RecordPath,
    /// How many at most: primary ones first, then the newest.
    pub max_records: usize,
    /// Properties that are facts.
    pub properties: Vec<String>,
    /// Properties that hold what somebody wrote.
    pub texts: Vec<String>,
    /// Kinds of engagements.
    pub engagements: Vec<ObjectType>,
    /// How many of each kind at most, newest first.
    pub newest: usize,
}

/// What becomes of a context that is longer than its share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// The newest entries are kept, and a line says what was left out.
    #[default]
    Newest,
    /// It is condensed in pieces, each an inference of its own, and the question is asked about what remains.
    MapReduce,
}

/// Which model answers, and how it is asked.
#[derive(Debug, Clone)]
pub struct ModelPlan {
    /// The model's name; `None` takes the setting `openai.model`.
    pub name: Option<String>,
    /// How the answer's shape is asked for.
    pub mode: AnswerMode,
    /// Sampling temperature; `None` leaves it out, as reasoning models demand.
    pub temperature: Option<f64>,
    /// Room for the answer, in tokens. `OpenAI` reserves it against the token limit, so keep it tight.
    pub max_output_tokens: u32,
    /// What its questions may cost in a day (UTC), in micro-dollars; beyond it the playbook pauses.
    pub max_micro_dollars_per_day: Option<i64>,
}

/// How the answer's shape is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerMode {
    /// Structured outputs: a strict JSON schema.
    Schema,
    /// JSON mode, for models without structured outputs; one repair when the answer does not fit.
    Json,
    /// Function calling with a strict schema of the arguments.
    Function,
}

impl Playbook {
    /// Whether `event` starts this playbook, as far as the event alone tells: a trigger whose condition needs the
    /// record counts as one that may.
    ///
    /// # Errors
    /// When a condition cannot be evaluated for this event.
    pub fn may_be_triggered_by(&self, event: &Event) -> Result<bool, TemplateError> {
        self.any_trigger(event, |condition, event| {
            if condition.needs_record {
                return Ok(true);
            }
            let variables = Variables::default().with("event", &event_variable(event));
            self.templates.holds(condition, &variables)
        })
    }

    /// Whether what `event` asks for is asked for by `newer`, an event of the same record, too: it starts this playbook
    /// under no condition, so it will, and sees the newest state.
    pub fn is_made_pointless_by(&self, newer: &Event) -> bool {
        self.triggers.iter().any(|trigger| trigger.when.is_none() && trigger.matches(newer))
    }

    /// Whether `event` starts this playbook, now that the records are known.
    ///
    /// # Errors
    /// When a condition cannot be evaluated for these records.
    pub fn is_triggered_by(&self, event: &Event, variables: &Variables) -> Result<bool, TemplateError> {
        self.any_trigger(event, |condition, _| self.templates.holds(condition, variables))
    }

    fn any_trigger(
        &self,
        event: &Event,
        holds: impl Fn(&Condition, &Event) -> Result<bool, TemplateError>,
    ) -> Result<bool, TemplateError> {
        for trigger in self.triggers.iter().filter(|trigger| trigger.matches(event)) {
            match &trigger.when {
                None => return Ok(true),
                Some(condition) if holds(condition, event)? => return Ok(true),
                Some(_) => {}
            }
        }
        Ok(false)
    }

    /// The first guard that holds.
    ///
    /// # Errors
    /// When a guard cannot be evaluated for these records.
    pub fn guarded(&self, variables: &Variables) -> Result<Option<&Guard>, TemplateError> {
        for guard in &self.guards {
            if self.templates.holds(&guard.when, variables)? {
                return Ok(Some(guard));
            }
        }
        Ok(None)
    }

    /// The properties it writes, with the kind of their records. A change of one of them must start nothing: it may be
    /// our own write.
    pub fn written_properties(&self) -> BTreeSet<(ObjectType, &str)> {
        let of = |write: &'_ Write| write.to.iter().map(|path| path.end().clone()).collect::<Vec<_>>();
        let writes = self
            .writes
            .iter()
            .flat_map(|write| of(write).into_iter().map(|kind| (kind, write.property.as_str())).collect::<Vec<_>>());
        let moves = self.actions.iter().any(|action| matches!(action.spec, ActionTemplate::MoveDeal { .. }));
        writes.chain(moves.then_some((ObjectType::Deal, "dealstage"))).collect()
    }

    /// The kinds of engagements that its actions create.
    pub fn created_engagements(&self) -> BTreeSet<ObjectType> {
        let created = self.actions.iter().filter_map(|action| match action.spec {
            ActionTemplate::CreateTask { .. } => Some(ObjectType::Task),
            ActionTemplate::CreateNote { .. } => Some(ObjectType::Note),
            ActionTemplate::MoveDeal { .. } | ActionTemplate::Notify { .. } => None,
        });
        created.collect()
    }
}

impl ContextPlan {
    /// The kinds of records that are read.
    pub fn kinds(&self) -> BTreeSet<ObjectType> {
        self.reads.iter().map(|read| read.path.end().clone()).collect()
    }

    /// The properties that are read of records of this kind, wherever they are found.
    pub fn properties_of(&self, kind: &ObjectType) -> BTreeSet<String> {
        let reads = self.reads.iter().filter(|read| read.path.end() == kind);
        reads.flat_map(|read| read.properties.iter().chain(&read.texts)).cloned().collect()
    }

    /// The reads for a record of this kind, the record itself first, parents before children.
    pub fn reads_for(&self, kind: &ObjectType) -> Vec<&Read> {
        let mut reads: Vec<_> = self.reads.iter().filter(|read| read.path.start() == kind).collect();
        reads.sort_by_key(|read| read.path.to_string().matches('>').count());
        reads
    }
}
