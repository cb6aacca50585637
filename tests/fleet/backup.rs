//! A ledger that is lost and restored from its dump: nothing is done twice, and everything since the dump is found again.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use lab::Fleet;
use serde_json::json;
use simulator::{Fault, FaultKind, Target, admin::Edit};
use testbed::{Role, Services, TestNamespace};
use time::OffsetDateTime;

use fixtures::{
    WITHIN, approved_as, ask, end_event_leases, end_write_leases, ended_as, held, object, property, quick,
    send_accepted, until,
};

use crate::leads::{Load, effects, kill, lead, leadline, leads, log, restart, until_finished};

/// The text of the contacts about which the model is asked while the ledger is dumped.
const ASKED_NOW: &str = "<p>They have $50k ready for Q1 and are very excited to start. Asked while the dump runs.</p>";

const ANGRY: &str = "<p>This is <b>unacceptable</b>. It is still broken and we want a refund.</p>";

const CALL: &str =
    "<p>They liked the demo. We will send the offer by 2026-12-01. Next step is a workshop on 2026-12-10.</p>";

/// A person sets a property, without a webhook.
async fn set(fleet: &Fleet, kind: &str, id: i64, property: &str, value: &str) {
    let edit = Edit {
        properties: [(property.to_owned(), value.to_owned())].into(),
        source: "CRM_UI".to_owned(),
        source_id: "userId:42".to_owned(),
        announce: false,
    };
    fleet.simulator.edit(kind, id, &edit).await.expect("edited");
}

/// A record was created just now.
fn created(kind: &str, id: i64) -> serde_json::Value {
    let mut event = fixtures::happened(kind, id, "creation", None, id);
    event["occurredAt"] =
        json!(i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).expect("fits"));
    event
}

/// A file that is removed with this value.
struct Dump(PathBuf);

impl Drop for Dump {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_ledger_does_nothing_twice_and_finds_everything_since_the_dump() {
    http_client::install_tls_provider();
    let services = Services::private("", "").await.expect("services");
    let namespace = TestNamespace::new(&services).await.expect("a namespace");
    let dump = Dump(std::env::temp_dir().join(format!("{}.dump", namespace.name)));
    let plan = quick()
        .with("hubspot.timeout_seconds", "4")
        .with("writer.lease_seconds", &LEASE.to_string())
        .with("rate_limit.batch_linger_at_limit_ms", "0")
        .with("reconcile.interval_seconds", "3600");
    let mut fleet = Fleet::start(namespace, &plan).await.expect("a fleet");

    // Written before the dump.
    leads(&fleet, 1..=4).await;
    until("four are written", async || ask::<i64>(&fleet, WRITTEN).await == 4).await;

    let load = Load::start(&fleet, 100);
    // While the ledger is dumped, the model is asked about two, and two are on their way to HubSpot.
    let asked = Fault::new(Target::Openai, FaultKind::Held).containing("Asked while the dump runs");
    fleet.simulator.fault(&asked).await.expect("set");
    for id in [5, 6] {
        lead(&fleet.simulator, id, ASKED_NOW).await;
        log(&fleet.simulator, id).await;
    }
    until("the model is asked", async || fleet.simulator.open_requests().await.expect("asked") >= 2).await;
    let sent = Fault::new(Target::Hubspot, FaultKind::Held).on_path("/contacts/batch/update");
    fleet.simulator.fault(&sent).await.expect("set");
    leads(&fleet, [7, 8]).await;
    let taken = "select count(*) from write_command where object_id in (7, 8) and state = 'sending'";
    until("the writer has them", async || ask::<i64>(&fleet, taken).await == 2).await;
    fleet.namespace.dump_ledger(&dump.0).await.expect("dumped");
    fleet.simulator.clear_faults().await.expect("cleared");

    // The fleet goes on working.
    leads(&fleet, 20..=24).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let under_load = load.stop().await;
    let stage =
        [("dealname", "Renewal"), ("dealstage", "contractsent"), ("pipeline", "default"), ("hubspot_owner_id", "71")];
    object(&fleet, "deal", 40, &stage, &[("contact", 20)]).await;
    object(&fleet, "ticket", 30, &[("subject", "Outage"), ("content", ANGRY)], &[("contact", 20)]).await;
    let call = [("hs_call_title", "Demo"), ("hs_call_body", CALL), ("hs_call_status", "COMPLETED")];
    object(&fleet, "call", 31, &call, &[("contact", 21)]).await;
    let webhooks = [created("ticket", 30), created("call", 31)];
    send_accepted(&fleet, &webhooks).await;
    approved_as(&fleet, &webhooks[0], "churn-risk", ("written", None)).await;
    ended_as(&fleet, &webhooks[1], "written", None).await;
    fleet.until_idle(WITHIN).await.expect("idle");
    assert_ne!(held(&fleet, "deal", 40, "dealstage").await.as_deref(), Some("contractsent"), "the fleet has moved it");
    // People change what the fleet did.
    set(&fleet, "deal", 40, "dealstage", "contractsent").await;
    set(&fleet, "contact", 20, "lead_score", "7").await;
    // One is decided and not written, two are in the queue.
    kill(&mut fleet, "leadline-writer");
    leads(&fleet, [50]).await;
    fleet.until_holds("leadline.writes", 1, WITHIN).await.expect("published");
    kill(&mut fleet, "leadline-inference");
    leads(&fleet, [60, 61]).await;
    fleet.until_holds("leadline.events", 2, WITHIN).await.expect("in the queue");
    let (calls_before, messages_before) = effects(&fleet).await;
    let last_write = Instant::now();

