//! The endpoints that create records, one or many at once.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use domain::ObjectType;
use serde::Deserialize;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    admission::{Shared, answer, scope},
    associations::types,
    errors,
    portal::{Author, Portal, RecordKey},
    values,
    wire::{Id, batch_answer, check_count, parse, record_json, texts},
};
use crate::{lock::lock, state::Simulator};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    properties: BTreeMap<String, Value>,
    // Required by HubSpot's OpenAPI description.
    associations: Vec<Association>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Association {
    to: Id,
    types: Vec<AssociationType>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct AssociationType {
    association_category: String,
    association_type_id: u32,
}

/// HubSpot calculates this property when an engagement is logged on a record.
const LAST_ACTIVITY: &str = "notes_last_updated";

pub(super) async fn create(
    State(simulator): Shared,
    Path(object_type): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let object_type = ObjectType::from(object_type);
    answer(&simulator, &headers, &scope(&object_type, "write"), || {
        let mut portal = lock(&simulator.portal);
        let draft = check(&portal, &object_type, parse::<CreateBody>(&body)?)?;
        Ok((StatusCode::CREATED, Json(add(&simulator, &mut portal, &object_type, draft))).into_response())
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchBody {
    inputs: Vec<CreateBody>,
}

pub(super) async fn batch_create(
    State(simulator): Shared,
    Path(object_type): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let object_type = ObjectType::from(object_type);
    answer(&simulator, &headers, &scope(&object_type, "write"), || {
        let BatchBody { inputs } = parse(&body)?;
        check_count(inputs.len())?;
        let mut portal = lock(&simulator.portal);
        // One invalid input fails the whole batch.
        let drafts: Vec<_> =
            inputs.into_iter().map(|input| check(&portal, &object_type, input)).collect::<Result<_, _>>()?;
        let created = drafts.into_iter().map(|draft| add(&simulator, &mut portal, &object_type, draft));
        let mut results: Vec<_> = created.collect();
        // HubSpot promises no order, so the simulator does not keep the one of the request.
        results.reverse();
        Ok((StatusCode::CREATED, batch_answer(&results, &[])).into_response())
    })
}

/// A record to create: its values and the records it is associated with.
type Draft = (BTreeMap<String, String>, Vec<RecordKey>);

/// Checks an input, or answers 400 as HubSpot does. That an association to an id that was merged away is taken is unverified.
fn check(portal: &Portal, object_type: &ObjectType, body: CreateBody) -> Result<Draft, Response> {
    let values = texts(body.properties);
    if object_type.is_engagement() && values.get("hs_timestamp").is_none_or(String::is_empty) {
        return Err(errors::validation("Property hs_timestamp is required to create an engagement"));
    }
    let problems = values::problems(portal, object_type, &values);
    if !problems.is_empty() {
        return Err(errors::invalid_values(&problems, portal.quirks.names_in_message_only));
    }
    let mut associations: Vec<RecordKey> = Vec::new();
    for Association { to, types: spec } in body.associations {
        let id = to.id.parse::<i64>().ok();
        let given: Vec<_> =
            spec.iter().map(|spec| (spec.association_category.as_str(), spec.association_type_id)).collect();
        let fits = |kind: &&ObjectType| {
            let known = types(object_type, kind, false);
            given.iter().all(|given| known.contains(given))
        };
        let kind = portal.definitions.object_types().find(fits).filter(|_| !given.is_empty());
        let associated = kind.zip(id).filter(|(kind, id)| portal.get(kind, *id).is_some());
        let Some((kind, id)) = associated else {
            return Err(errors::validation(&format!("The association to {} is not valid", to.id)));
        };
        associations.push((kind.clone(), id));
    }
    Ok((values, associations))
}

/// Adds the record, queues its webhook and returns it as HubSpot shows it.
fn add(
    simulator: &Arc<Simulator>,
    portal: &mut Portal,
    object_type: &ObjectType,
    (values, associations): Draft,
) -> Value {
    let (author, key) = (Author::app(simulator.config.app_id), (object_type.clone(), portal.fresh_id()));
    let names: Vec<_> = values.keys().cloned().collect();
    portal.put(&key, values, &author);
    simulator.webhooks.created(&key, &author);
    for associated in &associations {
        portal.associate(&key, associated, false);
        if object_type.is_engagement() {
            log_activity(simulator, portal, associated);
        }
    }
    portal
        .get(object_type, key.1)
        .map_or(Value::Null, |record| record_json(portal, object_type, key.1, record, &names, &[]))
}

/// Sets the time of the last activity on a record. HubSpot sends a webhook about this change that names no app, so that
/// it does not look like an echo of our own write.
fn log_activity(simulator: &Arc<Simulator>, portal: &mut Portal, record: &RecordKey) {
    if portal.definition(&record.0, LAST_ACTIVITY).is_none() {
        return;
    }
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    let author = Author { source: "ENGAGEMENTS".to_owned(), id: String::new() };
    let values = BTreeMap::from([(LAST_ACTIVITY.to_owned(), now)]);
    for (property, value) in portal.update(&record.0, record.1, &values, &author) {
        simulator.webhooks.property_changed(record, &property, &value, &author);
    }
}
