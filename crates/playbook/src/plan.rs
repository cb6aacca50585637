//! From an answer to what is to be written and done: write commands without ids of events and inferences.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time, format_description::well_known::Iso8601};

use super::{
    Condition, Fields, Playbook, RecordPath, TemplateError, Text,
    templates::{Variables, record_variables},
};
use domain::{
    ActionId, RecordRef,
    write_command::{Action, ActionSpec, PropertyChange, Task, TaskPriority, TaskType, WritePolicy},
};

use crate::context::Context;

/// One property that a playbook writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The property.
    pub property: String,
    /// The records whose property it is.
    pub to: Vec<RecordPath>,
    /// Where its value comes from.
    pub value: WriteValue,
    /// When it may replace what is there.
    pub policy: WritePolicy,
}

/// Where a written value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteValue {
    /// A field of the answer.
    Field(String),
    /// A text with variables.
    Text(Text),
    /// Something that the fleet itself knows.
    Stamp(Stamp),
}

/// A value that the fleet itself knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stamp {
    /// When the answer was accepted, ISO 8601 UTC.
    ProcessedAt,
    /// The model snapshot that answered.
    Model,
    /// The playbook's name and version.
    Playbook,
}

/// An action that a playbook may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionPlan {
    /// Its name.
    pub name: String,
    /// Its condition; always without.
    pub when: Option<Condition>,
    /// Once for each item of this list field.
    pub for_each: Option<String>,
    /// Of those at most this many.
    pub max_records: usize,
    /// The records it is about.
    pub on: Vec<RecordPath>,
    /// Within this many hours it is not done again for the same record.
    pub cooldown_hours: u32,
    /// What it does.
    pub spec: ActionTemplate,
}

/// What a planned action does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the fields of `ActionSpec`, as texts with variables")]
pub enum ActionTemplate {
    CreateTask {
        subject: Text,
        body: Option<Text>,
        owner: Option<Text>,
        /// A day or a time; empty takes `due_in_hours`.
        due: Option<Text>,
        due_in_hours: u32,
        priority: TaskPriority,
        task_type: TaskType,
    },
    CreateNote {
        body: Text,
    },
    MoveDeal {
        stage: String,
    },
    Notify {
        channel: String,
        text: Text,
    },
}

impl ActionTemplate {
    /// Its name in playbooks.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CreateTask { .. } => "create_task",
            Self::CreateNote { .. } => "create_note",
            Self::MoveDeal { .. } => "move_deal",
            Self::Notify { .. } => "notify",
        }
    }
}

/// What an answer asks for on one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intended {
    /// The record.
    pub record: RecordRef,
    /// Its properties.
    pub properties: Vec<PropertyChange>,
    /// What is done, once they are written.
    pub actions: Vec<Action>,
}

/// HubSpot's longest subject and body, in characters.
const MAX_TEXT: usize = 65_536;

