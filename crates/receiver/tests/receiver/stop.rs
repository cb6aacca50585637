//! How a receiver stops: load balancers hear of it later, and lose no webhook.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;
use service::Wired;
use settings::{ConfigScope, Settings};
use testbed::{Role, TestNamespace, free_port};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fixtures::{PUBLIC_URL, SECRET, answer, event, signed_request};

/// How long a test waits for what happens at once.
const WITHIN: Duration = Duration::from_secs(30);

/// A receiver as its `main` starts it.
struct WholeReceiver {
    url: String,
    stop: CancellationToken,
    work: JoinHandle<()>,
    _namespace: TestNamespace,
    _stopped_on_drop: DropGuard,
}

impl WholeReceiver {
    async fn start(linger_seconds: u64) -> Self {
        http_client::install_tls_provider();
        let namespace = testbed::namespace().await.expect("a namespace");
        let url = format!("127.0.0.1:{}", free_port().expect("a port"));
        let settings = |broker_url: &str| {
            let values = [
                ("LEADLINE__BROKER__URL", broker_url),
                ("LEADLINE__HUBSPOT__CLIENT_SECRET", SECRET),
                ("LEADLINE__RECEIVER__PUBLIC_URL", PUBLIC_URL),
                ("LEADLINE__RECEIVER__LISTEN", &url),
                ("LEADLINE__RECEIVER__LINGER_SECONDS", &linger_seconds.to_string()),
            ];
            let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
            Settings::load_from(None, values.into(), ConfigScope::Receiver).expect("settings")
        };
        let owner = bootstrap::broker_settings(&settings(&namespace.amqp_url), "owner").expect("settings");
        broker::declare_topology(&owner).await.expect("declared");
        let stop = CancellationToken::new();
        let settings = settings(&namespace.amqp_url_of(Role::Receiver).expect("a URL"));
        let Wired { work, .. } = receiver::start(settings, stop.clone()).await.expect("started");
        let work = tokio::spawn(async move { work.await.expect("no error") });
        let guard = stop.clone().drop_guard();
        let started = Self { url: format!("http://{url}"), stop, work, _namespace: namespace, _stopped_on_drop: guard };
        let connected = async {
            while started.health().await != StatusCode::OK {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(WITHIN, connected).await.expect("connected to RabbitMQ");
        started
    }

    async fn health(&self) -> StatusCode {
        reqwest::get(format!("{}/healthz", self.url)).await.expect("an answer").status()
    }
}

#[tokio::test]
async fn a_receiver_that_was_told_to_stop_takes_webhooks_while_it_lingers_and_load_balancers_are_told() {
    // Longer than the test.
    let receiver = WholeReceiver::start(300).await;
    receiver.stop.cancel();
    assert_eq!(receiver.health().await, StatusCode::SERVICE_UNAVAILABLE);
    let url = format!("{}/webhooks/hubspot", receiver.url);
    let webhook = signed_request(&url, PUBLIC_URL, SECRET, json!([event(1, 1)]).to_string().into());
    assert_eq!(answer(webhook).await.status(), StatusCode::OK);
    assert!(!receiver.work.is_finished());
}

#[tokio::test]
async fn a_receiver_ends_when_it_has_lingered() {
    let receiver = WholeReceiver::start(1).await;
    receiver.stop.cancel();
    tokio::time::timeout(WITHIN, receiver.work).await.expect("it ends").expect("no panic");
}
