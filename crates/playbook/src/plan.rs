//! From an answer to the properties and actions of each record.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    ActionId, ActionPosition, Event, EventId, InferenceId, RecordRef, WriteCommand, WriteCommandId,
    review::{ReviewTerms, WriteMode, WriteTerms},
    write_command::{Action, ActionSpec, PropertyChange, Task},
};
use serde_json::{Map, Value};
use time::{
    Date, OffsetDateTime,
    format_description::well_known::{Iso8601, Rfc3339},
};

use crate::{
    context::Context,
    effects::{ActionPlan, ActionTemplate, ApprovalPlan, InferenceMetadata, WriteValue},
    evidence::MARK,
    fields::{AnswerField, FieldKind, property_value, quote_name},
    local_time::LocalTime,
    path::RecordPath,
    playbook::Playbook,
    spreadsheet::without_formula,
    templates::{TemplateError, TextTemplate, Variables},
    text::truncate_for_hubspot,
    variables::record_variables,
};

/// How much of a value and of its quotation an explanation shows, in characters.
const MAX_EXPLAINED_VALUE: usize = 100;
const MAX_EXPLAINED_QUOTE: usize = 300;

/// What an answer asks for on one record and in one mode: a write command without the ids of its event and inference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedWrite {
    /// The record.
    pub record: RecordRef,
    /// The values to set.
    pub properties: Vec<PropertyChange>,
    /// The actions to perform after the values are set.
    pub actions: Vec<PlannedAction>,
    /// Whether it is carried out, or first reviewed.
    pub terms: WriteTerms,
}

/// An action without the id that its event gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedAction {
    /// The action's name in the playbook.
    pub name: String,
    /// See [`Action::cooldown_hours`].
    pub cooldown_hours: u32,
    /// What to do.
    pub spec: ActionSpec,
    position: ActionPosition,
}

impl PlannedWrite {
    /// The write command, under a new id, for what `inference` says about an event. Its actions have the ids that the same
    /// answer about the same change always leads to.
    pub fn into_command(
        self,
        playbook: &Playbook,
        event: &Event,
        event_id: EventId,
        inference_id: InferenceId,
    ) -> WriteCommand {
        let record = &self.record;
        let with_id = |PlannedAction { name, cooldown_hours, spec, position }| {
            let id = ActionId::of(event, &playbook.name, record, &name, position);
            Action { id, name, cooldown_hours, spec }
        };
        let actions = self.actions.into_iter().map(with_id).collect();
        WriteCommand {
            id: WriteCommandId::new(),
            event_id,
            event_key: event.key.clone(),
            inference_id,
            occurred_at: event.occurred_at,
            record: self.record,
            properties: self.properties,
            actions,
            terms: self.terms,
        }
    }
}

/// The beginning of a text, on one line.
fn brief(text: &str, max: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= max { line } else { line.chars().take(max).chain(['…']).collect() }
}

/// The planned writes, one for each record and mode, in the order in which they were first named.
#[derive(Default)]
struct Plan(Vec<PlannedWrite>);

impl Plan {
    fn of(&mut self, record: &RecordRef, mode: WriteMode) -> &mut PlannedWrite {
        let is_same = |planned: &PlannedWrite| planned.record == *record && planned.terms.mode == mode;
        let index = self.0.iter().position(is_same).unwrap_or_else(|| {
            let terms = WriteTerms { mode, ..WriteTerms::default() };
            self.0.push(PlannedWrite { record: record.clone(), properties: Vec::new(), actions: Vec::new(), terms });
            self.0.len() - 1
        });
        &mut self.0[index]
    }
}

