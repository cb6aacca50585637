//! What the tests share: a fleet of one's own, contacts, events.

use std::time::Duration;

use domain::{EventState, ObjectType};
use lab::{Fleet, FleetPlan};
use ledger::EventStory;
use serde_json::{Value, json};
use simulator::{
    WebhookDelivery,
    admin::{NewContact, NewRecord, ObjectView, SendWebhook},
};
use testbed::{Services, TestNamespace};

/// Long enough for a busy machine of two cores.
pub const WITHIN: Duration = Duration::from_secs(60);

/// A budget and enthusiasm: the simulator's model finds 50,000 and a high score.
pub const BUYER: &str = "<p>They have $50k ready for Q1 and are very excited to start.</p>";

/// Settings under which retries and leases take seconds instead of minutes.
pub fn quick() -> FleetPlan {
    FleetPlan::default()
        .with("broker.retry_delays_seconds", "1,2")
        .with("broker.max_attempts", "4")
        .with("hubspot.timeout_seconds", "1")
        .with("hubspot.backoff_ms", "20")
        .with("hubspot.backoff_max_ms", "3000")
        .with("openai.timeout_seconds", "2")
        .with("openai.backoff_ms", "20")
        .with("openai.backoff_max_ms", "3000")
        .with("inference.lease_seconds", "8")
        .with("writer.notify_timeout_seconds", "1")
        .with("writer.lease_seconds", "4")
        // Each event on its own; what a burst comes to is `bursts`.
        .with("inference.debounce_ms", "0")
        // Most tests strike with a fault until it has an effect on one event; what it means for the fleet is `outages`.
        .with("circuit_breaker.failure_threshold", "1000")
        .with("telemetry.log_format", "human")
}

/// RabbitMQ and Postgres, which `cargo xtask test` has brought up.
pub fn services() -> Services {
    http_client::install_tls_provider();
    Services::from_environment().expect("run the tests with `cargo xtask test`: it brings up RabbitMQ and Postgres")
}

/// A fleet in a virtual host and a database of its own.
pub async fn fleet(plan: &FleetPlan) -> Fleet {
    let namespace = TestNamespace::new(&services()).await.expect("a namespace");
    Fleet::start(namespace, plan).await.expect("a fleet")
}

pub async fn contact(fleet: &Fleet, id: i64, notes: &[&str]) {
    let notes = notes.iter().map(|note| (*note).to_owned()).collect();
    let properties = [("firstname".to_owned(), "Ada".to_owned()), ("company".to_owned(), "Marsh".to_owned())];
    let new = NewContact { id, properties: properties.into(), notes, merged_ids: vec![] };
    fleet.simulator.put_contact(&new).await.expect("a contact");
}

/// An object of any kind, associated to others.
pub async fn object(fleet: &Fleet, kind: &str, id: i64, properties: &[(&str, &str)], associations: &[(&str, i64)]) {
    let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let associations = associations.iter().map(|(kind, id)| ((*kind).to_owned(), *id)).collect();
    let new = NewRecord { kind: kind.to_owned(), id, properties, associations, primary: false };
    fleet.simulator.put_object(&new).await.expect("an object");
}

/// One more note on a contact.
pub async fn note(fleet: &Fleet, id: i64, contact: i64, body: &str) {
    let properties = [("hs_note_body", body), ("hs_timestamp", "2026-11-20T10:00:00Z")];
    object(fleet, "note", id, &properties, &[("contact", contact)]).await;
}

/// The time of the tests' events: later than whatever the simulator sends by itself.
const BASE_MS: i64 = 1_900_000_000_000;

/// Something happened to an object of any kind.
pub fn happened(kind: &str, id: i64, what: &str, property: Option<&str>, n: i64) -> Value {
    let object_type = ObjectType::from(kind);
    let object = if object_type.is_engagement() { "object" } else { object_type.name() };
    let mut event = json!({"eventId": 5000 + n, "subscriptionId": 1, "portalId": 9_876_543, "appId": 1_234_567,
        "occurredAt": BASE_MS + n * 1_000, "attemptNumber": 0, "objectId": id,
        "objectTypeId": object_type.type_id(), "subscriptionType": format!("{object}.{what}"), "changeSource": "CRM_UI",
        "sourceId": "userId:42"});
    if let Some(property) = property {
        event["propertyName"] = json!(property);
        event["propertyValue"] = json!("x");
    }
    event
}

