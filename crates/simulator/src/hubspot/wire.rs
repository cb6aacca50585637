//! Request bodies as HubSpot reads them, and records as it shows them.

use std::collections::{BTreeMap, HashMap};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::ObjectType;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    errors,
    portal::{Portal, Record, RecordedChange},
};

/// The most inputs of one batch call on objects (HubSpot's documentation of batch endpoints).
pub(super) const MAX_BATCH: usize = 100;

/// A record's id as an input of a batch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Id {
    pub(super) id: String,
}

/// Reads a request body, or answers 400 as HubSpot does.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Response> {
    serde_json::from_slice(body).map_err(|error| {
        errors::validation(&format!("Invalid input JSON on line {}, column {}: {error}", error.line(), error.column()))
    })
}

/// Answers 400 unless a batch has 1 to [`MAX_BATCH`] inputs.
pub(super) fn check_count(found: usize) -> Result<(), Response> {
    if (1..=MAX_BATCH).contains(&found) {
        return Ok(());
    }
    Err(errors::validation(&format!("The inputs must hold 1 to {MAX_BATCH} entries, found {found}")))
}

/// Property values as HubSpot stores them: numbers and booleans become text, and null clears a value.
pub(super) fn texts(properties: BTreeMap<String, Value>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    };
    properties.into_iter().map(|(name, value)| (name, text(value))).collect()
}

/// The email properties that only the scope `sales-email-read` shows.
const BODIES: [&str; 4] = ["hs_email_subject", "hs_email_text", "hs_email_html", "hs_email_headers"];

/// A record as HubSpot's API shows it: the properties `names`, and the history of those in `history`.
pub(super) fn record_json(
    portal: &Portal,
    object_type: &ObjectType,
    id: i64,
    record: &Record,
    names: &[String],
    history: &[String],
) -> Value {
    let time = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    // HubSpot leaves unknown names out; a known property without a value is null.
    let known = |name: &&String| portal.definitions.get(object_type, name).is_some() || record.derived(name).is_some();
    let redacts = portal.redacts_emails && *object_type == ObjectType::Email;
    let value_of = |name: &String| match record.properties.get(name) {
        Some(_) if redacts && BODIES.contains(&name.as_str()) => json!(""),
        // A property that was cleared is "", one that was never set null. HubSpot documents neither; public connectors report it
        // (estuary/connectors issue 4272, HubSpot/hubspot-api-nodejs issue 324).
        Some(value) if value.is_empty() && portal.quirks.null_for_cleared => Value::Null,
        Some(value) => json!(value),
        None => json!(record.derived(name)),
    };
    let mut properties: HashMap<&str, Value> =
        names.iter().filter(known).map(|name| (name.as_str(), value_of(name))).collect();
    let id = portal.surviving(object_type, id);
    properties.insert("hs_object_id", json!(id.to_string()));
    let mut body = json!({"id": id.to_string(), "properties": properties, "createdAt": time(record.created),
        "updatedAt": time(record.updated), "archived": false});
    if !history.is_empty() {
        let past = |name: &String| -> Value {
            let changes = record.changes.iter().rev().filter(|change| change.property == *name);
            let entry = |change: &RecordedChange| {
                let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(change.at_ms) * 1_000_000);
                json!({"value": change.value, "timestamp": at.map(time).unwrap_or_default(),
                    "sourceType": change.source, "sourceId": change.source_id})
            };
            changes.map(entry).collect()
        };
        let history: HashMap<&str, Value> =
            history.iter().filter(known).map(|name| (name.as_str(), past(name))).collect();
        body["propertiesWithHistory"] = json!(history);
    }
    body
}

/// The answer of a batch call on objects: 200, or 207 when some ids were not found.
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