impl Playbook {
    /// What an answer asks for, by record. `model` gave the `answer` about `context` at `now`; `event` is the variable
    /// of that name. The only texts of the model in the result are values of fields that passed the schema.
    ///
    /// Nothing has a less careful mode than `least_mode`. Where that is not [`WriteMode::Live`], no rule approves: a person looks.
    ///
    /// # Errors
    /// When a condition or a text cannot be rendered for this answer.
    pub fn plan_writes(
        &self,
        event: &Value,
        context: &Context,
        answer: &Map<String, Value>,
        model: &str,
        now: &LocalTime,
        least_mode: WriteMode,
    ) -> Result<Vec<PlannedWrite>, TemplateError> {
        let used = self.templates.used_after_answer();
        let variables = self.used_variables(used, event, context, &BTreeSet::new()).with("answer", answer);
        let leaving = if self.masking.deny.is_empty() {
            variables.clone()
        } else {
            self.variables_that_leave(event, context).with("answer", answer)
        };
        let mode = self.review.mode_for(&self.name, context.record()).max(least_mode);
        let mut plan = Plan::default();
        for write in &self.effects.writes {
            let value = match &write.value {
                WriteValue::Field(name) => {
                    let value = answer.get(name).and_then(property_value);
                    // Other fields have values of a closed form: a number, a date, an option of the file.
                    let is_text =
                        self.answer.fields.get(name).is_some_and(|field| matches!(field.kind, FieldKind::Text { .. }));
                    if is_text { value.map(|text| self.shown_text(text)) } else { value }
                }
                WriteValue::Text(text) => {
                    let text = Some(self.templates.fill(text, &variables)?).filter(|text| !text.is_empty());
                    text.map(|text| self.shown_text(text))
                }
                WriteValue::Metadata(metadata) => Some(self.metadata(*metadata, now.now, model)),
                WriteValue::Explanation { field, .. } => self.explanation(field, answer, now),
            };
            let Some(value) = value.map(truncate_for_hubspot) else { continue };
            for record in records_at(context, &write.to) {
                let value = match &write.value {
                    WriteValue::Explanation { property, .. } => {
                        format!("{value} Ask Leadline: leadline explain {record} {property}")
                    }
                    _ => value.clone(),
                };
                let property = write.property.clone();
                let change = PropertyChange { property, value, policy: write.policy, expected: None };
                plan.of(&record, mode.max(write.mode)).properties.push(change);
            }
        }
        for (index, action) in self.effects.actions.iter().enumerate() {
            for (record, action) in self.plan_action((index, action), context, answer, (&variables, &leaving), now)? {
                plan.of(&record, mode.max(self.effects.actions[index].mode)).actions.push(action);
            }
        }
        for held in plan.0.iter_mut().filter(|planned| planned.terms.is_held()) {
            let rules = if least_mode == WriteMode::Live { &self.review.approve_if[..] } else { &[] };
            held.terms.review = self.review_terms(answer, &variables, rules);
        }
        Ok(plan.0)
    }

    /// Where the value of a field comes from, in one sentence; `None` when there is no value.
    fn explanation(&self, field: &str, answer: &Map<String, Value>, now: &LocalTime) -> Option<String> {
        let value = brief(&answer.get(field).and_then(property_value)?, MAX_EXPLAINED_VALUE);
        let quote = answer.get(&quote_name(field)).and_then(Value::as_str).unwrap_or_default();
        let quote = brief(quote, MAX_EXPLAINED_QUOTE);
        let from = if quote.is_empty() { String::new() } else { format!(", from \"{quote}\"") };
        Some(self.shown_text(format!("{value} by {} on {}{from}.", self.name, now.today())))
    }

    /// What a review of an answer's writes needs to know.
    fn review_terms(&self, answer: &Map<String, Value>, variables: &Variables, rules: &[ApprovalPlan]) -> ReviewTerms {
        let (mut fields, mut texts, mut others) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        for write in &self.effects.writes {
            let property = write.property.clone();
            let of_answer = match &write.value {
                WriteValue::Field(field) => {
                    fields.insert(property, field.clone());
                    continue;
                }
                WriteValue::Text(template) => self.fields_in(template),
                WriteValue::Explanation { field, .. } => vec![field.clone()],
                WriteValue::Metadata(_) => vec![],
            };
            if of_answer.is_empty() {
                others.insert(property);
            } else {
                texts.insert(property, of_answer);
            }
        }
        let rests_on_quotation = |name: &String| {
            let is_marked = answer.get(name).and_then(Value::as_str).is_some_and(|text| text.starts_with(MARK));
            self.answer.fields.get(name).is_some_and(|field| field.evidence) && !is_marked
        };
        let behind_values: BTreeSet<_> = fields.values().chain(texts.values().flatten()).collect();
        let unverified = behind_values.into_iter().filter(|name| !rests_on_quotation(name)).cloned().collect();
        let uses: Vec<_> = rules.iter().flat_map(|approval| approval.uses.iter().cloned()).collect();
        let approve_if = rules.iter().map(|approval| approval.rule.clone()).collect();
        ReviewTerms { fields, texts, others, unverified, approve_if, variables: variables.values_of(&uses) }
    }

    /// The fields of the answer that a text uses; all of them, if it uses the answer as a whole.
    fn fields_in(&self, template: &TextTemplate) -> Vec<String> {
        let is_used = |field: &AnswerField| {
            template.uses.iter().any(|name| {
                let mut parts = name.split('.');
                let within_answer = parts.next() == Some("answer");
                within_answer && parts.next().is_none_or(|part| part == field.name)
            })
        };
        self.answer.fields.iter().filter(|field| is_used(field)).map(|field| field.name.clone()).collect()
    }

    /// The text as it is written: an export of it is shown by a spreadsheet, and not run.
    pub(crate) fn shown_text(&self, text: String) -> String {
        if self.effects.escapes_formulas { without_formula(&text).into_owned() } else { text }
    }

    /// The variables that conditions and texts see before there is an answer.
    pub fn variables(&self, event: &Value, context: &Context) -> Variables {
        self.used_variables(self.templates.used_before_answer(), event, context, &BTreeSet::new())
    }

    /// The variables of a text that leaves: what is denied has no value, also where the text shows a record as a whole.
    fn variables_that_leave(&self, event: &Value, context: &Context) -> Variables {
        let denied = &self.masking.deny;
        let mut event = event.clone();
        if event["property"].as_str().is_some_and(|property| denied.contains(property)) {
            event["value"] = Value::Null;
        }
        self.used_variables(self.templates.used_after_answer(), &event, context, denied)
    }

