//! Old data goes, a day at a time and in small batches.

use std::time::Duration;

use domain::{EventState, Reason};
use ledger::{Ledger, LedgerSettings, PoolMode};

use crate::{
    fixtures::{TestLedger, decision, event},
    undo::{request, undo_to},
};

/// Everything about contact 1 is of a day long ago, which has partitions of its own.
const AGED: &str = "
    create table inference_raw_20200101 partition of inference_raw
        for values from ('2020-01-01 00:00:00+00') to ('2020-01-02 00:00:00+00');
    create table event_history_20200101 partition of event_history
        for values from ('2020-01-01 00:00:00+00') to ('2020-01-02 00:00:00+00');
    alter table event disable trigger user;
    alter table event_history disable trigger user;
    update event set finished_at = case when finished_at is not null then timestamptz '2020-01-01 12:00:00+00' end
        where object_id = 1;
    update inference_raw r set created_at = '2020-01-01 12:00:00+00'
        from inference i where i.id = r.inference_id and i.object_id = 1;
    update inference set created_at = '2020-01-01 12:00:00+00' where object_id = 1;
    update event_history h set at = '2020-01-01 12:00:00+00' from event e where e.id = h.event_id and e.object_id = 1;
    alter table event_history enable trigger user;
    alter table event enable trigger user;";

#[tokio::test]
async fn days_of_prompts_and_history_are_dropped_when_they_are_older_than_kept() {
    let test = TestLedger::new().await;
    for id in [1, 2] {
        let command = test.decided(&event(id, 1)).await;
        test.written(&command, "a").await;
    }
    test.run(AGED).await;
    assert_eq!(test.ledger.drop_raw_texts().await.expect("dropped"), 1);
    assert_eq!(test.ledger.drop_history().await.expect("dropped"), 1);
    assert_eq!(test.ledger.drop_raw_texts().await.expect("asked"), 0, "nothing else is as old");
    let left: String = test.value("select string_agg(object_id::text, ' ') from inference_text").await;
    assert_eq!(left, "2");
    let story = test.ledger.event_story(event(1, 1).key.as_str()).await.expect("asked").expect("still known");
    assert_eq!((story.state, story.history.len(), story.writes.len()), (EventState::Written, 0, 1));
    assert_eq!((&story.inferences[0].prompt, &story.inferences[0].answer), (&None, &None));
}

#[tokio::test]
async fn rows_of_a_day_without_a_partition_are_deleted_from_the_default_one() {
    let test = TestLedger::new().await;
    test.decided(&event(1, 1)).await;
    test.run("update inference_raw set created_at = '2020-01-01 12:00:00+00'").await;
    test.run("update inference set created_at = '2020-01-01 12:00:00+00'").await;
    assert_eq!(test.value::<i64>("select count(*) from inference_raw_default").await, 1);
    assert_eq!(test.ledger.drop_raw_texts().await.expect("dropped"), 0, "no day is dropped");
    assert_eq!(test.value::<i64>("select count(*) from inference_raw").await, 0);
}

#[tokio::test]
async fn there_are_partitions_for_today_and_the_days_ahead() {
    let test = TestLedger::new().await;
    let partitions = "select count(*) from pg_inherits where inhparent = 'inference_raw'::regclass";
    let before: i64 = test.value(partitions).await;
    assert!(before >= 8, "the migration makes today and seven days, beside the default one: {before}");
    let added = test.ledger.add_partitions(9).await.expect("added");
    assert!(added >= 4, "two days more of two tables: {added}");
    assert_eq!(test.ledger.add_partitions(9).await.expect("asked"), 0);
    let today: String = test.value("select to_char(now() at time zone 'UTC', 'YYYYMMDD')").await;
    assert!(test.value::<bool>(&format!("select to_regclass('event_history_{today}') is not null")).await);
}

#[tokio::test]
async fn old_finished_events_are_deleted_in_batches_and_parked_and_unfinished_ones_stay() {
    let test = TestLedger::new().await;
    for n in 1..=3 {
        let command = test.decided(&event(1, n)).await;
        test.written(&command, "a").await;
    }
    let parked = test.claimed(&event(1, 4), "a").await;
    assert!(test.commit(&decision(&parked, EventState::Parked, Some(Reason::Refused))).await);
    test.claimed(&event(1, 5), "a").await;
    let recent = test.decided(&event(2, 1)).await;
    test.written(&recent, "a").await;
    test.run(AGED).await;

    assert_eq!(test.ledger.delete_finished(2).await.expect("deleted"), 2, "no more than asked for");
    assert_eq!(test.ledger.delete_finished(2).await.expect("deleted"), 1);
    assert_eq!(test.ledger.delete_finished(2).await.expect("asked"), 0);
    let left: String =
        test.value("select string_agg(object_id || ' ' || state, ', ' order by object_id, state) from event").await;
    assert_eq!(left, "1 claimed, 1 parked, 2 written");
    let rows: String = test
        .value(
            "select format('%s %s %s %s %s', (select count(*) from inference),
        (select count(*) from inference_raw), (select count(*) from write_command), (select count(*) from write),
        (select count(*) from action))",
        )
        .await;
    assert_eq!(rows, "1 1 1 1 1", "nothing of the deleted ones is left");
}

