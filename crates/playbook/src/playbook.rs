//! A playbook: its parts, and which events and records it applies to.

use std::collections::{BTreeMap, BTreeSet};

use domain::{DriftRate, Event, ObjectType, review::WriteMode};

use crate::{
    effects::{ActionPlan, ActionTemplate, PropertyWrite, ReviewPlan},
    evidence::UnverifiedPolicy,
    fields::AnswerFields,
    gate::Gate,
    masking::Masking,
    model::ModelOptions,
    prompt::PromptTemplates,
    reads::ContextPlan,
    templates::{Condition, TemplateError, Templates, Variables},
    trigger::Trigger,
    variables::event_variable,
};

/// What an operator wants to be done for certain events.
///
/// It has more than eight fields because it is the whole playbook file: three fields identify it, the other public ones
/// are one for each of its parts.
#[derive(Debug)]
pub struct Playbook {
    /// The name, under which the ledger stores inferences.
    pub name: String,
    /// The first 12 hex digits of the SHA-256 of the file.
    pub version: String,
    /// What the playbook is for, in the operator's words.
    pub description: String,
    /// Which events and records it applies to.
    pub selection: Selection,
    /// What is read from HubSpot.
    pub context: ContextPlan,
    /// Which model is asked, and how.
    pub model: ModelOptions,
    /// What the model is asked.
    pub prompt: PromptTemplates,
    /// What the model does not read.
    pub masking: Masking,
    /// What the model has to answer.
    pub answer: AnswerRules,
    /// What is written and done.
    pub effects: Effects,
    /// What of it is reviewed first.
    pub review: ReviewPlan,
    /// What a version has to show before it runs; `None`: nothing.
    pub gate: Option<Gate>,
    /// The bounds of its rates in percent, where they are others than those of the settings.
    pub drift: BTreeMap<DriftRate, f64>,
    /// The compiled conditions and texts of all parts.
    pub(crate) templates: Templates,
}

/// Which events and records a playbook applies to.
#[derive(Debug)]
pub struct Selection {
    /// The types of the records that the playbook is about.
    pub records: Vec<ObjectType>,
    /// The events that start it.
    pub triggers: Vec<Trigger>,
    /// An event of an engagement starts the playbook for the records that are associated with the engagement: for at
    /// most so many of each type.
    pub max_records_per_event: usize,
    /// The conditions under which nothing is done.
    pub guards: Vec<Guard>,
}

/// A condition under which the model is not asked and nothing is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The condition on the record.
    pub when: Condition,
    /// The guard's name in `snake_case`, which the ledger shows for an event that it stopped.
    pub name: String,
}

/// What the model has to answer.
#[derive(Debug)]
pub struct AnswerRules {
    /// The fields of the answer.
    pub fields: AnswerFields,
    /// What is done with a field whose quotation is not in the context.
    pub unverified: UnverifiedPolicy,
}

/// What is done with an answer.
#[derive(Debug)]
pub struct Effects {
    /// The properties that are written.
    pub writes: Vec<PropertyWrite>,
    /// What is done beyond properties.
    pub actions: Vec<ActionPlan>,
    /// Whether a text that a spreadsheet would run is written in a form that it shows; true unless an operator decides
    /// otherwise.
    pub escapes_formulas: bool,
}

impl Playbook {
    /// Whether a version has to pass the playbook's gate before it runs. One in review or in shadow writes nothing by itself.
    pub fn is_gated(&self) -> bool {
        self.gate.is_some() && self.review.mode == WriteMode::Live
    }

    /// Whether `event` may start this playbook. A trigger whose condition needs the record counts as a match, because
    /// the record is not read yet.
    ///
    /// # Errors
    /// When a condition cannot be evaluated for this event.
    pub fn may_be_triggered_by(&self, event: &Event) -> Result<bool, TemplateError> {
        self.any_trigger(event, |condition| {
            if condition.needs_record {
                return Ok(true);
            }
            let variables = Variables::default().with("event", &event_variable(event));
            self.templates.holds(condition, &variables)
        })
    }

    /// Whether `event` starts this playbook. `variables` are those of the records that were read.
    ///
    /// # Errors
    /// When a condition cannot be evaluated for these records.
    pub fn is_triggered_by(&self, event: &Event, variables: &Variables) -> Result<bool, TemplateError> {
        self.any_trigger(event, |condition| self.templates.holds(condition, variables))
    }

    fn any_trigger(
        &self,
        event: &Event,
        holds: impl Fn(&Condition) -> Result<bool, TemplateError>,
    ) -> Result<bool, TemplateError> {
        for trigger in self.selection.triggers.iter().filter(|trigger| trigger.matches(event)) {
            match &trigger.when {
                None => return Ok(true),
                Some(condition) if holds(condition)? => return Ok(true),
                Some(_) => {}
            }
        }
        Ok(false)
    }

    /// Whether this playbook need not run for an older event of a record because it will run for `newer`, an event of
    /// the same record, and will then read the newest state. Only a trigger without a condition makes that certain.
    pub fn is_superseded_by(&self, newer: &Event) -> bool {
        self.selection.triggers.iter().any(|trigger| trigger.when.is_none() && trigger.matches(newer))
    }

    /// Whether the playbook writes to or acts on records that the enriched one is associated with, and none of them is there.
    pub fn lacks_targets(&self, context: &crate::Context) -> bool {
        let effects = &self.effects;
        let paths = effects.writes.iter().flat_map(|write| &write.to).chain(effects.actions.iter().flat_map(|a| &a.on));
        let kind = &context.record().object_type;
        let mut targets = paths.filter(|path| path.start() == kind && path.steps() > 0).peekable();
        targets.peek().is_some() && targets.all(|path| context.records_at(path).next().is_none())
    }

    /// The properties that are read and not shown to the model, with the type of their records.
    pub fn denied_properties(&self) -> impl Iterator<Item = (ObjectType, String)> {
        let kinds = self.context.kinds();
        kinds.into_iter().flat_map(|kind| self.masking.deny.iter().map(move |name| (kind.clone(), name.clone())))
    }

    /// The first guard whose condition holds, in the file's order.
    ///
    /// # Errors
    /// When a guard cannot be evaluated for these records.
    pub fn first_matching_guard(&self, variables: &Variables) -> Result<Option<&Guard>, TemplateError> {
        for guard in &self.selection.guards {
            if self.templates.holds(&guard.when, variables)? {
                return Ok(Some(guard));
            }
        }
        Ok(None)
    }

    /// The properties that this playbook writes, with the type of their records. A change of one of them must not start
    /// a playbook, because it may be the fleet's own write.
    pub fn written_properties(&self) -> BTreeSet<(ObjectType, &str)> {
        let mut properties = BTreeSet::new();
        for write in &self.effects.writes {
            properties.extend(write.to.iter().map(|path| (path.end().clone(), write.property.as_str())));
        }
        if self.effects.actions.iter().any(|action| matches!(action.spec, ActionTemplate::MoveDeal(_))) {
            properties.insert((ObjectType::Deal, "dealstage"));
        }
        properties
    }

    /// The types of engagements that the actions create.
    pub fn created_engagements(&self) -> BTreeSet<ObjectType> {
        let created = self.effects.actions.iter().filter_map(|action| match action.spec {
            ActionTemplate::CreateTask { .. } => Some(ObjectType::Task),
            ActionTemplate::CreateNote { .. } => Some(ObjectType::Note),
            ActionTemplate::MoveDeal(_) | ActionTemplate::Notify { .. } => None,
        });
        created.collect()
    }
}
