//! The variables that the conditions and texts of a playbook may use, and sample values for them.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Event, ObjectType};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::{
    context::{Context, ContextRecord},
    fields::{AnswerField, FieldKind},
    reads::ContextPlan,
    review,
    templates::{SampleVariables, Variables},
};

/// The variable `event` for an event.
pub fn event_variable(event: &Event) -> Value {
    json!({
        "type": event.subscription_type(),
        "property": event.property_name,
        "value": event.payload.get("propertyValue").filter(|value| !is_redacted(value)),
        "source": event.change_source,
        "occurred_at": event.occurred_at.unix_timestamp(),
    })
}

/// Whether HubSpot shows this instead of a sensitive property's value (HubSpot's guide to sensitive data).
fn is_redacted(value: &Value) -> bool {
    value == "REDACTED"
}

/// The variable `event` for an inference that an operator starts without an event.
pub fn manual_event_variable(now: OffsetDateTime) -> Value {
    json!({"type": "manual", "property": null, "value": null, "source": null, "occurred_at": now.unix_timestamp()})
}

/// Adds the variable `record`, and for every type of record that is read two more: the first record of the type
/// (`contact`) and all of them (`contacts`). Those that are not used are left out: to make them takes longer than to use them.
/// Properties in `denied` are there and have no value.
pub(crate) fn record_variables(
    plan: &ContextPlan,
    context: &Context,
    used: &BTreeSet<String>,
    denied: &BTreeSet<String>,
    mut variables: Variables,
) -> Variables {
    let is_used = |name: &str| used.contains(name);
    let enriched = &context.records[0];
    if is_used("record") {
        let names = plan.properties_of(enriched.path.end());
        variables = variables.with("record", &record_variable(enriched, &names, denied));
    }
    for kind in plan.kinds().into_iter().filter(|kind| is_used(kind.name()) || is_used(kind.path())) {
        let names = plan.properties_of(&kind);
        let mut records: Vec<Value> = Vec::new();
        for record in context.records.iter().filter(|record| record.record.object_type == kind) {
            let variable = record_variable(record, &names, denied);
            // Two paths may lead to the same record.
            if !records.iter().any(|seen| seen["id"] == variable["id"]) {
                records.push(variable);
            }
        }
        let first = records.first().cloned().unwrap_or_else(|| Value::Object(empty_record(&kind, &names)));
        variables = variables.with(kind.name(), &first).with(kind.path(), &Value::Array(records));
    }
    variables
}

fn record_variable(record: &ContextRecord, names: &BTreeSet<&str>, denied: &BTreeSet<String>) -> Value {
    let reference = &record.record;
    let mut variable = empty_record(&reference.object_type, names);
    for (name, value) in record.properties.iter().filter(|(name, _)| !denied.contains(*name)) {
        set(&mut variable, name, value.as_deref().into());
    }
    set(&mut variable, "id", reference.object_id.to_string().into());
    set(&mut variable, "merged", record.merged.into());
    set(&mut variable, "archived", record.archived.into());
    // The record's page. For portals in other data centres HubSpot redirects from this host to theirs.
    let page = format!(
        "https://app.hubspot.com/contacts/{}/record/{}/{}",
        reference.portal_id,
        reference.object_type.type_id(),
        reference.object_id
    );
    set(&mut variable, "url", page.into());
    Value::Object(variable)
}

/// Sets a value whose name is nearly always there already, and need not be copied then.
fn set(variable: &mut Map<String, Value>, name: &str, value: Value) {
    match variable.get_mut(name) {
        Some(known) => *known = value,
        None => drop(variable.insert(name.to_owned(), value)),
    }
}

/// The variable of a record that does not exist: all names are defined, and none has a value.
fn empty_record(kind: &ObjectType, names: &BTreeSet<&str>) -> Map<String, Value> {
    let mut variable: Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    variable.insert("kind".to_owned(), json!(kind.name()));
    for name in ["id", "url"] {
        variable.insert(name.to_owned(), Value::Null);
    }
    for name in ["merged", "archived"] {
        variable.insert(name.to_owned(), json!(false));
    }
    variable
}

