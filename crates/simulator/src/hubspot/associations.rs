//! The endpoints for associations (v4 and 2026-09).

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use domain::ObjectType;
use hubspot::client::engagement_type_id;
use serde::Deserialize;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    admission::{Shared, answer_association, scope},
    errors,
    wire::parse,
};
use crate::lock::lock;

/// HubSpot shows at most this many associations of one record on a page.
const PAGE: usize = 500;

/// The most inputs of one batch read of associations.
const MAX_BATCH: usize = 1_000;

/// From, to, the default type id, and the type id of a primary association (HubSpot's documentation of associations
/// v4).
const BETWEEN_RECORDS: [(ObjectType, ObjectType, u32, Option<u32>); 10] = [
    (ObjectType::Contact, ObjectType::Company, 279, Some(1)),
    (ObjectType::Company, ObjectType::Contact, 280, Some(2)),
    (ObjectType::Deal, ObjectType::Contact, 3, None),
    (ObjectType::Contact, ObjectType::Deal, 4, None),
    (ObjectType::Deal, ObjectType::Company, 341, Some(5)),
    (ObjectType::Company, ObjectType::Deal, 342, Some(6)),
    (ObjectType::Ticket, ObjectType::Contact, 16, None),
    (ObjectType::Contact, ObjectType::Ticket, 15, None),
    (ObjectType::Ticket, ObjectType::Deal, 28, None),
    (ObjectType::Deal, ObjectType::Ticket, 27, None),
];

/// The types of which a custom object's associations are this portal's own.
const CUSTOM_TYPES: [ObjectType; 10] = [
    ObjectType::Contact,
    ObjectType::Company,
    ObjectType::Deal,
    ObjectType::Ticket,
    ObjectType::Note,
    ObjectType::Call,
    ObjectType::Email,
    ObjectType::Meeting,
    ObjectType::Task,
    ObjectType::Communication,
];

