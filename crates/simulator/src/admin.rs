//! The simulator's own routes: add and read records, switch faults on, read the recorded calls, send webhooks.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use domain::ObjectType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    calls::Call,
    charges::Charge,
    faults::Fault,
    hubspot::portal::{Author, PortalQuirks, Record},
    lock::lock,
    state::Simulator,
    webhooks::{DeliveryOptions, WebhookDelivery},
};

pub use crate::{hubspot::portal::RecordedChange, messages::ChannelMessage, openai::ModelAccess};

/// A contact to add.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewContact {
    /// Its id; an existing record with this id is replaced.
    pub id: i64,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
    /// The bodies of its notes, oldest first.
    pub notes: Vec<String>,
    /// Ids of contacts that were merged into this one.
    pub merged_ids: Vec<i64>,
}

/// A record of any object type to add.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewRecord {
    /// Its object type, as a type id (`0-1`) or a name (`contact`).
    pub kind: String,
    /// Its id; an existing record with this id is replaced.
    pub id: i64,
    /// Its properties; their history says that a person set them.
    pub properties: BTreeMap<String, String>,
    /// The records it is associated with: object types and ids.
    pub associations: Vec<(String, i64)>,
    /// Whether these associations are primary ones.
    pub primary: bool,
}

/// A change of a record, by an author of the caller's choice.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The new values.
    pub properties: BTreeMap<String, String>,
    /// The author's kind: `CRM_UI` for a person, `INTEGRATION` for an app.
    pub source: String,
    /// The id of the user or the app.
    pub source_id: String,
    /// Whether webhooks about the change are sent.
    pub announce: bool,
}

/// Records to merge, as a person does in HubSpot's screens.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Merge {
    /// Their object type, as a type id (`0-1`) or a name (`contact`).
    pub kind: String,
    /// The record whose values win.
    pub primary: i64,
    /// The others.
    pub merged: Vec<i64>,
    /// Whether a webhook about it is sent.
    pub announce: bool,
}

/// What records were merged into.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Survivor {
    /// The id of the new record.
    pub id: i64,
}

/// A webhook to send.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendWebhook {
    /// The elements of the body's array, in HubSpot's format.
    pub events: Vec<Value>,
    /// Signs with a secret that is not the app's.
    #[serde(default)]
    pub forged: bool,
    /// Where to send it instead of the configured URL; the URL that is signed stays the same.
    #[serde(default)]
    pub url: Option<String>,
}

/// How HubSpot treats certain records and properties, beyond the documented behaviour of all of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a manner of its own")]
pub struct Quirks {
    /// Batch updates leave these ids out of their results so often, do not write them, and report no error.
    pub left_out_ids: BTreeMap<i64, u32>,
    /// Contact properties with a validation rule: the largest value that it allows.
    pub maxima: BTreeMap<String, i64>,
    /// Contact properties that do not exist.
    pub missing_properties: Vec<String>,
    /// Properties that HubSpot calculates, such as a score, of whatever object type.
    pub read_only_properties: Vec<String>,
    /// Deal stages in which a property is required: a write of the stage alone is refused. From 2026-09 on such rules of an admin
    /// bind writes through the API (HubSpot's changelog, "CRM API Write Validation Enforcement"; the inner code is unverified).
    pub required_with_stage: BTreeMap<String, String>,
    /// Answers about refused values name the properties in the message only.
    pub names_in_message_only: bool,
    /// Batch reads answer an id that was merged away with the record that survived, instead of leaving it out.
    pub batch_reads_follow_merges: bool,
    /// A property that was cleared is shown as null, as one that was never set.
    pub null_for_cleared: bool,
    /// Webhooks about changes are sent twice, the second time later and in a batch with others.
    pub duplicate_webhooks: bool,
    /// Webhooks about changes are sent in an order other than that of the changes.
    pub shuffled_webhooks: bool,
}

type Shared = State<Arc<Simulator>>;