    fleet.namespace.lose_ledger().await.expect("lost");
    leads(&fleet, [70]).await;
    fleet.until_holds("leadline.events", 3, WITHIN).await.expect("taken without a ledger");
    fleet.namespace.restore_ledger(&dump.0).await.expect("restored");
    // A restore takes longer than a lease.
    let last_write = last_write.elapsed();
    tokio::time::sleep(Duration::from_secs(LEASE + 1).saturating_sub(last_write)).await;
    leadline(&fleet, Role::Owner, &["migrate"]).await;
    end_event_leases(&fleet).await;
    end_write_leases(&fleet).await;
    restart(&mut fleet, "leadline-inference");
    restart(&mut fleet, "leadline-writer");
    fleet.until_ready().await.expect("ready");
    // HubSpot delivers once more what the ledger has forgotten, and something new happens to whom it has forgotten.
    send_accepted(&fleet, &webhooks).await;
    log(&fleet.simulator, 22).await;
    fleet.simulator.complete_search_index().await.expect("indexed");
    for playbook in ["lead-qualification", "churn-risk", "call-summary"] {
        leadline(&fleet, Role::Operator, &["backfill", "--playbook", playbook, "--since", "1h"]).await;
    }
    // HubSpot's search leaves out for moments what was changed just now, as by the writers of this fleet: an operator runs it again,
    // until it finds nothing. A message that a worker holds and has not claimed yet is in no queue and in no row, either.
    until("the ledger knows each change", async || {
        let found = fixtures::backfill(&fleet, &[]).await;
        until_finished(&fleet).await;
        fleet.simulator.complete_search_index().await.expect("indexed");
        found.contains("0 events queued")
    })
    .await;

    let (calls, messages) = effects(&fleet).await;
    let all: Vec<i64> = [1, 2, 3, 4, 5, 6, 7, 8].into_iter().chain(20..=24).chain(under_load).collect();
    for id in all.iter().chain(&[50, 60, 61, 70]) {
        let (call, name) = (format!("Call Lead{id}: score 85"), format!("Lead{id}"));
        assert_eq!((calls.get(&call), messages.get(&name)), (Some(&1), Some(&1)), "{name}\n{}", fleet.logs());
        let seen = property(&fleet, *id, "lead_score").await;
        assert_eq!(seen.as_deref(), Some(if *id == 20 { "7" } else { "85" }), "{name}");
    }
    let new = ["Call Lead50: score 85", "Call Lead60: score 85", "Call Lead61: score 85", "Call Lead70: score 85"];
    let others: BTreeMap<_, _> = calls.iter().filter(|(subject, _)| !new.contains(&subject.as_str())).collect();
    assert_eq!(others, calls_before.iter().collect::<BTreeMap<_, _>>(), "nothing was made again");
    assert_eq!(messages.len(), messages_before.len() + new.len());
    assert_eq!(held(&fleet, "deal", 40, "dealstage").await.as_deref(), Some("contractsent"), "a person's decision");
    let known = "select count(distinct object_id) from event
                 where object_type = '0-1' and object_id between 20 and 24 and finished_at is not null";
    assert_eq!(ask::<i64>(&fleet, known).await, 5, "the ledger knows again what happened since the dump");
    // The message of a write command that is forgotten waits for an operator: its event has made another one.
    fleet.until_parked("leadline.writes", 1, WITHIN).await.expect("the forgotten command");
    let discarded = ["parked", "discard", "--reason", "unknown_command", "--yes"];
    assert!(leadline(&fleet, Role::Operator, &discarded).await.contains("1 discarded"));
}

/// How long a writer may hold a write command, in seconds.
const LEASE: u64 = 15;

/// How many contacts have a score, as far as the ledger knows.
const WRITTEN: &str = "select count(distinct object_id) from write where property = 'lead_score'";
