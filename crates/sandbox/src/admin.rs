//! What only a sandbox can do: make records, switch faults on, look at the calls, send webhooks.

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
    Call, Delivery, Fault, Sandbox,
    hubspot::portal::{Author, Change, Object, PropertyRule},
    lock,
    webhooks::Manners,
};

/// A contact to be made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewContact {
    /// Its id; one that is there already is replaced.
    pub id: i64,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
    /// Bodies of its notes, oldest first.
    pub notes: Vec<String>,
    /// Ids that were merged into it.
    pub merged_ids: Vec<i64>,
}

/// An object of any kind to be made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewObject {
    /// Its kind, as a type id or a name.
    pub kind: String,
    /// Its id; one that is there already is replaced.
    pub id: i64,
    /// Its properties, as a person set them.
    pub properties: BTreeMap<String, String>,
    /// What it is tied to: kinds and ids.
    pub ties: Vec<(String, i64)>,
    /// Whether those are primary ties.
    pub primary: bool,
}

/// A change that somebody makes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The new values.
    pub properties: BTreeMap<String, String>,
    /// `CRM_UI` for a person.
    pub source: String,
    /// The user's or app's id.
    pub source_id: String,
    /// Whether subscribers are told.
    pub announce: bool,
}

/// A message that a channel got.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChannelMessage {
    /// The channel.
    pub channel: String,
    /// `Idempotency-Key`.
    pub key: Option<String>,
    /// The body.
    pub body: Value,
}

/// What is to be sent as a webhook.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendWebhook {
    /// The array's elements, as HubSpot would send them.
    pub events: Vec<Value>,
    /// Sign with another secret than the app's.
    #[serde(default)]
    pub forged: bool,
    /// Another receiver than the one that was subscribed; the signed URL stays the same.
    #[serde(default)]
    pub url: Option<String>,
}

/// How HubSpot treats certain records and properties, beyond what is documented for all of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quirks {
    /// Batch updates leave these ids out of their results, without an error.
    pub left_out_ids: Vec<i64>,
    /// Contact properties with a validation rule of their own: the largest value.
    pub maxima: BTreeMap<String, i64>,
    /// Contact properties that do not exist after all.
    pub missing_properties: Vec<String>,
    /// Webhooks about changes are sent twice, the second time later and among others.
    pub duplicate_webhooks: bool,
    /// Webhooks about changes do not come in the order of the changes.
    pub shuffled_webhooks: bool,
}

type Shared = State<Arc<Sandbox>>;

pub(crate) fn router() -> Router<Arc<Sandbox>> {
    Router::new()
        .route("/_sandbox/contacts", post(put_contact))
        .route("/_sandbox/objects", post(put_object))
        .route("/_sandbox/objects/{kind}", get(objects))
        .route("/_sandbox/objects/{kind}/{id}", get(object).patch(edit).delete(remove_object))
        .route("/_sandbox/channels/{channel}", post(take_message))
        .route("/_sandbox/messages", get(messages))
        .route("/_sandbox/quirks", post(set_quirks))
        .route("/_sandbox/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/_sandbox/calls", get(calls))
        .route("/_sandbox/open-questions", get(open_questions))
        .route("/_sandbox/webhooks", post(send_webhook))
        .route("/_sandbox/deliveries", get(deliveries))
}

async fn put_contact(State(sandbox): Shared, Json(new): Json<NewContact>) -> StatusCode {
    let mut portal = lock(&sandbox.portal);
    portal.put(&(ObjectType::Contact, new.id), new.properties, &Author::person());
    for body in new.notes {
        portal.add_note(new.id, body);
    }
    for old in new.merged_ids {
        portal.merge(old, new.id);
    }
    StatusCode::CREATED
}

async fn put_object(State(sandbox): Shared, Json(new): Json<NewObject>) -> StatusCode {
    let mut portal = lock(&sandbox.portal);
    let key = (ObjectType::from(new.kind), new.id);
    portal.put(&key, new.properties, &Author::person());
    for (kind, id) in new.ties {
        portal.tie(&key, &(ObjectType::from(kind), id), new.primary);
    }
    StatusCode::CREATED
}

/// An object with the history of its properties and its ties.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ObjectView {
    /// Its id.
    pub id: i64,
    /// What it holds now.
    pub properties: BTreeMap<String, String>,
    /// Every change, oldest first.
    pub changes: Vec<Change>,
}

