//! A PgBouncer before Postgres that gives sessions to single transactions.

use lab::Fleet;
use testbed::{PgBouncer, Services, TestNamespace};

use fixtures::{BUYER, contact, ended_as, note_event, pipeline, property, send_accepted};

async fn pooled() -> (TestNamespace, PgBouncer) {
    let services = Services::from_environment().expect("services");
    let namespace = TestNamespace::migrated(&services).await.expect("a namespace");
    let pooler = PgBouncer::start(&namespace.postgres_url, "pool_mode = transaction\ndefault_pool_size = 4").await;
    (namespace, pooler.expect("PgBouncer"))
}

#[tokio::test]
async fn the_main_job_is_done_through_transaction_pooling() {
    let (namespace, pooler) = pooled().await;
    let plan = pipeline().with("ledger.url", &pooler.url).with("ledger.pool_mode", "transaction");
    let fleet = Fleet::start(namespace, &plan).await.expect("a fleet");
    for id in 1..=8 {
        contact(&fleet, id, &[BUYER]).await;
    }
    send_accepted(&fleet, &(1..=8).map(|id| note_event(id, 1)).collect::<Vec<_>>()).await;
    for id in 1..=8 {
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
        assert!(property(&fleet, id, "lead_score").await.is_some());
    }
    let status = fleet.leadline(&["status"]).await.expect("runs");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    // It cannot migrate there, and says what it needs.
    let migrated = fleet.leadline(&["migrate"]).await.expect("runs");
    let said = String::from_utf8_lossy(&migrated.stderr).into_owned();
    assert!(!migrated.status.success() && said.contains("in session mode"), "{said}");
}

#[tokio::test]
async fn a_service_behind_a_pooler_that_it_was_not_told_of_ends_with_words() {
    let (namespace, pooler) = pooled().await;
    let plan = pipeline().with("ledger.url", &pooler.url);
    let error = Fleet::start(namespace, &plan).await.expect_err("no session is its own");
    assert!(format!("{error:#}").contains("ledger.pool_mode = \"transaction\""), "{error:#}");
}
