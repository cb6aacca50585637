//! CRM objects: read, batch read, patch, batch update.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use domain::ObjectType;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Shared, answer, errors,
    portal::{Author, Object, Portal},
    scope, values,
};
use crate::{Simulator, lock};

/// HubSpot's bound on a batch.
const MAX_BATCH: usize = 100;

#[derive(Deserialize)]
pub(super) struct ReadQuery {
    #[serde(default)]
    properties: String,
}

pub(super) async fn read(
    State(simulator): Shared,
    Path((object_type, id)): Path<(String, String)>,
    Query(query): Query<ReadQuery>,
    headers: HeaderMap,
) -> Response {
    let object_type = ObjectType::from(object_type);
    let scope = scope(&object_type, "read");
    answer(&simulator, &headers, &scope, || {
        let names: Vec<_> =
            query.properties.split(',').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect();
        let portal = lock(&simulator.portal);
        let found = id.parse().ok().and_then(|id: i64| Some((id, portal.get(&object_type, id)?)));
        let (id, object) = found.ok_or_else(|| errors::object_not_found(&id))?;
        Ok(Json(shown(&portal, &object_type, id, object, &names, &[])).into_response())
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PatchBody {
    properties: BTreeMap<String, Value>,
}

pub(super) async fn update(
    State(simulator): Shared,
    Path((object_type, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let object_type = ObjectType::from(object_type);
    let scope = scope(&object_type, "write");
    answer(&simulator, &headers, &scope, || {
        let body = parse::<PatchBody>(&body)?;
        let mut portal = lock(&simulator.portal);
        let numeric = id.parse().ok().filter(|id| portal.get(&object_type, *id).is_some());
        let id: i64 = numeric.ok_or_else(|| errors::object_not_found(&id))?;
        let values = texts(body.properties);
        let problems = values::problems(&portal, &object_type, &values);
        if !problems.is_empty() {
            return Err(errors::invalid_values(&problems));
        }
        write(&simulator, &mut portal, &object_type, id, &values);
        let names: Vec<_> = values.keys().cloned().collect();
        let object = portal.get(&object_type, id).ok_or_else(|| errors::object_not_found(&id.to_string()))?;
        Ok(Json(shown(&portal, &object_type, id, object, &names, &[])).into_response())
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BatchReadBody {
    inputs: Vec<Id>,
    properties: Vec<String>,
    // The OpenAPI file requires it.
    properties_with_history: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Id {
    pub(super) id: String,
}

pub(super) async fn batch_read(
    State(simulator): Shared,
    Path(object_type): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let object_type = ObjectType::from(object_type);
    let scope = scope(&object_type, "read");
    answer(&simulator, &headers, &scope, || {
        let body = parse::<BatchReadBody>(&body)?;
        check_inputs(body.inputs.iter().map(|input| &input.id))?;
        if !body.properties_with_history.is_empty() && body.inputs.len() > MAX_BATCH / 2 {
            return Err(errors::validation("With propertiesWithHistory the inputs must hold at most 50 entries"));
        }
        let portal = lock(&simulator.portal);
        let (mut results, mut missing) = (Vec::new(), Vec::new());
        for Id { id } in body.inputs {
            let found = id.parse().ok().and_then(|id: i64| Some((id, portal.get(&object_type, id)?)));
            match found {
                Some((id, object)) => {
                    let history = &body.properties_with_history;
                    results.push(shown(&portal, &object_type, id, object, &body.properties, history));
                }
                None => missing.push(id),
            }
        }
        Ok(batch_answer(&results, &missing))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchUpdateBody {
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    id: String,
    properties: BTreeMap<String, Value>,
}

pub(super) async fn batch_update(
    State(simulator): Shared,
    Path(object_type): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let object_type = ObjectType::from(object_type);
    let scope = scope(&object_type, "write");
    answer(&simulator, &headers, &scope, || {
        let body = parse::<BatchUpdateBody>(&body)?;
        check_inputs(body.inputs.iter().map(|input| &input.id))?;
        let mut portal = lock(&simulator.portal);
        let inputs: Vec<_> = body.inputs.into_iter().map(|input| (input.id, texts(input.properties))).collect();
        // One value that is not valid fails them all.
        let problems: Vec<_> =
            inputs.iter().flat_map(|(_, values)| values::problems(&portal, &object_type, values)).collect();
        if !problems.is_empty() {
            return Err(errors::invalid_values(&problems));
        }
        let (mut results, mut missing) = (Vec::new(), Vec::new());
        for (text, values) in inputs {
            let id = text.parse().ok().filter(|id| portal.get(&object_type, *id).is_some());
            let Some(id) = id else {
                missing.push(text);
                continue;
            };
            if portal.left_out_ids.contains(&id) {
                continue;
            }
            write(&simulator, &mut portal, &object_type, id, &values);
            let names: Vec<_> = values.keys().cloned().collect();
            if let Some(object) = portal.get(&object_type, id) {
                results.push(shown(&portal, &object_type, id, object, &names, &[]));
            }
        }
        Ok(batch_answer(&results, &missing))
    })
}

/// Writes, and tells subscribers what changed.
fn write(
    simulator: &Arc<Simulator>,
    portal: &mut Portal,
    object_type: &ObjectType,
    id: i64,
    values: &BTreeMap<String, String>,
) {
    let author = Author::app(simulator.config.app_id);
    for (property, value) in portal.update(object_type, id, values, &author) {
        simulator.webhooks.property_changed(&(object_type.clone(), portal.surviving(id)), &property, &value, &author);
    }
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Response> {
    serde_json::from_slice(body).map_err(|error| {
        errors::validation(&format!("Invalid input JSON on line {}, column {}: {error}", error.line(), error.column()))
    })
}

pub(super) fn check_count(found: usize) -> Result<(), Response> {
    if (1..=MAX_BATCH).contains(&found) {
        return Ok(());
    }
    Err(errors::validation(&format!("The inputs must hold 1 to {MAX_BATCH} entries, found {found}")))
}

fn check_inputs<'a>(ids: impl Iterator<Item = &'a String>) -> Result<(), Response> {
    let ids: Vec<_> = ids.collect();
    check_count(ids.len())?;
    let distinct: HashSet<_> = ids.iter().collect();
    if distinct.len() < ids.len() {
        return Err(errors::validation("Duplicate IDs found in batch input"));
    }
    Ok(())
}

/// HubSpot takes numbers and booleans too and keeps them as text; null clears.
pub(super) fn texts(properties: BTreeMap<String, Value>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    };
    properties.into_iter().map(|(name, value)| (name, text(value))).collect()
}

/// What the scope `sales-email-read` is for.
const BODIES: [&str; 4] = ["hs_email_subject", "hs_email_text", "hs_email_html", "hs_email_headers"];

pub(super) fn shown(
    portal: &Portal,
    object_type: &ObjectType,
    id: i64,
    object: &Object,
    names: &[String],
    history: &[String],
) -> Value {
    let time = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    // Unknown names are left out in silence; known ones without a value are null.
    let known = |name: &&String| portal.definitions.get(object_type, name).is_some() || object.derived(name).is_some();
    let redacts = portal.redacts_emails && *object_type == ObjectType::Email;
    let held = |name: &String| match object.properties.get(name) {
        Some(_) if redacts && BODIES.contains(&name.as_str()) => json!(""),
        Some(value) => json!(value),
        None => json!(object.derived(name)),
    };
    let mut properties: HashMap<&str, Value> =
        names.iter().filter(known).map(|name| (name.as_str(), held(name))).collect();
    let id = portal.surviving(id);
    properties.insert("hs_object_id", json!(id.to_string()));
    let mut shown = json!({"id": id.to_string(), "properties": properties, "createdAt": time(object.created),
        "updatedAt": time(object.updated), "archived": false});
    if !history.is_empty() {
        let past = |name: &String| -> Value {
            let changes = object.changes.iter().rev().filter(|change| change.property == *name);
            let entry = |change: &super::portal::Change| {
                let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(change.at_ms) * 1_000_000);
                json!({"value": change.value, "timestamp": at.map(time).unwrap_or_default(),
                    "sourceType": change.source, "sourceId": change.source_id})
            };
            changes.map(entry).collect()
        };
        let history: HashMap<&str, Value> =
            history.iter().filter(known).map(|name| (name.as_str(), past(name))).collect();
        shown["propertiesWithHistory"] = json!(history);
    }
    shown
}

pub(super) fn batch_answer(results: &[Value], missing: &[String]) -> Response {
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    let mut body = json!({"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now});
    if missing.is_empty() {
        return Json(body).into_response();
    }
    body["numErrors"] = json!(1);
    body["errors"] = json!([{"status": "error", "category": "OBJECT_NOT_FOUND", "message": "Could not get some objects, they may be deleted or not exist.",
        "context": {"ids": missing}, "errors": [], "links": {}}]);
    (StatusCode::MULTI_STATUS, Json(body)).into_response()
}