pub(crate) fn router() -> Router<Arc<Simulator>> {
    Router::new()
        .route("/_simulator/contacts", post(put_contact))
        .route("/_simulator/contacts/{id}/privacy-deletion", post(delete_for_privacy))
        .route("/_simulator/objects", post(put_object))
        .route("/_simulator/merges", post(merge))
        .route("/_simulator/objects/{kind}", get(objects))
        .route("/_simulator/objects/{kind}/{id}", get(object).patch(edit).delete(remove_object))
        .route("/_simulator/objects/{kind}/{id}/{to}", get(associated))
        .route("/_simulator/channels/{channel}", post(take_message))
        .route("/_simulator/messages", get(messages))
        .route("/_simulator/quirks", post(set_quirks))
        .route("/_simulator/models", post(set_model_access))
        .route("/_simulator/kept-back", get(arrived).post(keep_back))
        .route("/_simulator/search-index", post(complete_search_index))
        .route("/_simulator/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/_simulator/calls", get(calls))
        .route("/_simulator/charges", get(charges))
        .route("/_simulator/open-requests", get(open_requests))
        .route("/_simulator/webhooks", post(send_webhook))
        .route("/_simulator/deliveries", get(deliveries))
}

async fn put_contact(State(simulator): Shared, Json(new): Json<NewContact>) -> StatusCode {
    let mut portal = lock(&simulator.portal);
    portal.put(&(ObjectType::Contact, new.id), new.properties, &Author::person());
    for body in new.notes {
        portal.add_note(new.id, body);
    }
    for old in new.merged_ids {
        portal.redirect((ObjectType::Contact, old), new.id);
    }
    StatusCode::CREATED
}

/// Deletes a contact as HubSpot does for privacy reasons: every call about it is answered 404, and webhooks say so.
async fn delete_for_privacy(State(simulator): Shared, Path(id): Path<i64>) -> StatusCode {
    let key = (ObjectType::Contact, id);
    lock(&simulator.portal).remove(&key);
    simulator.webhooks.deleted_for_privacy(&key, &Author::person());
    StatusCode::NO_CONTENT
}

async fn put_object(State(simulator): Shared, Json(new): Json<NewRecord>) -> StatusCode {
    let mut portal = lock(&simulator.portal);
    let key = (ObjectType::from(new.kind), new.id);
    portal.put(&key, new.properties, &Author::person());
    for (kind, id) in new.associations {
        portal.associate(&key, &(ObjectType::from(kind), id), new.primary);
    }
    StatusCode::CREATED
}

/// The ids of the records of one type that a record is associated with.
async fn associated(State(simulator): Shared, Path((kind, id, to)): Path<(String, i64, String)>) -> Json<Vec<i64>> {
    let portal = lock(&simulator.portal);
    let found = portal.associated(&(ObjectType::from(kind), id), &ObjectType::from(to));
    Json(found.into_iter().map(|(id, _)| id).collect())
}

async fn merge(State(simulator): Shared, Json(merge): Json<Merge>) -> Result<Json<Survivor>, StatusCode> {
    let primary = (ObjectType::from(merge.kind), merge.primary);
    let merged = lock(&simulator.portal).merge(&primary.0, primary.1, &merge.merged);
    let (id, moved) = merged.ok_or(StatusCode::NOT_FOUND)?;
    if merge.announce {
        simulator.webhooks.merged(&primary, &merge.merged, id, moved, &Author::person());
    }
    Ok(Json(Survivor { id }))
}

/// A record with the history of its properties.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ObjectView {
    /// Its id.
    pub id: i64,
    /// The current values.
    pub properties: BTreeMap<String, String>,
    /// Every change, oldest first.
    pub changes: Vec<RecordedChange>,
}

fn view((id, record): (i64, &Record)) -> ObjectView {
    ObjectView { id, properties: record.properties.clone(), changes: record.changes.clone() }
}

async fn object(
    State(simulator): Shared,
    Path((kind, id)): Path<(String, i64)>,
) -> Result<Json<ObjectView>, StatusCode> {
    let portal = lock(&simulator.portal);
    let object = portal.get(&ObjectType::from(kind), id).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(view((id, object))))
}

/// Every record of an object type.
async fn objects(State(simulator): Shared, Path(kind): Path<String>) -> Json<Vec<ObjectView>> {
    let portal = lock(&simulator.portal);
    Json(portal.all(&ObjectType::from(kind)).map(view).collect())
}

async fn edit(State(simulator): Shared, Path((kind, id)): Path<(String, i64)>, Json(edit): Json<Edit>) -> StatusCode {
    let key = (ObjectType::from(kind), id);
    let author = Author { source: edit.source, id: edit.source_id };
    for (property, value) in lock(&simulator.portal).update(&key.0, id, &edit.properties, &author) {
        if edit.announce {
            simulator.webhooks.property_changed(&key, &property, &value, &author);
        }
    }
    StatusCode::NO_CONTENT
}