/// A type of associations, as HubSpot names it: category and id.
pub(super) type AssociationType = (&'static str, u32);

/// The types of an association; empty where there is none between these object types. Associations of custom objects have
/// types of their own in every portal and for every direction (HubSpot's guide to associations).
pub(super) fn types(from: &ObjectType, to: &ObjectType, primary: bool) -> Vec<AssociationType> {
    let custom = |other: &ObjectType, first: u32| {
        let place = CUSTOM_TYPES.iter().zip(0..).find(|(kind, _)| *kind == other);
        place.map(|(_, place)| ("USER_DEFINED", first + place)).into_iter().collect()
    };
    match (from.is_custom(), to.is_custom()) {
        (true, _) => custom(to, 5_001),
        (_, true) => custom(from, 6_001),
        _ => defined_ids(from, to, primary).into_iter().map(|id| ("HUBSPOT_DEFINED", id)).collect(),
    }
}

fn defined_ids(from: &ObjectType, to: &ObjectType, primary: bool) -> Vec<u32> {
    if let Some(id) = engagement_type_id(from, to) {
        return vec![id];
    }
    match engagement_type_id(to, from) {
        // The ids of communications are the only ones whose other direction is the next id.
        Some(id) if *to == ObjectType::Communication => return vec![id + 1],
        Some(id) => return vec![id - 1],
        None => {}
    }
    let row = BETWEEN_RECORDS.iter().find(|(one, other, ..)| one == from && other == to);
    row.map_or_else(Vec::new, |(_, _, id, first)| first.filter(|_| primary).into_iter().chain([*id]).collect())
}

fn association_json(from: &ObjectType, to: &ObjectType, id: i64, primary: bool) -> Value {
    let types = types(from, to, primary).into_iter();
    let types = types.map(|(category, type_id)| json!({"category": category, "typeId": type_id}));
    json!({"toObjectId": id.to_string(), "associationTypes": types.collect::<Vec<_>>()})
}

/// Lists the types of associations between two object types. The plain one has no label; a portal may add labels.
pub(super) async fn labels(
    State(simulator): Shared,
    Path((from, to)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let (from, to) = (ObjectType::from(from), ObjectType::from(to));
    answer_association(&simulator, &headers, &scope(&from, "read"), || {
        let labelled = json!({"category": "USER_DEFINED", "typeId": 77, "label": "Formerly"});
        let plain = types(&from, &to, false).into_iter();
        let plain = plain.map(|(category, id)| json!({"category": category, "typeId": id, "label": null}));
        let results: Vec<_> = std::iter::once(labelled).chain(plain).collect();
        Ok(Json(json!({"results": results})).into_response())
    })
}

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

/// Reads the associations of many records. That an id that was merged away answers with those of the survivor is unverified.
pub(super) async fn batch_read(
    State(simulator): Shared,
    Path((from, to)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (from, to) = (ObjectType::from(from), ObjectType::from(to));
    answer_association(&simulator, &headers, &scope(&from, "read"), || {
        if types(&from, &to, false).is_empty() {
            return Err(errors::validation(&format!("No association type exists between {from} and {to}")));
        }
        let body = parse::<Body>(&body)?;
        if body.inputs.is_empty() || body.inputs.len() > MAX_BATCH {
            return Err(errors::validation(&format!("The inputs must hold 1 to {MAX_BATCH} entries")));
        }
        let portal = lock(&simulator.portal);
        let (mut results, mut without) = (Vec::new(), Vec::new());
        for input in body.inputs {
            let associated = input.id.parse().map(|id| portal.associated(&(from.clone(), id), &to)).unwrap_or_default();
            if associated.is_empty() {
                without.push(input.id);
                continue;
            }
            let start = input.after.and_then(|after| after.parse().ok()).unwrap_or(0).min(associated.len());
            let end = (start + PAGE).min(associated.len());
            let page: Vec<_> = associated[start..end]
                .iter()
                .map(|(id, primary)| association_json(&from, &to, *id, *primary))
                .collect();
            let mut result = json!({"from": {"id": input.id}, "to": page});
            if end < associated.len() {
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
                "message": format!("No {from} is associated with {to} from {id}."), "context": {"fromObjectId": [id]},
                "errors": [], "links": {}})
        };
        listed["errors"] = without.into_iter().map(error).collect();
        Ok((StatusCode::MULTI_STATUS, Json(listed)).into_response())
    })
}

#[derive(Deserialize)]
pub(super) struct Page {
    limit: Option<usize>,
    after: Option<usize>,
}

/// Lists one record's associations by GET; the API version 2026-09 has no such endpoint.
pub(super) async fn list(
    State(simulator): Shared,
    Path((from, id, to)): Path<(String, String, String)>,
    Query(page): Query<Page>,
    headers: HeaderMap,
) -> Response {
    let (from, to) = (ObjectType::from(from), ObjectType::from(to));
    answer_association(&simulator, &headers, &scope(&from, "read"), || {
        let portal = lock(&simulator.portal);
        let known = id.parse().ok().filter(|id| portal.get(&from, *id).is_some());
        let key = (from.clone(), known.ok_or_else(|| errors::object_not_found(&id))?);
        let associated = portal.associated(&key, &to);
        let start = page.after.unwrap_or(0).min(associated.len());
        let end = (start + page.limit.unwrap_or(PAGE).min(PAGE)).min(associated.len());
        let results: Vec<_> =
            associated[start..end].iter().map(|(id, primary)| association_json(&from, &to, *id, *primary)).collect();
        let mut listed = json!({"results": results});
        if end < associated.len() {
            listed["paging"] = json!({"next": {"after": end.to_string()}});
        }
        Ok(Json(listed).into_response())
    })
}

/// Associates two records with the default type.
pub(super) async fn put_default(
    State(simulator): Shared,
    Path((from, from_id, to, to_id)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let (from, to) = (ObjectType::from(from), ObjectType::from(to));
    answer_association(&simulator, &headers, &scope(&from, "write"), || {
        let types = types(&from, &to, false);
        let Some((category, type_id)) = types.first() else {
            return Err(errors::validation(&format!("No association type exists between {from} and {to}")));
        };
        let mut portal = lock(&simulator.portal);
        let find = |kind: &ObjectType, id: &String| {
            let known = id.parse().ok().filter(|id| portal.get(kind, *id).is_some());
            known.map(|id| (kind.clone(), id)).ok_or_else(|| errors::object_not_found(id))
        };
        let (one, other) = (find(&from, &from_id)?, find(&to, &to_id)?);
        portal.associate(&one, &other, false);
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let result = json!({"from": {"id": from_id}, "to": {"id": to_id},
            "associationSpec": {"associationCategory": category, "associationTypeId": type_id}});
        Ok(Json(json!({"status": "COMPLETE", "results": [result], "startedAt": now, "completedAt": now}))
            .into_response())
    })
}
