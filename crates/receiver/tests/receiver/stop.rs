//! How a receiver stops: load balancers hear of it later, and lose no webhook.

use axum::http::StatusCode;
use serde_json::json;

use crate::{
    fixtures::{PUBLIC_URL, SECRET, answer, event, signed_request},
    whole::{WITHIN, WholeReceiver},
};

#[tokio::test]
async fn a_receiver_that_was_told_to_stop_takes_webhooks_while_it_lingers_and_load_balancers_are_told() {
    // Longer than the test.
    let receiver = WholeReceiver::start("http", &[("LINGER_SECONDS", "300")]).await;
    receiver.stop.cancel();
    assert_eq!(receiver.health().await, StatusCode::SERVICE_UNAVAILABLE);
    let url = format!("{}/webhooks/hubspot", receiver.url);
    let webhook = signed_request(&url, PUBLIC_URL, SECRET, json!([event(1, 1)]).to_string().into());
    assert_eq!(answer(webhook).await.status(), StatusCode::OK);
    assert!(!receiver.work.is_finished());
}

#[tokio::test]
async fn a_receiver_ends_when_it_has_lingered() {
    let receiver = WholeReceiver::start("http", &[("LINGER_SECONDS", "1")]).await;
    receiver.stop.cancel();
    tokio::time::timeout(WITHIN, receiver.work).await.expect("it ends").expect("no panic");
}