async fn remove_object(State(simulator): Shared, Path((kind, id)): Path<(String, i64)>) -> StatusCode {
    lock(&simulator.portal).remove(&(ObjectType::from(kind), id));
    StatusCode::NO_CONTENT
}

/// A channel's incoming webhook in Slack's format: JSON with a `text`, answered `ok`.
async fn take_message(
    State(simulator): Shared,
    Path(channel): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<&'static str, StatusCode> {
    if body["text"].as_str().is_none_or(str::is_empty) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(ToOwned::to_owned);
    lock(&simulator.messages).push(ChannelMessage { channel, key, body });
    Ok("ok")
}

async fn messages(State(simulator): Shared) -> Json<Vec<ChannelMessage>> {
    Json(lock(&simulator.messages).clone())
}

async fn set_quirks(State(simulator): Shared, Json(quirks): Json<Quirks>) -> StatusCode {
    simulator.webhooks.set_delivery_options(DeliveryOptions {
        sends_twice: quirks.duplicate_webhooks,
        reorders: quirks.shuffled_webhooks,
    });
    lock(&simulator.portal).quirks = PortalQuirks {
        left_out_ids: quirks.left_out_ids.into_iter().collect(),
        maxima: quirks.maxima.into_iter().collect(),
        missing_properties: quirks.missing_properties.into_iter().collect(),
        read_only_properties: quirks.read_only_properties.into_iter().collect(),
        required_with_stage: quirks.required_with_stage.into_iter().collect(),
        names_in_message_only: quirks.names_in_message_only,
        batch_reads_follow_merges: quirks.batch_reads_follow_merges,
        null_for_cleared: quirks.null_for_cleared,
    };
    StatusCode::NO_CONTENT
}

/// Says which models are away, and which parameters are refused, from now on.
async fn set_model_access(State(simulator): Shared, Json(access): Json<ModelAccess>) -> StatusCode {
    *lock(&simulator.model_access) = access;
    StatusCode::NO_CONTENT
}

/// Watches for values that must never arrive at the model. A request with one is refused.
async fn keep_back(State(simulator): Shared, Json(values): Json<Vec<String>>) -> StatusCode {
    lock(&simulator.kept_back).watch(values);
    StatusCode::NO_CONTENT
}

/// The values that arrived at the model although they must not.
async fn arrived(State(simulator): Shared) -> Json<Vec<String>> {
    Json(lock(&simulator.kept_back).arrived().to_vec())
}

/// Puts everything that was written so far into the index that searches read.
async fn complete_search_index(State(simulator): Shared) -> StatusCode {
    lock(&simulator.portal).indexed_until = Some(time::OffsetDateTime::now_utc());
    StatusCode::NO_CONTENT
}

async fn faults(State(simulator): Shared) -> Json<Vec<Fault>> {
    Json(lock(&simulator.faults).clone())
}

async fn add_fault(State(simulator): Shared, Json(fault): Json<Fault>) -> StatusCode {
    lock(&simulator.faults).push(fault);
    StatusCode::CREATED
}

async fn clear_faults(State(simulator): Shared) -> StatusCode {
    lock(&simulator.faults).clear();
    simulator.faults_cleared.send_replace(());
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn calls(State(simulator): Shared, Query(After { after }): Query<After>) -> Json<Vec<Call>> {
    Json(lock(&simulator.calls).after(after))
}

/// Every question that was billed, oldest first.
async fn charges(State(simulator): Shared) -> Json<Vec<Charge>> {
    Json(lock(&simulator.charges).all())
}

/// How many requests wait for the model's answer.
async fn open_requests(State(simulator): Shared) -> Json<usize> {
    Json(simulator.openai_traffic.open_requests())
}

/// Sends one webhook once and returns how the receiver answered.
async fn send_webhook(
    State(simulator): Shared,
    Json(send): Json<SendWebhook>,
) -> Result<Json<WebhookDelivery>, (StatusCode, Json<Value>)> {
    let secret = if send.forged { "another app's secret" } else { &simulator.config.client_secret };
    let delivery = simulator.webhooks.deliver(&send.events, secret, send.url.as_deref()).await;
    delivery.map(Json).ok_or_else(|| (StatusCode::CONFLICT, Json(json!({"message": "no webhook URL is set"}))))
}

/// The webhooks that the simulator sent on its own: those about changes of records.
async fn deliveries(State(simulator): Shared) -> Json<Vec<WebhookDelivery>> {
    Json(simulator.webhooks.deliveries())
}
