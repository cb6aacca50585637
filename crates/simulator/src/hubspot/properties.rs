//! The endpoints for property definitions and property groups.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use domain::ObjectType;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    admission::{Shared, answer},
    definitions::PropertyDefinition,
    errors,
    wire::parse,
};
use crate::lock::lock;

/// The scope that reading or changing the properties of a type needs.
fn schema_scope(object_type: &ObjectType, access: &str) -> String {
    match object_type {
        ObjectType::Ticket => "tickets".to_owned(),
        ObjectType::Company | ObjectType::Deal => format!("crm.schemas.{}.{access}", object_type.path()),
        custom if custom.is_custom() => format!("crm.schemas.custom.{access}"),
        _ => format!("crm.schemas.contacts.{access}"),
    }
}

pub(super) async fn list(State(simulator): Shared, Path(object_type): Path<String>, headers: HeaderMap) -> Response {
    let object_type = ObjectType::from(object_type);
    answer(&simulator, &headers, &schema_scope(&object_type, "read"), || {
        let portal = lock(&simulator.portal);
        let all = portal.definitions.all(&object_type);
        let present = all.filter(|(name, _)| !portal.quirks.missing_properties.contains(*name));
        let results: Vec<_> =
            present.map(|(_, definition)| definition.to_json(portal.is_read_only(definition))).collect();
        Ok(Json(json!({"results": results})).into_response())
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NewProperty {
    name: String,
    label: String,
    #[serde(default)]
    description: String,
    #[serde(rename = "type")]
    kind: String,
    field_type: String,
    group_name: String,
    #[serde(default)]
    options: Vec<NewOption>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NewOption {
    #[serde(rename = "label")]
    _label: String,
    value: String,
    #[serde(default, rename = "description")]
    _description: String,
    #[serde(rename = "hidden")]
    _hidden: bool,
    #[serde(rename = "displayOrder")]
    _display_order: i32,
}

/// The field types that HubSpot allows with each type.
const FIELD_TYPES: [(&str, &[&str]); 6] = [
    ("string", &["text", "textarea", "html"]),
    ("number", &["number"]),
    ("datetime", &["date"]),
    ("date", &["date"]),
    ("enumeration", &["select", "radio", "checkbox"]),
    ("bool", &["booleancheckbox"]),
];

pub(super) async fn create(
    State(simulator): Shared,
    Path(object_type): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let object_type = ObjectType::from(object_type);
    answer(&simulator, &headers, &schema_scope(&object_type, "write"), || {
        let new = parse::<NewProperty>(&body)?;
        let mut portal = lock(&simulator.portal);
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !new.name.starts_with(|c: char| c.is_ascii_lowercase()) || !new.name.chars().all(valid) {
            return Err(errors::validation(&format!("{} is not a valid property name", new.name)));
        }
        if !FIELD_TYPES.iter().any(|(kind, fields)| *kind == new.kind && fields.contains(&new.field_type.as_str())) {
            return Err(errors::validation(&format!("{} is not a field type of {}", new.field_type, new.kind)));
        }
        if (new.kind == "enumeration") == new.options.is_empty() {
            return Err(errors::validation("an enumeration needs options, and only an enumeration may have them"));
        }
        if !portal.definitions.groups.get(&object_type).is_some_and(|groups| groups.contains(&new.group_name)) {
            return Err(errors::validation(&format!("group {} does not exist", new.group_name)));
        }
        if portal.definition(&object_type, &new.name).is_some() {
            return Err(errors::already_exists(&format!("A property named '{}' already exists.", new.name)));
        }
        let definition = PropertyDefinition {
            options: new.options.into_iter().map(|option| option.value).collect(),
            name: new.name,
            label: new.label,
            description: new.description,
            kind: new.kind,
            field_type: new.field_type,
            group: new.group_name,
            read_only: false,
        };
        let shown = definition.to_json(false);
        portal.quirks.missing_properties.remove(&definition.name);
        portal.definitions.add(&object_type, definition);
        Ok((StatusCode::CREATED, Json(shown)).into_response())
    })
}

pub(super) async fn list_groups(
    State(simulator): Shared,
    Path(object_type): Path<String>,
    headers: HeaderMap,
) -> Response {
    let object_type = ObjectType::from(object_type);
    answer(&simulator, &headers, &schema_scope(&object_type, "read"), || {
        let portal = lock(&simulator.portal);
        let groups = portal.definitions.groups.get(&object_type).into_iter().flatten().map(|name| group(name, name));
        Ok(Json(json!({"results": groups.collect::<Vec<_>>()})).into_response())
    })
}

fn group(name: &str, label: &str) -> Value {
    json!({"name": name, "label": label, "displayOrder": -1, "archived": false})
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewGroup {
    name: String,
    label: String,
}

pub(super) async fn create_group(
    State(simulator): Shared,
    Path(object_type): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let object_type = ObjectType::from(object_type);
    answer(&simulator, &headers, &schema_scope(&object_type, "write"), || {
        let new = parse::<NewGroup>(&body)?;
        let mut portal = lock(&simulator.portal);
        if !portal.definitions.groups.entry(object_type).or_default().insert(new.name.clone()) {
            return Err(errors::already_exists(&format!("A group named '{}' already exists.", new.name)));
        }
        Ok((StatusCode::CREATED, Json(group(&new.name, &new.label))).into_response())
    })
}

/// Lists the rules on values that the portal's admin has set: largest numbers, by the quirks.
pub(super) async fn list_rules(
    State(simulator): Shared,
    Path(object_type): Path<String>,
    headers: HeaderMap,
) -> Response {
    let object_type = ObjectType::from(object_type);
    answer(&simulator, &headers, &schema_scope(&object_type, "read"), || {
        let portal = lock(&simulator.portal);
        let maxima = portal.quirks.maxima.iter().filter(|(name, _)| portal.definition(&object_type, name).is_some());
        let rules = maxima.map(|(name, maximum)| {
            json!({"propertyName": name, "propertyValidationRules": [
                {"ruleType": "MAX_NUMBER", "ruleArguments": [maximum.to_string()]}]})
        });
        Ok(Json(json!({"results": rules.collect::<Vec<_>>()})).into_response())
    })
}