    fn used_variables(
        &self,
        used: &BTreeSet<String>,
        event: &Value,
        context: &Context,
        denied: &BTreeSet<String>,
    ) -> Variables {
        record_variables(&self.context, context, used, denied, Variables::default().with("event", event))
    }

    /// The actions, each with the record whose write command contains it: a moved deal its own, every other action that
    /// of the record that the playbook is about. `leaving` are the variables of a text that leaves.
    fn plan_action(
        &self,
        (index, plan): (usize, &ActionPlan),
        context: &Context,
        answer: &Map<String, Value>,
        (variables, leaving): (&Variables, &Variables),
        now: &LocalTime,
    ) -> Result<Vec<(RecordRef, PlannedAction)>, TemplateError> {
        let shown = if matches!(plan.spec, ActionTemplate::Notify { .. }) { leaving } else { variables };
        let rounds = match &plan.for_each {
            None => vec![(variables.clone(), shown.clone())],
            Some(list) => {
                let items = answer.get(list).and_then(Value::as_array).into_iter().flatten().take(plan.max_items);
                items.map(|item| (variables.clone().with("item", item), shown.clone().with("item", item))).collect()
            }
        };
        let on = records_at(context, &plan.on);
        let mut actions = Vec::new();
        for (item, (variables, shown)) in rounds.iter().enumerate() {
            if let Some(when) = &plan.when
                && !self.templates.holds(when, variables)?
            {
                continue;
            }
            let action = |spec| PlannedAction {
                name: plan.name.clone(),
                cooldown_hours: plan.cooldown_hours,
                spec,
                position: ActionPosition { action: index, item },
            };
            if let ActionTemplate::MoveDeal(stage) = &plan.spec {
                let deals = on.iter().map(|deal| (deal.clone(), action(ActionSpec::MoveDeal(stage.clone()))));
                actions.extend(deals);
            } else if let Some(spec) = self.action_spec(&plan.spec, &on, shown, now)? {
                actions.push((context.record().clone(), action(spec)));
            }
        }
        Ok(actions)
    }

    /// The spec of an action on the record that the playbook is about. `None` when there is no record with which the
    /// task or note could be associated.
    fn action_spec(
        &self,
        template: &ActionTemplate,
        associations: &[RecordRef],
        variables: &Variables,
        now: &LocalTime,
    ) -> Result<Option<ActionSpec>, TemplateError> {
        let fill = |text: &TextTemplate| self.templates.fill(text, variables).map(truncate_for_hubspot);
        let shown = |text: String| truncate_for_hubspot(self.shown_text(text));
        let optional = |text: &Option<TextTemplate>| text.as_ref().map(fill).transpose().map(Option::unwrap_or_default);
        Ok(match template {
            ActionTemplate::Notify { channel, text } => {
                Some(ActionSpec::Notify { channel: channel.clone(), text: fill(text)? })
            }
            _ if associations.is_empty() => None,
            ActionTemplate::CreateNote { body } => {
                Some(ActionSpec::CreateNote { body: shown(fill(body)?), associations: associations.to_vec() })
            }
            ActionTemplate::CreateTask { subject, body, owner, due, due_in_hours, priority, task_type } => {
                let default_due = now.now + time::Duration::hours(i64::from(*due_in_hours));
                Some(ActionSpec::CreateTask(Task {
                    subject: shown(fill(subject)?),
                    body: shown(optional(body)?),
                    priority: *priority,
                    task_type: *task_type,
                    owner: Some(optional(owner)?).filter(|owner| !owner.is_empty()),
                    due: parse_due(&optional(due)?, now).unwrap_or(default_due),
                    associations: associations.to_vec(),
                }))
            }
            ActionTemplate::MoveDeal(_) => None,
        })
    }

    fn metadata(&self, metadata: InferenceMetadata, now: OffsetDateTime, model: &str) -> String {
        match metadata {
            InferenceMetadata::ProcessedAt => now
                // HubSpot stores times in milliseconds.
                .replace_nanosecond(u32::from(now.millisecond()) * 1_000_000)
                .unwrap_or(now)
                .format(&Rfc3339)
                .unwrap_or_default(),
            InferenceMetadata::Model => model.to_owned(),
            InferenceMetadata::Playbook => format!("{}@{}", self.name, self.version),
        }
    }
}

/// The records at `paths`, each once: two paths may lead to the same record.
fn records_at(context: &Context, paths: &[RecordPath]) -> Vec<RecordRef> {
    let mut records: Vec<RecordRef> = Vec::new();
    for found in paths.iter().flat_map(|path| context.records_at(path)) {
        if !records.contains(&found.record) {
            records.push(found.record.clone());
        }
    }
    records
}

/// Parses a day, at whose end the task is due, or a time; `None` for anything else, for example a 31st of February.
fn parse_due(text: &str, now: &LocalTime) -> Option<OffsetDateTime> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(at.to_offset(time::UtcOffset::UTC));
    }
    Date::parse(text, &Iso8601::DATE).ok().map(|day| now.end_of(day))
}
