//! Conditions and texts of a playbook: minijinja's expressions over the event, the records and the answer.
//!
//! Every template is rendered at start with samples, once with everything filled and once with nothing, so that a
//! misspelt name is found there and not in the middle of the night.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use minijinja::{Environment, UndefinedBehavior, Value};
use serde_json::{Map, json};

use super::{ContextPlan, Field, FieldKind};
use domain::{Event, ObjectType};

use crate::context::{Context, ContextRecord};

/// A condition, by its name among the playbook's templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub(super) template: String,
    /// As it is written in the file.
    pub source: String,
    /// Whether the event alone decides it, so that nothing has to be read first.
    pub needs_record: bool,
}

/// A text with variables, by its name among the playbook's templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub(super) template: String,
}

/// What went wrong with a template.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// 1-based, within the template.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl TemplateError {
    fn from(error: &minijinja::Error) -> Self {
        let detail = error.detail().map_or_else(|| error.kind().to_string(), ToOwned::to_owned);
        Self { line: error.line().unwrap_or(1), message: detail }
    }
}

/// The variables that a template sees.
#[derive(Debug, Clone, Default)]
pub struct Variables(BTreeMap<Arc<str>, Value>);

impl Variables {
    /// The same with one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: &serde_json::Value) -> Self {
        // Once for all templates: copies of the result share it.
        self.0.insert(name.into(), Value::from(minijinja::value::Serde(value)));
        self
    }

    fn as_value(&self) -> Value {
        Value::from_pairs(self.0.iter().map(|(name, value)| (name.clone(), value.clone())))
    }
}

/// A playbook's conditions and texts, compiled.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
}

/// Which variables there are at a place of a playbook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope<'a> {
    /// The event and the records.
    Records,
    /// Also the answer.
    Answer,
    /// Also `item`, one of a list field's items.
    Item(&'a str),
}

impl Templates {
    pub(super) fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        Self { environment }
    }

    /// Adds a condition and tries it with the samples.
    pub(super) fn condition(
        &mut self,
        name: &str,
        source: &str,
        samples: &Samples,
        scope: Scope,
    ) -> Result<Condition, TemplateError> {
        let variables = match self.environment.compile_expression(source) {
            Ok(expression) => expression.undeclared_variables(false),
            Err(error) => return Err(TemplateError::from(&error)),
        };
        self.add(name, format!("{{% if {source} %}}true{{% endif %}}"), samples, scope)?;
        let needs_record = variables.iter().any(|variable| variable != "event");
        Ok(Condition { template: name.to_owned(), source: source.to_owned(), needs_record })
    }

    /// Adds a text and tries it with the samples.
    pub(super) fn text(
        &mut self,
        name: &str,
        source: &str,
        samples: &Samples,
        scope: Scope,
    ) -> Result<Text, TemplateError> {
        self.add(name, source.to_owned(), samples, scope)?;
        Ok(Text { template: name.to_owned() })
    }

    fn add(&mut self, name: &str, source: String, samples: &Samples, scope: Scope) -> Result<(), TemplateError> {
        self.environment.add_template_owned(name.to_owned(), source).map_err(|error| TemplateError::from(&error))?;
        for filled in [true, false] {
            self.render(name, &samples.variables(scope, filled)).map_err(|error| {
                let state = if filled { "has a value" } else { "is empty" };
                let hint = if filled { "" } else { "; say what then, for example `(x or 0)`" };
                TemplateError { message: format!("{} (when everything {state}{hint})", error.message), ..error }
            })?;
        }
        Ok(())
    }

    /// Whether `condition` holds.
    pub fn holds(&self, condition: &Condition, variables: &Variables) -> Result<bool, TemplateError> {
        Ok(!self.render(&condition.template, variables)?.is_empty())
    }

    /// The text with its variables filled in, trimmed.
    pub fn fill(&self, text: &Text, variables: &Variables) -> Result<String, TemplateError> {
        Ok(self.render(&text.template, variables)?.trim().to_owned())
    }

    fn render(&self, name: &str, variables: &Variables) -> Result<String, TemplateError> {
        let template = self.environment.get_template(name).map_err(|error| TemplateError::from(&error))?;
        template.render(variables.as_value()).map_err(|error| TemplateError::from(&error))
    }
}

/// The variable `event`.
pub fn event_variable(event: &Event) -> serde_json::Value {
    json!({
        "type": event.subscription_type(),
        "property": event.property_name,
        "value": event.payload.get("propertyValue"),
        "source": event.change_source,
        "occurred_at": event.occurred_at.unix_timestamp(),
    })
}

