//! Facts about the portal are asked for once, and what HubSpot does not say of them holds nothing up.

use std::time::Duration;

use futures_util::future::join_all;
use inference::{PortalClock, WritableProperties};
use playbook::{Playbook, PortalZone};
use retry::{Failure, Reason};
use simulator::{Fault, FaultKind, Target};

use crate::fixtures::{calls, client, post};

/// How often a call is tried.
const ATTEMPTS: usize = 2;

const LEADS: &str = include_str!("../../../../deploy/playbooks/lead-qualification.toml");

async fn clock() -> (PortalClock, String) {
    let (hubspot, url) = client(ATTEMPTS).await;
    (PortalClock::new(hubspot), url)
}

async fn fault(url: &str, path: &str, kind: FaultKind) {
    post(url, "faults", &Fault::new(Target::Hubspot, kind).on_path(path)).await;
}

async fn clear_faults(url: &str) {
    let request = reqwest::Client::new().delete(format!("{url}/_simulator/faults"));
    request.send().await.expect("sent").error_for_status().expect("accepted");
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
        let asked = calls(&url).await.len();
        clock.now().await.expect("known");
        assert_eq!(calls(&url).await.len(), asked, "{kind:?}: not for every event");
    }
}

#[tokio::test]
async fn an_outage_is_waited_for_by_all_together_and_then_the_time_zone_is_known() {
    let (clock, url) = clock().await;
    fault(&url, "/account-info/", status(503)).await;
    for result in join_all((0..20).map(|_| clock.now())).await {
        assert_eq!(result.expect_err("HubSpot is away").reason(), Reason::HubSpotUnavailable);
    }
    assert_eq!(calls(&url).await.len(), ATTEMPTS, "one asked for all");
    clear_faults(&url).await;
    let eastern = PortalZone::named("US/Eastern").expect("known");
    for result in join_all((0..20).map(|_| clock.now())).await {
        assert_eq!(result.expect("said").zone, eastern);
    }
    assert_eq!(calls(&url).await.len(), ATTEMPTS + 1);
}

#[tokio::test]
async fn a_check_of_the_definitions_that_hangs_holds_up_no_question() {
    let (hubspot, url) = client(ATTEMPTS).await;
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