/// Which variables a condition or text may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope<'a> {
    /// The event and the records.
    Records,
    /// These and the answer.
    Answer,
    /// These and `item`, an item of the list field with this name.
    Item(&'a str),
    /// These, without `item`, and what is known of a proposal that may set these properties.
    Proposal(&'a [String]),
}

/// The parts of a playbook from which its sample variables are made.
pub(crate) struct Samples {
    /// The names of the properties of each type of record that is read.
    properties: BTreeMap<ObjectType, BTreeSet<String>>,
    /// The types of the records that the playbook is about.
    records: Vec<ObjectType>,
    fields: Vec<AnswerField>,
}

impl Samples {
    pub(crate) fn new(plan: &ContextPlan, records: &[ObjectType], fields: &[AnswerField]) -> Self {
        let names_of = |kind: &ObjectType| plan.properties_of(kind).into_iter().map(ToOwned::to_owned).collect();
        let properties = plan.kinds().into_iter().map(|kind| (kind.clone(), names_of(&kind))).collect();
        Self { properties, records: records.to_vec(), fields: fields.to_vec() }
    }

    /// The sample variables for a condition or text in `scope`.
    pub(crate) fn variables(&self, scope: Scope) -> SampleVariables {
        let have_answer = scope != Scope::Records;
        SampleVariables { have_answer, filled: self.fill(scope, true), empty: self.fill(scope, false) }
    }

    fn fill(&self, scope: Scope, filled: bool) -> Variables {
        let record = |kind: &ObjectType, names: &BTreeSet<String>| {
            let mut record = empty_record(kind, &names.iter().map(String::as_str).collect());
            if filled {
                names.iter().for_each(|name| record[name.as_str()] = json!("1"));
                record["id"] = json!("1");
                record["url"] = json!("https://example.com");
            }
            Value::Object(record)
        };
        let event = json!({"type": "contact.creation", "property": filled.then_some("x"),
            "value": filled.then_some("1"), "source": filled.then_some("CRM_UI"), "occurred_at": 0});
        let mut variables = Variables::default().with("event", &event);
        if let Some(kind) = self.records.first() {
            variables = variables.with("record", &record(kind, &self.common_properties()));
        }
        for (kind, names) in &self.properties {
            let one = record(kind, names);
            let all = if filled { json!([one]) } else { json!([]) };
            variables = variables.with(kind.name(), &one).with(kind.path(), &all);
        }
        if scope != Scope::Records {
            variables = variables.with("answer", &sample_answer(&self.fields, filled));
        }
        if let Scope::Proposal(properties) = scope {
            variables = review::sample_variables(variables, properties, filled);
        }
        if let Scope::Item(list) = scope
            && let Some(AnswerField { kind: FieldKind::List { items, .. }, .. }) =
                self.fields.iter().find(|field| field.name == list)
        {
            variables = variables.with("item", &sample_answer(items, filled));
        }
        variables
    }

    /// The properties that are read of every type of record that the playbook is about. `record` may be of any of these
    /// types, so only these names are safe for it.
    fn common_properties(&self) -> BTreeSet<String> {
        let of = |kind: &ObjectType| self.properties.get(kind).cloned().unwrap_or_default();
        let sets = self.records.iter().map(of);
        sets.reduce(|common, other| common.intersection(&other).cloned().collect()).unwrap_or_default()
    }
}

fn sample_answer(fields: &[AnswerField], filled: bool) -> Value {
    let sample = |field: &AnswerField| {
        let value = match &field.kind {
            // A field whose quotation is not found becomes null, too.
            _ if !filled && (field.optional || field.evidence) => Value::Null,
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
    Value::Object(fields.iter().map(sample).collect())
}
