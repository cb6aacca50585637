//! Associations v4: which notes belong to which contacts.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use domain::ObjectType;
use serde::Deserialize;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Shared, answer, errors, objects::parse};
use crate::lock;

/// HubSpot pages them by this many.
const PAGE: usize = 500;

/// HubSpot's bound on a batch.
const MAX_BATCH: usize = 1_000;

/// From a contact to a note (`HUBSPOT_DEFINED`; 202 is the way back).
const CONTACT_TO_NOTE: u32 = 201;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    id: String,
    after: Option<String>,
}

pub(super) async fn batch_read(
    State(sandbox): Shared,
    Path((from, to)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(&sandbox, &headers, "crm.objects.contacts.read", || {
        if (ObjectType::from(from), ObjectType::from(to)) != (ObjectType::Contact, ObjectType::Note) {
            return Err(errors::validation("the sandbox ties contacts to notes only"));
        }
        let body = parse::<Body>(&body)?;
        if body.inputs.is_empty() || body.inputs.len() > MAX_BATCH {
            return Err(errors::validation(&format!("The inputs must hold 1 to {MAX_BATCH} entries")));
        }
        let portal = lock(&sandbox.portal);
        let (mut results, mut without) = (Vec::new(), Vec::new());
        for input in body.inputs {
            let notes = input.id.parse().map(|id| portal.notes_of(id)).unwrap_or_default();
            if notes.is_empty() {
                without.push(input.id);
                continue;
            }
            let start = input.after.and_then(|after| after.parse().ok()).unwrap_or(0).min(notes.len());
            let end = (start + PAGE).min(notes.len());
            let to: Vec<_> = notes[start..end]
                .iter()
                .map(|id| {
                    json!({"toObjectId": id.to_string(), "associationTypes":
                        [{"category": "HUBSPOT_DEFINED", "typeId": CONTACT_TO_NOTE}]})
                })
                .collect();
            let mut result = json!({"from": {"id": input.id}, "to": to});
            if end < notes.len() {
                result["paging"] = json!({"next": {"after": end.to_string()}});
            }
            results.push(result);
        }
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let mut listed = json!({"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now});
        if without.is_empty() {
            return Ok(Json(listed).into_response());
        }
        listed["numErrors"] = json!(without.len());
        let error = |id: String| {
            json!({"status": "error", "category": "OBJECT_NOT_FOUND",
                "message": format!("No contact is associated with note from {id}."), "context": {"fromObjectId": [id]},
                "errors": [], "links": {}})
        };
        listed["errors"] = without.into_iter().map(error).collect();
        Ok((StatusCode::MULTI_STATUS, Json(listed)).into_response())
    })
}
