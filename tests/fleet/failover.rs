//! Postgres with a standby behind one address: the standby takes the primary's place, and the fleet goes on with it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use lab::Fleet;
use testbed::{OldPrimary, Replication, Role, Services, TestNamespace};

use fixtures::{WITHIN, ask, end_event_leases, end_write_leases, quick, tasks, until};

use crate::leads::{Load, effects, kill, leadline, leads, restart, until_finished};

/// How long after a promotion the next event is written, at most.
const BACK_WITHIN: Duration = Duration::from_secs(15);

const WRITTEN: &str = "select count(*) from event where state = 'written'";

/// The keys of events that have ended.
async fn finished(fleet: &Fleet) -> BTreeSet<String> {
    let keys = "select array(select event_key from event where finished_at is not null)";
    ask::<Vec<String>>(fleet, keys).await.into_iter().collect()
}

async fn start(services: &Services) -> Fleet {
    let namespace = TestNamespace::new(services).await.expect("a namespace");
    let plan = quick()
        .with("hubspot.timeout_seconds", "2")
        .with("ledger.statement_timeout_ms", "3000")
        .with("ledger.acquire_timeout_ms", "2000")
        .with("reconcile.interval_seconds", "3600");
    Fleet::start(namespace, &plan).await.expect("a fleet")
}

/// With synchronous replication: what the ledger had confirmed is there, everything is done once, and the fleet is back at work
/// soon.
async fn nothing_confirmed_is_lost(old: OldPrimary) {
    http_client::install_tls_provider();
    let mut services = Services::with_standby(Replication::Synchronous).await.expect("services");
    let mut fleet = start(&services).await;
    let load = Load::start(&fleet, 1);
    until("the fleet is at work", async || ask::<i64>(&fleet, WRITTEN).await >= 10).await;

    let confirmed = finished(&fleet).await;
    services.instances().expect("private").promote_standby(old).await.expect("promoted");
    let promoted = Instant::now();
    let before = ask::<i64>(&fleet, WRITTEN).await;
    until("an event is written", async || ask::<i64>(&fleet, WRITTEN).await > before).await;
    let back = promoted.elapsed();
    println!("{old:?}: back at work {back:?} after the promotion");
    assert!(back < BACK_WITHIN, "back at work after {back:?}\n{}", fleet.logs());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ids = load.stop().await;

    // Nothing more is sent under a lease that the test ends.
    let workers = ["leadline-inference", "leadline-writer"];
    workers.iter().for_each(|program| kill(&mut fleet, program));
    end_event_leases(&fleet).await;
    end_write_leases(&fleet).await;
    workers.iter().for_each(|program| restart(&mut fleet, program));
    fleet.until_ready().await.expect("ready");
    until_finished(&fleet).await;
    let lost: Vec<_> = confirmed.difference(&finished(&fleet).await).cloned().collect();
    assert!(lost.is_empty(), "confirmed and lost: {lost:?}");
    let (calls, _) = effects(&fleet).await;
    for id in ids.clone() {
        assert_eq!(calls.get(&format!("Call Lead{id}: score 85")), Some(&1), "lead {id}\n{}", fleet.logs());
    }
    assert_eq!(tasks(&fleet).await.len(), ids.clone().count());
    // At least once each, and a channel that looks at the key sees each once.
    let keys: BTreeSet<_> =
        fleet.simulator.messages().await.expect("asked").into_iter().map(|message| message.key).collect();
    assert_eq!(keys.len(), ids.count());
    assert_eq!(ask::<i64>(&fleet, "select count(*) from parked").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_has_all_that_was_confirmed_when_the_primary_dies() {
    nothing_confirmed_is_lost(OldPrimary::Dies).await;
}

/// The connections of the fleet stay open, and lead to a server that only reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_has_all_that_was_confirmed_when_the_old_primary_only_reads() {
    nothing_confirmed_is_lost(OldPrimary::OnlyReads).await;
}

/// With asynchronous replication the last commits may be lost with the primary. The ledger notices the promotion by itself, a
/// backfill finds the events again, and HubSpot knows what was done for them.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_asynchronous_standby_lacks_is_found_again_and_not_done_twice() {
    http_client::install_tls_provider();
    let mut services = Services::with_standby(Replication::Asynchronous).await.expect("services");
    let fleet = start(&services).await;
    leads(&fleet, 1..=3).await;
    until("three are written", async || ask::<i64>(&fleet, WRITTEN).await == 3).await;
    fleet.until_idle(WITHIN).await.expect("idle");
    // The standby has these: it has what the primary has now.
    let replicated = "select bool_and(replay_lsn >= pg_current_wal_lsn()) from pg_stat_replication";
    until("the standby has them", async || ask::<Option<bool>>(&fleet, replicated).await == Some(true)).await;

    services.instances().expect("private").cut_replication().expect("cut");
    leads(&fleet, 10..=14).await;
    until("five more are written", async || ask::<i64>(&fleet, WRITTEN).await == 8).await;
    fleet.until_idle(WITHIN).await.expect("idle");
    let before = effects(&fleet).await;
    services.instances().expect("private").promote_standby(OldPrimary::Dies).await.expect("promoted");
    assert_eq!(ask::<i64>(&fleet, WRITTEN).await, 3, "the commits of the last five are lost");

    fleet.simulator.complete_search_index().await.expect("indexed");
    let backfilled = fixtures::backfill(&fleet, &[]).await;
    assert!(!backfilled.contains("0 events queued"), "{backfilled}");
    leadline(&fleet, Role::Operator, &["reconcile", "--after", "1", "--yes"]).await;
    until_finished(&fleet).await;
    assert_eq!(effects(&fleet).await, before, "no task and no message twice\n{}", fleet.logs());
    let known = "select count(distinct object_id) from event
                 where object_type = '0-1' and object_id between 10 and 14 and finished_at is not null";
    assert_eq!(ask::<i64>(&fleet, known).await, 5);
    assert_eq!(ask::<i64>(&fleet, "select count(*) from recovery").await, 2, "it noticed the promotion by itself");
    let again = fixtures::backfill(&fleet, &["--dry-run"]).await;
    assert!(again.contains("0 events would be queued"), "{again}");
}