/// A note was logged on `contact`, the `n`th time.
pub fn note_event(contact: i64, n: i64) -> Value {
    json!({"eventId": 1000 + n, "subscriptionId": 1, "portalId": 9_876_543, "appId": 1_234_567,
        "occurredAt": BASE_MS + n * 1_000, "attemptNumber": 0, "objectId": contact, "objectTypeId": "0-1",
        "subscriptionType": "contact.propertyChange", "propertyName": "notes_last_updated",
        "propertyValue": "1764000000000", "changeSource": "CRM_UI", "sourceId": "userId:42"})
}

pub fn key(event: &Value) -> String {
    let body = json!([event]).to_string();
    let element = hubspot::webhook::parse(body.as_bytes()).expect("an array").pop().expect("one element");
    element.event.expect("an event").key.to_string()
}

pub async fn send(fleet: &Fleet, events: &[Value]) -> WebhookDelivery {
    let webhook = SendWebhook { events: events.to_vec(), forged: false, url: None };
    fleet.simulator.webhook(&webhook).await.expect("the simulator sends it")
}

/// Sends events, which have to be send_accepted.
pub async fn send_accepted(fleet: &Fleet, events: &[Value]) {
    let delivery = send(fleet, events).await;
    assert_eq!(delivery.status, 200, "{}\n{}", delivery.answer, fleet.logs());
}

/// How an event ended.
pub async fn ended(fleet: &Fleet, event: &Value) -> EventStory {
    match fleet.until_event(&key(event), EventState::is_final, WITHIN).await {
        Ok(story) => story,
        Err(error) => panic!("{error}\n{}", fleet.logs()),
    }
}

pub async fn ended_as(fleet: &Fleet, event: &Value, state: &str, reason: Option<&str>) -> EventStory {
    let story = ended(fleet, event).await;
    assert_eq!(
        (story.state.as_str(), story.reason.map(domain::Reason::as_str)),
        (state, reason),
        "{story:#?}\n{}",
        fleet.logs()
    );
    story
}

/// What HubSpot holds in a property.
pub async fn property(fleet: &Fleet, contact: i64, property: &str) -> Option<String> {
    let view = fleet.simulator.contact(contact).await.expect("the simulator answers").expect("the contact exists");
    view.properties.get(property).cloned()
}

/// What HubSpot holds in a property of an object.
pub async fn held(fleet: &Fleet, kind: &str, id: i64, property: &str) -> Option<String> {
    let view = fleet.simulator.object(kind, id).await.expect("the simulator answers").expect("the object exists");
    view.properties.get(property).cloned()
}

/// Every task in HubSpot.
pub async fn tasks(fleet: &Fleet) -> Vec<ObjectView> {
    fleet.simulator.objects("task").await.expect("the simulator answers")
}

/// How often HubSpot was told to set a property.
pub async fn times_set(fleet: &Fleet, contact: i64, property: &str) -> usize {
    let view = fleet.simulator.contact(contact).await.expect("the simulator answers").expect("the contact exists");
    view.changes.iter().filter(|change| change.property == property).count()
}

/// How often the model was asked.
pub async fn questions(fleet: &Fleet) -> usize {
    let calls = fleet.simulator.calls(0).await.expect("the simulator answers");
    calls.iter().filter(|call| call.path == "/v1/chat/completions").count()
}

/// A value of the ledger, by SQL as operators would ask.
pub async fn ask<T>(fleet: &Fleet, sql: &'static str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    use sqlx::Connection;
    let mut connection = sqlx::PgConnection::connect(&fleet.namespace.postgres_url).await.expect("Postgres");
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect(sql)
}