fn view((id, object): (i64, &Object)) -> ObjectView {
    ObjectView { id, properties: object.properties.clone(), changes: object.changes.clone() }
}

async fn object(State(sandbox): Shared, Path((kind, id)): Path<(String, i64)>) -> Result<Json<ObjectView>, StatusCode> {
    let portal = lock(&sandbox.portal);
    let object = portal.get(&ObjectType::from(kind), id).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(view((id, object))))
}

/// Every object of a kind.
async fn objects(State(sandbox): Shared, Path(kind): Path<String>) -> Json<Vec<ObjectView>> {
    let portal = lock(&sandbox.portal);
    Json(portal.all(&ObjectType::from(kind)).map(view).collect())
}

async fn edit(State(sandbox): Shared, Path((kind, id)): Path<(String, i64)>, Json(edit): Json<Edit>) -> StatusCode {
    let key = (ObjectType::from(kind), id);
    let author = Author { source: edit.source, id: edit.source_id };
    for (property, value) in lock(&sandbox.portal).update(&key.0, id, &edit.properties, &author) {
        if edit.announce {
            sandbox.webhooks.property_changed(&key, &property, &value, &author);
        }
    }
    StatusCode::NO_CONTENT
}

async fn remove_object(State(sandbox): Shared, Path((kind, id)): Path<(String, i64)>) -> StatusCode {
    lock(&sandbox.portal).remove(&(ObjectType::from(kind), id));
    StatusCode::NO_CONTENT
}

/// A channel's webhook, as Slack has it: JSON with a `text`, answered `ok`.
async fn take_message(
    State(sandbox): Shared,
    Path(channel): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<&'static str, StatusCode> {
    if body["text"].as_str().is_none_or(str::is_empty) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(ToOwned::to_owned);
    lock(&sandbox.messages).push(ChannelMessage { channel, key, body });
    Ok("ok")
}

async fn messages(State(sandbox): Shared) -> Json<Vec<ChannelMessage>> {
    Json(lock(&sandbox.messages).clone())
}

async fn set_quirks(State(sandbox): Shared, Json(quirks): Json<Quirks>) -> StatusCode {
    sandbox.webhooks.set_manners(Manners { duplicates: quirks.duplicate_webhooks, shuffles: quirks.shuffled_webhooks });
    let mut portal = lock(&sandbox.portal);
    portal.left_out_ids = quirks.left_out_ids.into_iter().collect();
    portal.rules = quirks.maxima.into_iter().map(|(name, maximum)| (name, PropertyRule { maximum })).collect();
    portal.missing_properties = quirks.missing_properties.into_iter().collect();
    StatusCode::NO_CONTENT
}

async fn faults(State(sandbox): Shared) -> Json<Vec<Fault>> {
    Json(lock(&sandbox.faults).clone())
}

async fn add_fault(State(sandbox): Shared, Json(fault): Json<Fault>) -> StatusCode {
    lock(&sandbox.faults).push(fault);
    StatusCode::CREATED
}

async fn clear_faults(State(sandbox): Shared) -> StatusCode {
    lock(&sandbox.faults).clear();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn calls(State(sandbox): Shared, Query(After { after }): Query<After>) -> Json<Vec<Call>> {
    Json(lock(&sandbox.calls).after(after))
}

/// How many questions the model is thinking about.
async fn open_questions(State(sandbox): Shared) -> Json<usize> {
    Json(sandbox.open_questions.load(std::sync::atomic::Ordering::Relaxed))
}

/// Sends one webhook, once, and says what became of it.
async fn send_webhook(
    State(sandbox): Shared,
    Json(send): Json<SendWebhook>,
) -> Result<Json<Delivery>, (StatusCode, Json<Value>)> {
    let refused = |message: &str| (StatusCode::CONFLICT, Json(json!({"message": message})));
    let secret = if send.forged { "a stranger's secret" } else { &sandbox.config.client_secret };
    let delivery = sandbox.webhooks.deliver(&send.events, secret, send.url.as_deref()).await;
    delivery.map(Json).ok_or_else(|| refused("no webhook URL is set"))
}

/// The webhooks that the sandbox sent by itself: the echoes of writes.
async fn deliveries(State(sandbox): Shared) -> Json<Vec<Delivery>> {
    Json(sandbox.webhooks.deliveries())
}