/// The variables `record`, and for every kind that is read the first record of it (`contact`) and all of them
/// (`contacts`).
pub(super) fn record_variables(plan: &ContextPlan, context: &Context, variables: Variables) -> Variables {
    let own = &context.records[0];
    let mut variables = variables.with("record", &record_variable(own, &plan.properties_of(own.path.end())));
    for kind in plan.kinds() {
        let names = plan.properties_of(&kind);
        let mut records: Vec<_> = Vec::new();
        for known in context.records.iter().filter(|known| known.record.object_type == kind) {
            let variable = record_variable(known, &names);
            // Two paths may lead to the same record.
            if !records.iter().any(|seen: &serde_json::Value| seen["id"] == variable["id"]) {
                records.push(variable);
            }
        }
        let first = records.first().cloned().unwrap_or_else(|| absent(&kind, &names));
        variables = variables.with(kind.name(), &first).with(kind.path(), &serde_json::Value::Array(records));
    }
    variables
}

fn record_variable(known: &ContextRecord, names: &BTreeSet<String>) -> serde_json::Value {
    let record = &known.record;
    let mut variable = absent(&record.object_type, names);
    for (name, value) in &known.properties {
        variable[name.as_str()] = json!(value);
    }
    variable["id"] = json!(record.object_id.to_string());
    variable["merged"] = json!(known.merged);
    variable["archived"] = json!(known.archived);
    // The page of a record; HubSpot sends people of other data centres on to their own address.
    variable["url"] = json!(format!(
        "https://app.hubspot.com/contacts/{}/record/{}/{}",
        record.portal_id,
        record.object_type.type_id(),
        record.object_id
    ));
    variable
}

fn absent(kind: &ObjectType, names: &BTreeSet<String>) -> serde_json::Value {
    let mut variable: Map<String, serde_json::Value> =
        names.iter().map(|name| (name.clone(), serde_json::Value::Null)).collect();
    variable.insert("kind".to_owned(), json!(kind.name()));
    for name in ["id", "url"] {
        variable.insert(name.to_owned(), serde_json::Value::Null);
    }
    for name in ["merged", "archived"] {
        variable.insert(name.to_owned(), json!(false));
    }
    serde_json::Value::Object(variable)
}

/// What templates are tried with.
pub(super) struct Samples {
    kinds: BTreeMap<ObjectType, BTreeSet<String>>,
    own: Vec<ObjectType>,
    fields: Vec<Field>,
}

impl Samples {
    pub(super) fn new(plan: &ContextPlan, own: &[ObjectType], fields: &[Field]) -> Self {
        let kinds = plan.kinds().into_iter().map(|kind| (kind.clone(), plan.properties_of(&kind))).collect();
        Self { kinds, own: own.to_vec(), fields: fields.to_vec() }
    }

    fn variables(&self, scope: Scope, filled: bool) -> Variables {
        let record = |kind: &ObjectType, names: &BTreeSet<String>| {
            let mut record = absent(kind, names);
            if filled {
                names.iter().for_each(|name| record[name.as_str()] = json!("1"));
                record["id"] = json!("1");
                record["url"] = json!("https://example.com");
            }
            record
        };
        let event = json!({"type": "contact.creation", "property": filled.then_some("x"),
            "value": filled.then_some("1"), "source": filled.then_some("CRM_UI"), "occurred_at": 0});
        let mut variables = Variables::default().with("event", &event);
        // A name of one kind only is no safe name of `record`, which may be of any of the playbook's kinds.
        let mut own: BTreeSet<String> =
            self.own.first().and_then(|kind| self.kinds.get(kind)).cloned().unwrap_or_default();
        for kind in &self.own[1.min(self.own.len())..] {
            let names = self.kinds.get(kind).cloned().unwrap_or_default();
            own.retain(|name| names.contains(name));
        }
        if let Some(kind) = self.own.first() {
            variables = variables.with("record", &record(kind, &own));
        }
        for (kind, names) in &self.kinds {
            let one = record(kind, names);
            let all = if filled { json!([one]) } else { json!([]) };
            variables = variables.with(kind.name(), &one).with(kind.path(), &all);
        }
        if scope != Scope::Records {
            variables = variables.with("answer", &sample_answer(&self.fields, filled));
        }
        if let Scope::Item(list) = scope
            && let Some(Field { kind: FieldKind::List { items, .. }, .. }) =
                self.fields.iter().find(|field| field.name == list)
        {
            variables = variables.with("item", &sample_answer(items, filled));
        }
        variables
    }
}

fn sample_answer(fields: &[Field], filled: bool) -> serde_json::Value {
    let sample = |field: &Field| {
        let value = match &field.kind {
            // Evidence that is not found makes a field null, too.
            _ if !filled && (field.optional || field.evidence) => serde_json::Value::Null,
            FieldKind::Integer { minimum, .. } => json!(minimum),
            FieldKind::Number { minimum, .. } => json!(minimum),
            FieldKind::Text { .. } => json!("text"),
            FieldKind::Date => json!("2026-01-31"),
            FieldKind::Boolean => json!(true),
            FieldKind::Choice { options } => json!(options.first()),
            FieldKind::List { .. } if !filled => json!([]),
            FieldKind::List { items, .. } => json!([sample_answer(items, filled)]),
        };
        (field.name.clone(), value)
    };
    serde_json::Value::Object(fields.iter().map(sample).collect())
}
