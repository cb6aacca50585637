//! Facts about the portal are asked for once, and what HubSpot does not say of them holds nothing up.
#![allow(clippy::expect_used, reason = "these are tests")]

use std::time::Duration;

use futures_util::future::join_all;
use hubspot::{
    HubSpotClient,
    client::{ApiVersions, HubSpotSettings},
};
use inference::{PortalClock, WritableProperties};
use playbook::{Playbook, PortalZone};
use retry::{CallHooks, Failure, Reason, RetryPolicy};
use simulator::{Call, Config, Fault, FaultKind, Simulator, Target};
use tokio::net::TcpListener;

/// How often a call is tried.
const ATTEMPTS: usize = 2;

const LEADS: &str = include_str!("../../../deploy/playbooks/lead-qualification.toml");

/// A client, and the URL of the simulator that it asks.
async fn client() -> (HubSpotClient, String) {
    http_client::install_tls_provider();
    let config = Config::default();
    let token = config.token.clone().into();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Simulator::new(config).router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let hubspot = HubSpotClient::new(HubSpotSettings {
        base_url: url.clone(),
        token,
        api_versions: ApiVersions::default(),
        timeout: Duration::from_secs(30),
        retry: RetryPolicy {
            attempts: ATTEMPTS,
            base_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(2),
        },
        max_response_bytes: 10_000_000,
        hooks: CallHooks::default(),
    })
    .expect("a client");
    (hubspot, url)
}

async fn clock() -> (PortalClock, String) {
    let (hubspot, url) = client().await;
    (PortalClock::new(hubspot), url)
}

async fn fault(url: &str, path: &str, kind: FaultKind) {
    let fault = Fault::new(Target::Hubspot, kind).on_path(path);
    let request = reqwest::Client::new().post(format!("{url}/_simulator/faults")).json(&fault);
    request.send().await.expect("sent").error_for_status().expect("accepted");
}

async fn clear_faults(url: &str) {
    let request = reqwest::Client::new().delete(format!("{url}/_simulator/faults"));
    request.send().await.expect("sent").error_for_status().expect("accepted");
}

async fn calls(url: &str) -> usize {
    let calls: Vec<Call> =
        reqwest::get(format!("{url}/_simulator/calls")).await.expect("asked").json().await.expect("calls");
    calls.len()
}

fn status(code: u16) -> FaultKind {
    FaultKind::Status { code, retry_after: None }
}

#[tokio::test]
async fn a_time_zone_that_hubspot_does_not_say_is_utc_for_a_while() {
    for kind in [FaultKind::Malformed, status(403), status(404)] {
        let (clock, url) = clock().await;
        fault(&url, "/account-info/", kind.clone()).await;
        let now = clock.now().await.unwrap_or_else(|error| panic!("{kind:?} stops everything: {error}"));
        assert_eq!(now.zone, PortalZone::utc());
        let asked = calls(&url).await;
        clock.now().await.expect("known");
        assert_eq!(calls(&url).await, asked, "{kind:?}: not for every event");
    }
}

#[tokio::test]
async fn an_outage_is_waited_for_by_all_together_and_then_the_time_zone_is_known() {
    let (clock, url) = clock().await;
    fault(&url, "/account-info/", status(503)).await;
    for result in join_all((0..20).map(|_| clock.now())).await {
        assert_eq!(result.expect_err("HubSpot is away").reason(), Reason::HubSpotUnavailable);
    }
    assert_eq!(calls(&url).await, ATTEMPTS, "one asked for all");
    clear_faults(&url).await;
    let eastern = PortalZone::named("US/Eastern").expect("known");
    for result in join_all((0..20).map(|_| clock.now())).await {
        assert_eq!(result.expect("said").zone, eastern);
    }
    assert_eq!(calls(&url).await, ATTEMPTS + 1);
}

#[tokio::test]
async fn a_check_of_the_definitions_that_hangs_holds_up_no_question() {
    let (hubspot, url) = client().await;
    fault(&url, "/properties/", FaultKind::Held).await;
    let playbook = Playbook::parse("lead-qualification.toml", LEADS, &[]).expect("a valid playbook");
    let writable = WritableProperties::new(hubspot, [&playbook]);
    let question = async {
        tokio::select! {
            biased;
            () = writable.watch() => panic!("it never ends"),
            refusal = writable.nothing_to_write(&playbook) => refusal,
        }
    };
    let refusal = tokio::time::timeout(Duration::from_secs(20), question).await.expect("it waits for the check");
    assert_eq!(refusal, None);
}
