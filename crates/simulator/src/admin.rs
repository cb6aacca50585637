//! What only a simulator can do: make records, switch faults on, look at the calls, send webhooks.

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
    Call, Fault, Simulator, WebhookDelivery,
    hubspot::portal::{Author, Change, Object, PropertyRule},
    lock,
    webhooks::DeliveryOptions,
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
pub struct NewRecord {
    /// Its kind, as a type id or a name.
    pub kind: String,
    /// Its id; one that is there already is replaced.
    pub id: i64,
    /// Its properties, as a person set them.
    pub properties: BTreeMap<String, String>,
    /// What it is associated to: kinds and ids.
    pub associations: Vec<(String, i64)>,
    /// Whether those are primary associations.
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

type Shared = State<Arc<Simulator>>;

pub(crate) fn router() -> Router<Arc<Simulator>> {
    Router::new()
        .route("/_simulator/contacts", post(put_contact))
        .route("/_simulator/objects", post(put_object))
        .route("/_simulator/objects/{kind}", get(objects))
        .route("/_simulator/objects/{kind}/{id}", get(object).patch(edit).delete(remove_object))
        .route("/_simulator/channels/{channel}", post(take_message))
        .route("/_simulator/messages", get(messages))
        .route("/_simulator/quirks", post(set_quirks))
        .route("/_simulator/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/_simulator/calls", get(calls))
        .route("/_simulator/open-questions", get(open_questions))
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
        portal.merge(old, new.id);
    }
    StatusCode::CREATED
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

/// An object with the history of its properties and its associations.
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

async fn object(
    State(simulator): Shared,
    Path((kind, id)): Path<(String, i64)>,
) -> Result<Json<ObjectView>, StatusCode> {
    let portal = lock(&simulator.portal);
    let object = portal.get(&ObjectType::from(kind), id).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(view((id, object))))
}

/// Every object of a kind.
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

/// A channel's webhook, as Slack has it: JSON with a `text`, answered `ok`.
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
        duplicates: quirks.duplicate_webhooks,
        shuffles: quirks.shuffled_webhooks,
    });
    let mut portal = lock(&simulator.portal);
    portal.left_out_ids = quirks.left_out_ids.into_iter().collect();
    portal.rules = quirks.maxima.into_iter().map(|(name, maximum)| (name, PropertyRule { maximum })).collect();
    portal.missing_properties = quirks.missing_properties.into_iter().collect();
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

/// How many questions the model is thinking about.
async fn open_questions(State(simulator): Shared) -> Json<usize> {
    Json(simulator.open_questions.load(std::sync::atomic::Ordering::Relaxed))
}

/// Sends one webhook, once, and says what became of it.
async fn send_webhook(
    State(simulator): Shared,
    Json(send): Json<SendWebhook>,
) -> Result<Json<WebhookDelivery>, (StatusCode, Json<Value>)> {
    let refused = |message: &str| (StatusCode::CONFLICT, Json(json!({"message": message})));
    let secret = if send.forged { "a stranger's secret" } else { &simulator.config.client_secret };
    let delivery = simulator.webhooks.deliver(&send.events, secret, send.url.as_deref()).await;
    delivery.map(Json).ok_or_else(|| refused("no webhook URL is set"))
}

/// The webhooks that the simulator sent by itself: the echoes of writes.
async fn deliveries(State(simulator): Shared) -> Json<Vec<WebhookDelivery>> {
    Json(simulator.webhooks.deliveries())
}
