//! A caller that gives up, for example at the end of its lease, leaves nothing behind.

use std::time::{Duration, Instant};

use ledger::{EndedAction, WrittenProperty};

use crate::fixtures::{TestLedger, event};

/// Waits until no session of this database is within a transaction and does nothing: a rollback may still be on its way.
async fn no_transaction_is_open(test: &TestLedger) {
    let open = "select count(*) from pg_stat_activity
                where datname = current_database() and state like 'idle in transaction%'";
    while test.value::<i64>(open).await > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_cancelled_leaves_no_transaction_open() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    test.claimed_command(&command, "writer").await;
    let written = WrittenProperty { property: "dealstage".to_owned(), before: None, after: "risk".to_owned() };
    let moved = EndedAction { written: Some(written), ..EndedAction::done(command.actions[0].id, None) };
    // Cancelled at every moment of the call: while it waits for a connection, after `begin` was sent, within the transaction, …
    for microseconds in (0..3_000).step_by(15) {
        let (ledger, moved) = (test.ledger.clone(), moved.clone());
        let call = tokio::spawn(async move { ledger.finish_actions(&[moved]).await });
        let started = Instant::now();
        while started.elapsed() < Duration::from_micros(microseconds) {
            std::hint::spin_loop();
        }
        call.abort();
        let _ = call.await;
        let settled = tokio::time::timeout(Duration::from_secs(30), no_transaction_is_open(&test));
        settled.await.expect("a cancelled call leaves no transaction open");
    }
}
