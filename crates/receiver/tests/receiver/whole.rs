//! A receiver as its `main` starts it, with settings and files.

use std::time::Duration;

use axum::http::StatusCode;
use service::Wired;
use settings::{ConfigScope, Settings};
use testbed::{Role, TestNamespace, free_port};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fixtures::{PUBLIC_URL, SECRET};

/// How long a test waits for what happens at once.
pub const WITHIN: Duration = Duration::from_secs(30);

/// A receiver as its `main` starts it.
pub struct WholeReceiver {
    /// Where it listens: host and port.
    pub address: String,
    pub url: String,
    pub stop: CancellationToken,
    pub work: JoinHandle<()>,
    _namespace: TestNamespace,
    _stopped_on_drop: DropGuard,
}

impl WholeReceiver {
    /// With these settings of the section `receiver`; `scheme` is what they make it speak.
    pub async fn start(scheme: &str, receiver: &[(&str, &str)]) -> Self {
        http_client::install_tls_provider();
        let namespace = testbed::namespace().await.expect("a namespace");
        let address = format!("127.0.0.1:{}", free_port().expect("a port"));
        let settings = |broker_url: &str| {
            let values = [
                ("LEADLINE__BROKER__URL", broker_url),
                ("LEADLINE__HUBSPOT__CLIENT_SECRET", SECRET),
                ("LEADLINE__RECEIVER__PUBLIC_URL", PUBLIC_URL),
                ("LEADLINE__RECEIVER__LISTEN", &address),
                // The shortest.
                ("LEADLINE__SECRETS__RELOAD_SECONDS", "1"),
            ];
            let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let more =
                receiver.iter().map(|(name, value)| (format!("LEADLINE__RECEIVER__{name}"), (*value).to_owned()));
            Settings::load_from(None, values.into_iter().chain(more).collect(), ConfigScope::Receiver)
                .expect("settings")
        };
        let owner = bootstrap::broker_settings(&settings(&namespace.amqp_url), "owner").expect("settings");
        broker::declare_topology(&owner).await.expect("declared");
        let stop = CancellationToken::new();
        let settings = settings(&namespace.amqp_url_of(Role::Receiver).expect("a URL"));
        let Wired { work, .. } = receiver::start(settings, stop.clone()).await.expect("started");
        let work = tokio::spawn(async move { work.await.expect("no error") });
        let guard = stop.clone().drop_guard();
        let url = format!("{scheme}://{address}");
        let started = Self { address, url, stop, work, _namespace: namespace, _stopped_on_drop: guard };
        let connected = async {
            while started.health().await != StatusCode::OK {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(WITHIN, connected).await.expect("connected to RabbitMQ");
        started
    }

    pub async fn health(&self) -> StatusCode {
        // Who it is, is another test's question.
        let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().expect("a client");
        client.get(format!("{}/healthz", self.url)).send().await.expect("an answer").status()
    }
}
