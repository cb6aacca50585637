//! A simulator of a test's own, and a client that asks it.

use std::time::Duration;

use hubspot::{
    HubSpotClient,
    client::{ApiVersions, HubSpotSettings},
};
use retry::{CallHooks, RetryPolicy};
use simulator::{Call, Config, Simulator};
use tokio::net::TcpListener;

/// A client that tries each call `attempts` times, and the URL of the simulator that it asks.
pub async fn client(attempts: usize) -> (HubSpotClient, String) {
    http_client::install_tls_provider();
    let config = Config { calls_per_10s: 100_000, ..Config::default() };
    let token = config.token.clone().into();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Simulator::new(config).router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let hubspot = HubSpotClient::new(HubSpotSettings {
        authorities: None,
        base_url: url.clone(),
        token,
        api_versions: ApiVersions::default(),
        timeout: Duration::from_secs(30),
        retry: RetryPolicy { attempts, base_delay: Duration::from_millis(1), max_delay: Duration::from_millis(2) },
        max_response_bytes: 10_000_000,
        hooks: CallHooks::default(),
    });
    (hubspot.expect("a client"), url)
}

/// Tells the simulator something.
pub async fn post(url: &str, path: &str, body: &impl serde::Serialize) {
    let request = reqwest::Client::new().post(format!("{url}/_simulator/{path}")).json(body);
    request.send().await.expect("sent").error_for_status().expect("accepted");
}

/// Switches all faults of the simulator off.
pub async fn clear_faults(url: &str) {
    let request = reqwest::Client::new().delete(format!("{url}/_simulator/faults"));
    request.send().await.expect("sent").error_for_status().expect("accepted");
}

/// The calls that the simulator got.
pub async fn calls(url: &str) -> Vec<Call> {
    reqwest::get(format!("{url}/_simulator/calls")).await.expect("asked").json().await.expect("calls")
}
