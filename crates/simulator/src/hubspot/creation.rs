//! CRM objects: create, batch create.

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
    Shared, answer,
    associations::type_ids,
    errors,
    objects::{Id, batch_answer, check_count, parse, shown, texts},
    portal::{Author, Key, Portal},
    scope, values,
};
use crate::{Simulator, lock};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    properties: BTreeMap<String, Value>,
    // The OpenAPI file requires it.
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

/// Kinds of records that an engagement is associated to.
const RECORDS: [ObjectType; 4] = [ObjectType::Contact, ObjectType::Company, ObjectType::Deal, ObjectType::Ticket];

/// What HubSpot calculates when something is logged on a record.
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
        Ok((StatusCode::CREATED, Json(make(&simulator, &mut portal, &object_type, draft))).into_response())
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
        // One input that is not valid fails them all.
        let drafts: Vec<_> =
            inputs.into_iter().map(|input| check(&portal, &object_type, input)).collect::<Result<_, _>>()?;
        let made = drafts.into_iter().map(|draft| make(&simulator, &mut portal, &object_type, draft));
        let mut results: Vec<_> = made.collect();
        // HubSpot promises no order.
        results.reverse();
        Ok((StatusCode::CREATED, batch_answer(&results, &[])).into_response())
    })
}

/// What is to be made: values and associations.
type Draft = (BTreeMap<String, String>, Vec<Key>);

fn check(portal: &Portal, object_type: &ObjectType, body: CreateBody) -> Result<Draft, Response> {
    let values = texts(body.properties);
    if object_type.is_engagement() && values.get("hs_timestamp").is_none_or(String::is_empty) {
        return Err(errors::validation("Property hs_timestamp is required to create an engagement"));
    }
    let problems = values::problems(portal, object_type, &values);
    if !problems.is_empty() {
        return Err(errors::invalid_values(&problems));
    }
    let mut associations: Vec<Key> = Vec::new();
    for Association { to, types } in body.associations {
        let id = to.id.parse::<i64>().ok();
        let fits = |kind: &&ObjectType| {
            let known = type_ids(object_type, kind, false);
            types.iter().all(|given| {
                given.association_category == "HUBSPOT_DEFINED" && known.contains(&given.association_type_id)
            })
        };
        let kind = RECORDS.iter().find(fits).filter(|_| !types.is_empty());
        let associated = kind.zip(id).filter(|(kind, id)| portal.get(kind, *id).is_some());
        let Some((kind, id)) = associated else {
            return Err(errors::validation(&format!("The association to {} is not valid", to.id)));
        };
        associations.push((kind.clone(), id));
    }
    Ok((values, associations))
}

fn make(
    simulator: &Arc<Simulator>,
    portal: &mut Portal,
    object_type: &ObjectType,
    (values, associations): Draft,
) -> Value {
    let (author, key) = (Author::app(simulator.config.app_id), (object_type.clone(), portal.fresh_id()));
    let names: Vec<_> = values.keys().cloned().collect();
    portal.put(&key, values, &author);
    simulator.webhooks.created(&key, &author);
    for associate in &associations {
        portal.associate(&key, associate, false);
        if object_type.is_engagement() {
            logged(simulator, portal, associate);
        }
    }
    portal.get(object_type, key.1).map_or(Value::Null, |object| shown(portal, object_type, key.1, object, &names, &[]))
}

/// An activity was logged on a record: HubSpot notes when, and says so in a webhook that names no app.
fn logged(simulator: &Arc<Simulator>, portal: &mut Portal, record: &Key) {
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