impl Playbook {
    /// What `answer`, given by `model` at `now` about `context`, asks for, by record. `event` is the variable of that
    /// name. Nothing here comes from the model but values of fields that passed the schema.
    pub fn intend(
        &self,
        event: &Value,
        context: &Context,
        answer: &Map<String, Value>,
        model: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<Intended>, TemplateError> {
        let variables = self.variables(event, context).with("answer", &Value::Object(answer.clone()));
        let mut intended: BTreeMap<RecordRef, Intended> = BTreeMap::new();
        let mut order = Vec::new();
        let mut on = |record: &RecordRef, what: What| {
            if !order.contains(record) {
                order.push(record.clone());
            }
            let entry = intended.entry(record.clone()).or_insert_with(|| Intended {
                record: record.clone(),
                properties: Vec::new(),
                actions: Vec::new(),
            });
            match what {
                What::Property(change) => entry.properties.push(change),
                What::Action(action) => entry.actions.push(action),
            }
        };
        for write in &self.writes {
            let value = match &write.value {
                WriteValue::Field(name) => answer.get(name).and_then(Fields::text),
                WriteValue::Text(text) => Some(self.templates.fill(text, &variables)?).filter(|text| !text.is_empty()),
                WriteValue::Stamp(stamp) => Some(self.stamp(*stamp, now, model)),
            };
            let Some(value) = value else { continue };
            for known in write.to.iter().flat_map(|path| context.at(path)) {
                let (property, policy) = (write.property.clone(), write.policy);
                let value = value.chars().take(MAX_TEXT).collect();
                on(&known.record, What::Property(PropertyChange { property, value, policy }));
            }
        }
        for plan in &self.actions {
            for action in self.act(plan, context, answer, &variables, now)? {
                on(&action.0, What::Action(action.1));
            }
        }
        Ok(order.iter().filter_map(|record| intended.remove(record)).collect())
    }

    /// The variables that conditions and texts see before there is an answer.
    pub fn variables(&self, event: &Value, context: &Context) -> Variables {
        record_variables(&self.context, context, Variables::default().with("event", event))
    }

    fn act(
        &self,
        plan: &ActionPlan,
        context: &Context,
        answer: &Map<String, Value>,
        variables: &Variables,
        now: OffsetDateTime,
    ) -> Result<Vec<(RecordRef, Action)>, TemplateError> {
        let rounds = match &plan.for_each {
            None => vec![variables.clone()],
            Some(list) => {
                let items = answer.get(list).and_then(Value::as_array).into_iter().flatten().take(plan.max_records);
                items.map(|item| variables.clone().with("item", item)).collect()
            }
        };
        // Two paths may lead to the same record.
        let mut on: Vec<RecordRef> = Vec::new();
        for known in plan.on.iter().flat_map(|path| context.at(path)) {
            if !on.contains(&known.record) {
                on.push(known.record.clone());
            }
        }
        let mut actions = Vec::new();
        for variables in &rounds {
            if let Some(when) = &plan.when
                && !self.templates.holds(when, variables)?
            {
                continue;
            }
            let action = |spec| Action {
                id: ActionId::new(),
                name: plan.name.clone(),
                cooldown_hours: plan.cooldown_hours,
                spec,
            };
            if let ActionTemplate::MoveDeal { stage } = &plan.spec {
                let deals = on.iter().map(|deal| (deal.clone(), action(ActionSpec::MoveDeal { stage: stage.clone() })));
                actions.extend(deals);
            } else if let Some(spec) = self.spec(&plan.spec, &on, variables, now)? {
                actions.push((context.record().clone(), action(spec)));
            }
        }
        Ok(actions)
    }

    /// `None` when there is no record that the spec could be associated to.
    fn spec(
        &self,
        plan: &ActionTemplate,
        associations: &[RecordRef],
        variables: &Variables,
        now: OffsetDateTime,
    ) -> Result<Option<ActionSpec>, TemplateError> {
        let fill = |text: &Text| {
            self.templates.fill(text, variables).map(|text| text.chars().take(MAX_TEXT).collect::<String>())
        };
        let optional = |text: &Option<Text>| text.as_ref().map(fill).transpose().map(Option::unwrap_or_default);
        Ok(match plan {
            ActionTemplate::Notify { channel, text } => {
                Some(ActionSpec::Notify { channel: channel.clone(), text: fill(text)? })
            }
            _ if associations.is_empty() => None,
            ActionTemplate::CreateNote { body } => {
                Some(ActionSpec::CreateNote { body: fill(body)?, associations: associations.to_vec() })
            }
            ActionTemplate::CreateTask { subject, body, owner, due, due_in_hours, priority, task_type } => {
                let default = now + time::Duration::hours(i64::from(*due_in_hours));
                Some(ActionSpec::CreateTask(Task {
                    subject: fill(subject)?,
                    body: optional(body)?,
                    priority: *priority,
                    task_type: *task_type,
                    owner: Some(optional(owner)?).filter(|owner| !owner.is_empty()),
                    due: parse_due(&optional(due)?).unwrap_or(default),
                    associations: associations.to_vec(),
                }))
            }
            ActionTemplate::MoveDeal { .. } => None,
        })
    }

    fn stamp(&self, stamp: Stamp, now: OffsetDateTime, model: &str) -> String {
        match stamp {
            Stamp::ProcessedAt => now
                .replace_nanosecond(u32::from(now.millisecond()) * 1_000_000)
                .unwrap_or(now)
                .format(&time::format_description::well_known::Rfc3339)
                .unwrap_or_default(),
            Stamp::Model => model.to_owned(),
            Stamp::Playbook => format!("{}@{}", self.name, self.version),
        }
    }
}

enum What {
    Property(PropertyChange),
    Action(Action),
}

/// People work in the morning: a day without a time is due at nine, UTC.
const DUE_TIME: Time = time::macros::time!(9:00);

/// A day or a time; `None` for anything else, for example a 31st of February.
fn parse_due(text: &str) -> Option<OffsetDateTime> {
    if let Ok(at) = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339) {
        return Some(at.to_offset(time::UtcOffset::UTC));
    }
    Date::parse(text, &Iso8601::DATE).ok().map(|day| PrimitiveDateTime::new(day, DUE_TIME).assume_utc())
}

/// The variable `event` for an inference that no event started: an operator tries a playbook.
pub fn manual_event(now: OffsetDateTime) -> Value {
    json!({"type": "manual", "property": null, "value": null, "source": null, "occurred_at": now.unix_timestamp()})
}
