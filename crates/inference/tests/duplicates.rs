//! What becomes of the copies of one event's message: HubSpot delivers an event again, and RabbitMQ a message.
#![allow(clippy::expect_used, reason = "this is a test; its helpers too")]

use std::{sync::Arc, time::Duration};

use broker::{Delivery, Disposition, Handler, Message};
use domain::{Event, EventState, Reason};
use inference::{handler::EventHandler, wiring};
use ledger::{Claim, ClaimRequest, Decision, Ledger, Worker};
use maintenance::CircuitBreakers;
use serde_json::json;
use settings::{ConfigScope, Settings};

const LEASE: Duration = Duration::from_secs(600);

async fn handler() -> (EventHandler, Ledger) {
    http_client::install_tls_provider();
    let namespace = testbed::namespace().await.expect("a namespace");
    let playbooks = testbed::workspace::root().expect("the workspace").join("deploy/playbooks");
    let environment = [
        ("BROKER__URL", namespace.amqp_url.as_str()),
        ("LEDGER__URL", namespace.postgres_url.as_str()),
        ("HUBSPOT__TOKEN", "token"),
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
    let circuit_breakers = CircuitBreakers::new(&settings.circuit_breaker, &wiring::DEPENDENCIES);
    let playbooks = wiring::load_playbooks(&settings).expect("the playbooks are right");
    let worker = Worker::named("test");
    let wiring = wiring::wire(&settings, playbooks, &ledger, worker, publisher, circuit_breakers).expect("a handler");
    (wiring.live, ledger)
}

fn event() -> Event {
    let payload = json!([{"eventId": 1, "subscriptionId": 1, "portalId": 9_876_543, "appId": 1_234_567,
        "occurredAt": 1_900_000_000_000_i64, "attemptNumber": 0, "objectId": 1, "objectTypeId": "0-1",
        "subscriptionType": "contact.propertyChange", "propertyName": "notes_last_updated", "propertyValue": "1",
        "changeSource": "CRM_UI", "sourceId": "userId:42"}]);
    let body = payload.to_string();
    hubspot::webhook::parse(body.as_bytes()).expect("a webhook").remove(0).event.expect("an event")
}

/// Claims `event` under `message` and parks it in the ledger, as a worker does that is killed before the message reaches the
/// parking lot.
async fn park_in_the_ledger(ledger: &Ledger, event: &Event, message: &Message) {
    let request = ClaimRequest { event, message_copy_id: message.copy_id, trace_id: None };
    let claims = ledger.claim(&[request], &Worker::named("killed"), LEASE).await.expect("asked");
    let Claim::Granted(claimed) = &claims[0] else { panic!("not granted: {claims:?}") };
    let decision = Decision {
        event_id: claimed.event_id,
        attempt: claimed.attempt,
        state: EventState::Parked,
        reason: Some(Reason::Refused),
        detail: None,
        playbook: None,
        wait: None,
        inferences: vec![],
        commands: vec![],
        charges: vec![],
    };
    assert_eq!(ledger.commit_decisions(&[decision]).await.expect("committed"), [true]);
}

fn delivery(message: &Message, redelivered: bool) -> Delivery {
    Delivery { message: Arc::new(message.clone()), redelivered }
}

#[tokio::test]
async fn an_event_is_parked_once_whatever_its_duplicates_waited_for() {
    let (handler, ledger) = handler().await;
    let event = event();
    let message = || maintenance::event_message(&event).expect("a message");
    let (parked, duplicate) = (message(), message());
    park_in_the_ledger(&ledger, &event, &parked).await;

    // A duplicate comes back from a retry queue, where it waited for Postgres or for an outage to end, or is redelivered
    // because its worker lost the connection.
    for reason in [Reason::LedgerUnavailable, Reason::OpenAiCircuitOpen, Reason::LeasedElsewhere] {
        let waited = duplicate.clone().with_reason(reason, "");
        assert_eq!(handler.handle(delivery(&waited, false)).await, Disposition::Done, "after {reason}");
    }
    assert_eq!(handler.handle(delivery(&duplicate, true)).await, Disposition::Done, "redelivered");

    // The message under which it was parked still has to reach the parking lot.
    let disposition = handler.handle(delivery(&parked, true)).await;
    assert!(matches!(disposition, Disposition::Park { reason: Reason::Parked, .. }), "{disposition:?}");
}
