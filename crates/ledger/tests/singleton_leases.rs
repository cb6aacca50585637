//! A task of the fleet is done by one worker at a time.

use crate::fixtures::{LEASE, TestLedger, worker};

#[tokio::test]
async fn one_worker_acquires_the_lease_until_it_ends() {
    let test = TestLedger::new().await;
    let acquire = async |name: &str, holder: &str| {
        test.ledger.acquire_singleton_lease(name, &worker(holder), LEASE).await.expect("asked")
    };
    let (a, b) = tokio::join!(acquire("reconcile", "a"), acquire("reconcile", "b"));
    assert!(a ^ b, "one of them");
    assert!(!acquire("reconcile", "a").await && !acquire("reconcile", "b").await, "the task is done once in its time");
    assert!(acquire("retention", "b").await, "another task");
    test.run("update singleton_lease set expires_at = now() - interval '1 second' where name = 'reconcile'").await;
    assert!(acquire("reconcile", "c").await);
    let holder: String = test.value("select holder from singleton_lease where name = 'reconcile'").await;
    assert_eq!(holder, "c");
}
