//! A handler of events on a RabbitMQ and a Postgres of its own, and the events that the tests give it.

use std::{sync::Arc, time::Duration};

use broker::{Delivery, Message};
use domain::Event;
use inference::{handler::EventHandler, wiring};
use ledger::{Ledger, Worker};
use maintenance::CircuitBreakers;
use serde_json::{Value, json};
use settings::{ConfigScope, Settings};

/// Longer than any test takes.
pub const LEASE: Duration = Duration::from_secs(600);

pub async fn handler() -> (EventHandler, Ledger) {
    http_client::install_tls_provider();
    let namespace = testbed::namespace().await.expect("a namespace");
    let playbooks = testbed::workspace::root().expect("the workspace").join("deploy/playbooks");
    let environment = [
        ("BROKER__URL", namespace.amqp_url.as_str()),
        ("LEDGER__URL", namespace.postgres_url.as_str()),
        ("HUBSPOT__TOKEN", "token"),
        // Nobody listens there.
        ("HUBSPOT__BASE_URL", "http://127.0.0.1:9"),
        ("HUBSPOT__ATTEMPTS", "1"),
        ("HUBSPOT__APP_ID", "1234567"),
        ("HUBSPOT__PORTAL_ID", "9876543"),
        ("OPENAI__API_KEY", "key"),
        ("INFERENCE__PLAYBOOKS", playbooks.to_str().expect("UTF-8")),
    ];
    let environment = environment.map(|(name, value)| (format!("LEADLINE__{name}"), value.to_owned())).to_vec();
    let settings = Settings::load_from(None, environment, ConfigScope::Inference).expect("the settings are right");
    let ledger = bootstrap::connect_ledger(&settings, "test").expect("a ledger");
    let broker = bootstrap::broker_settings(&settings, "test").expect("settings");
    broker::declare_topology(&broker).await.expect("declared");
    let (_, publisher) = bootstrap::connect_broker(&settings, "test").await.expect("a broker");
    let credentials = wiring::credentials(&settings).expect("given");
    let circuit_breakers = CircuitBreakers::new(&settings.circuit_breaker, credentials);
    let playbooks = wiring::load_playbooks(&settings).expect("the playbooks are right");
    let worker = Worker::named("test");
    let wiring = wiring::wire(&settings, playbooks, &ledger, worker, publisher, circuit_breakers).expect("a handler");
    (wiring.live, ledger)
}

/// An event of a kind that starts no playbook, so that its end needs neither HubSpot nor OpenAI.
pub fn event(n: i64) -> Event {
    parse(&json!([{"eventId": n, "subscriptionId": 1, "portalId": 9_876_543, "appId": 1_234_567,
        "occurredAt": 1_900_000_000_000_i64, "attemptNumber": 0, "objectId": 1, "objectTypeId": "0-1",
        "subscriptionType": "contact.propertyChange", "propertyName": "favourite_colour", "propertyValue": "1",
        "changeSource": "CRM_UI", "sourceId": "userId:42"}]))
}

/// The event of a new note, whose records HubSpot has to say.
pub fn note_event(n: i64) -> Event {
    parse(&json!([{"eventId": n, "subscriptionId": 1, "portalId": 9_876_543, "appId": 1_234_567,
        "occurredAt": 1_900_000_000_000_i64, "attemptNumber": 0, "objectId": n, "objectTypeId": "0-46",
        "subscriptionType": "object.creation", "changeSource": "CRM_UI", "sourceId": "userId:42"}]))
}

fn parse(payload: &Value) -> Event {
    let body = payload.to_string();
    hubspot::webhook::parse(body.as_bytes()).expect("a webhook").remove(0).event.expect("an event")
}

pub fn delivery(message: &Message, redelivered: bool) -> Delivery {
    Delivery { message: Arc::new(message.clone()), redelivered }
}
