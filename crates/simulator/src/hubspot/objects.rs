//! The endpoints that read and update records, one or many at once.

use std::{
    collections::{BTreeMap, HashSet},
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
use serde::Deserialize;
use serde_json::Value;

use super::{
    admission::{Shared, answer, scope},
    errors,
    portal::{Author, Portal},
    values,
    wire::{Id, MAX_BATCH, batch_answer, check_count, parse, record_json, texts},
};
use crate::{lock::lock, state::Simulator};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ReadQuery {
    properties: String,
    properties_with_history: String,
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
        let listed = |names: &str| -> Vec<String> {
            names.split(',').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect()
        };
        let (names, history) = (listed(&query.properties), listed(&query.properties_with_history));
        let portal = lock(&simulator.portal);
        let found = id.parse().ok().and_then(|id: i64| Some((id, portal.get(&object_type, id)?)));
        let (id, object) = found.ok_or_else(|| errors::object_not_found(&id))?;
        Ok(Json(record_json(&portal, &object_type, id, object, &names, &history)).into_response())
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
        let mut problems = values::problems(&portal, &object_type, &values);
        problems.extend(values::missing(&portal, (&object_type, id), &values));
        if !problems.is_empty() {
            return Err(errors::invalid_values(&problems, portal.quirks.names_in_message_only));
        }
        write(&simulator, &mut portal, &object_type, id, &values);
        let names: Vec<_> = values.keys().cloned().collect();
        let object = portal.get(&object_type, id).ok_or_else(|| errors::object_not_found(&id.to_string()))?;
        Ok(Json(record_json(&portal, &object_type, id, object, &names, &[])).into_response())
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BatchReadBody {
    inputs: Vec<Id>,
    properties: Vec<String>,
    // Required by HubSpot's OpenAPI description.
    properties_with_history: Vec<String>,
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
            let follows_merges = portal.quirks.batch_reads_follow_merges;
            let find = |id: i64| Some((id, portal.get_in_batch(&object_type, id, follows_merges)?));
            match id.parse().ok().and_then(find) {
                Some((id, object)) => {
                    let history = &body.properties_with_history;
                    results.push(record_json(&portal, &object_type, id, object, &body.properties, history));
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
        // One invalid value fails the whole batch.
        let mut problems: Vec<_> =
            inputs.iter().flat_map(|(_, values)| values::problems(&portal, &object_type, values)).collect();
        let known = inputs.iter().filter_map(|(id, values)| Some((id.parse().ok()?, values)));
        problems.extend(known.filter_map(|(id, values)| values::missing(&portal, (&object_type, id), values)));
        if !problems.is_empty() {
            return Err(errors::invalid_values(&problems, portal.quirks.names_in_message_only));
        }
        let (mut results, mut missing) = (Vec::new(), Vec::new());
        for (text, values) in inputs {
            let id = text.parse().ok().filter(|id| portal.get_in_batch(&object_type, *id, false).is_some());
            let Some(id) = id else {
                missing.push(text);
                continue;
            };
            if let Some(times) = portal.quirks.left_out_ids.get_mut(&id).filter(|times| **times > 0) {
                *times -= 1;
                continue;
            }
            write(&simulator, &mut portal, &object_type, id, &values);
            let names: Vec<_> = values.keys().cloned().collect();
            if let Some(object) = portal.get(&object_type, id) {
                results.push(record_json(&portal, &object_type, id, object, &names, &[]));
            }
        }
        Ok(batch_answer(&results, &missing))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchArchiveBody {
    inputs: Vec<Id>,
}

/// Removes records. The answer does not say which of them were there.
pub(super) async fn batch_archive(
    State(simulator): Shared,
    Path(object_type): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let object_type = ObjectType::from(object_type);
    let scope = scope(&object_type, "write");
    answer(&simulator, &headers, &scope, || {
        let body = parse::<BatchArchiveBody>(&body)?;
        check_inputs(body.inputs.iter().map(|input| &input.id))?;
        let mut portal = lock(&simulator.portal);
        for id in body.inputs.iter().filter_map(|input| input.id.parse().ok()) {
            portal.remove(&(object_type.clone(), id));
        }
        Ok(StatusCode::NO_CONTENT.into_response())
    })
}

/// Updates a record and queues a webhook for each property that changed.
fn write(
    simulator: &Arc<Simulator>,
    portal: &mut Portal,
    object_type: &ObjectType,
    id: i64,
    values: &BTreeMap<String, String>,
) {
    let author = Author::app(simulator.config.app_id);
    for (property, value) in portal.update(object_type, id, values, &author) {
        simulator.webhooks.property_changed(
            &(object_type.clone(), portal.surviving(object_type, id)),
            &property,
            &value,
            &author,
        );
    }
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
