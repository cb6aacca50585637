//! What only a sandbox can do: make records, switch faults on, look at the calls, send webhooks.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{get, post},
};
use domain::ObjectType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Call, Delivery, Fault, Sandbox,
    hubspot::portal::{Change, PropertyRule},
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
        .route("/_sandbox/contacts/{id}", get(contact).delete(remove_contact))
        .route("/_sandbox/quirks", post(set_quirks))
        .route("/_sandbox/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/_sandbox/calls", get(calls))
        .route("/_sandbox/webhooks", post(send_webhook))
        .route("/_sandbox/deliveries", get(deliveries))
}

async fn put_contact(State(sandbox): Shared, Json(new): Json<NewContact>) -> StatusCode {
    let mut portal = lock(&sandbox.portal);
    portal.put(&ObjectType::Contact, new.id, new.properties);
    for body in new.notes {
        portal.add_note(new.id, body);
    }
    for old in new.merged_ids {
        portal.merge(old, new.id);
    }
    StatusCode::CREATED
}

/// A contact with the history of its properties.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContactView {
    /// What it holds now.
    pub properties: BTreeMap<String, String>,
    /// Every change, oldest first.
    pub changes: Vec<Change>,
}

async fn contact(State(sandbox): Shared, Path(id): Path<i64>) -> Result<Json<ContactView>, StatusCode> {
    let portal = lock(&sandbox.portal);
    let object = portal.get(&ObjectType::Contact, id).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(ContactView { properties: object.properties.clone(), changes: object.changes.clone() }))
}

async fn remove_contact(State(sandbox): Shared, Path(id): Path<i64>) -> StatusCode {
    lock(&sandbox.portal).remove(&ObjectType::Contact, id);
    StatusCode::NO_CONTENT
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
