//! How long it takes in a large ledger to select what is to be undone, and to explain a value. Measured by hand:
//! `cargo xtask test -p ledger --test ledger -- --ignored --nocapture --test-threads 1 selecting`.

use std::time::Instant;

use ledger::UndoSelection;
use time::{Duration, OffsetDateTime};

use crate::{
    erasure_size::filled,
    fixtures::{PORTAL, TestLedger, contact},
};

/// Records of a page, as `leadline undo` asks for them.
const RECORDS_AT_ONCE: usize = 1_000;

async fn select(test: &TestLedger, what: &str, selection: &UndoSelection) {
    let began = Instant::now();
    let records = test.ledger.records_to_undo(PORTAL, selection).await.expect("asked");
    let (found, mut writes) = (began.elapsed(), 0);
    for page in records.chunks(RECORDS_AT_ONCE) {
        writes += test.ledger.writes_to_undo(PORTAL, selection, page).await.expect("asked").len();
        test.ledger.actions_to_undo(PORTAL, selection, page).await.expect("asked");
    }
    eprintln!("{what}: {} records after {found:?}, their {writes} writes after {:?}", records.len(), began.elapsed());
}

#[tokio::test]
#[ignore = "fills a ledger for minutes"]
async fn selecting_among_a_million_writes_is_measured() {
    // Two writes to each contact, of 90 days.
    let test = filled("1 + n % 500000").await;
    for (what, hours) in [("a day", 24), ("150,000 writes", 324)] {
        let since = Some(OffsetDateTime::now_utc() - Duration::hours(hours));
        select(&test, what, &UndoSelection { since, ..UndoSelection::default() }).await;
    }
    let records = Some(vec![contact(1)]);
    select(&test, "one record", &UndoSelection { records, ..UndoSelection::default() }).await;
    let began = Instant::now();
    let explanation = test.ledger.explain(&[contact(1)], "lead_score").await.expect("asked");
    eprintln!("a value with {} writes explained in {:?}", explanation.writes.len(), began.elapsed());
}