/// A ledger whose statements, as those of services, may take as long as this.
fn with_limit(test: &TestLedger, statement_timeout: Duration) -> Ledger {
    let settings = LedgerSettings {
        url: test.url.clone().into(),
        application_name: "tests".to_owned(),
        max_connections: 1,
        acquire_timeout: Duration::from_secs(20),
        statement_timeout,
        pool_mode: PoolMode::Session,
    };
    Ledger::connect(&settings).expect("a URL")
}

#[tokio::test]
async fn a_lock_that_somebody_holds_delays_retention_and_fails_nothing() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    test.written(&command, "a").await;
    test.run(AGED).await;
    test.run(
        "create table inference_raw_20200103 partition of inference_raw
             for values from ('2020-01-03 00:00:00+00') to ('2020-01-04 00:00:00+00')",
    )
    .await;
    let ledger = with_limit(&test, Duration::from_millis(300));
    ledger.add_partitions(7).await.expect("added");
    let mut reads = test.database.begin().await.expect("a transaction");
    sqlx::query("select * from inference_raw_20200103").execute(&mut *reads).await.expect("read");
    assert_eq!(ledger.drop_raw_texts().await.expect("no error"), 1, "the day that nobody reads");
    // A new partition needs the default one for itself.
    sqlx::query("select * from event_history_default").execute(&mut *reads).await.expect("read");
    let added = ledger.add_partitions(8).await.expect("no error");
    assert_eq!(added, 2, "one for each of the other tables");
    reads.rollback().await.expect("a rollback");
    assert_eq!(ledger.drop_raw_texts().await.expect("dropped"), 1);
    assert_eq!(ledger.add_partitions(8).await.expect("added"), 1);
}

/// Without an index, every inference that goes would read all write commands, because of the foreign key.
#[tokio::test]
async fn old_events_are_deleted_without_reading_whole_tables() {
    let test = TestLedger::new().await;
    for id in [1, 2, 3] {
        let command = test.decided(&event(id, 1)).await;
        test.written(&command, "a").await;
    }
    test.run(AGED).await;
    assert_eq!(test.tables_read("select delete_finished_events(10)").await, Vec::<String>::new());
}

#[tokio::test]
async fn an_undo_that_waits_or_is_parked_keeps_its_event_and_a_finished_one_goes_with_it() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    test.written(&command, "a").await;
    let undo = undo_to(&command, "");
    assert_eq!(test.ledger.record_undo(&request(), std::slice::from_ref(&undo)).await.expect("recorded"), [undo.id]);
    test.run(AGED).await;
    test.run("update undo set created_at = '2020-01-01 12:00:00+00'").await;
    assert_eq!(test.ledger.delete_finished(10).await.expect("asked"), 0, "it waits");
    test.run(
        "update write_command set state = 'parked', finished_at = '2020-01-01 12:00:00+00' where undo_id is not null",
    )
    .await;
    assert_eq!(test.ledger.delete_finished(10).await.expect("asked"), 0, "an operator may replay it");
    assert_eq!(test.value::<i64>("select count(*) from undone_properties").await, 1);
    test.run("update write_command set state = 'written' where undo_id is not null").await;
    assert_eq!(test.ledger.delete_finished(10).await.expect("deleted"), 1);
    assert_eq!(test.value::<i64>("select count(*) from undo").await, 0, "who asked for it goes, too");
}

#[tokio::test]
async fn a_young_undo_stays_when_its_event_is_deleted() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    test.written(&command, "a").await;
    let undo = undo_to(&command, "");
    test.ledger.record_undo(&request(), std::slice::from_ref(&undo)).await.expect("recorded");
    test.run(AGED).await;
    test.run("update write_command set state = 'written', finished_at = now() where undo_id is not null").await;
    assert_eq!(test.ledger.delete_finished(10).await.expect("deleted"), 1);
    assert_eq!(test.value::<String>("select asked_by from undo").await, "sales-ops");
}
