//! Statements that are made all the time read few rows, whatever Postgres believes about the tables: it keeps a plan that was made
//! when they were small, and what it knows about rows that come and go was true at another moment.

use std::time::Duration;

use domain::RecordRef;
use ledger::{BeginOutcome, Look, PriorAnswersRequest};

use crate::fixtures::{LEASE, TestLedger, contact, decision_with_commands, event, worker};

/// More calls than Postgres plans anew before it keeps a plan.
const UNTIL_PLANNED: i64 = 40;

/// So many rows of others that a call which goes through them is told from one that does not.
const OTHERS: i64 = 3_000;

/// The rows of `table` that the ledger has read so far. Its sessions end, because one tells what it has read when it ends.
async fn rows_read(test: &TestLedger, table: &str) -> i64 {
    let sessions = "from pg_stat_activity where application_name = 'tests' and datname = current_database()";
    test.run(&format!("select pg_terminate_backend(pid) {sessions}")).await;
    while test.value::<i64>(&format!("select count(*) {sessions}")).await > 0 {
        tokio::task::yield_now().await;
    }
    let read = format!("select seq_tup_read + idx_tup_fetch from pg_stat_user_tables where relname = '{table}'");
    test.value(&read).await
}

#[tokio::test]
async fn what_was_done_recently_is_found_without_going_through_all_answers() {
    let test = TestLedger::new().await;
    let mut commands = Vec::new();
    for n in 1..=2 {
        let command = test.decided(&event(n, 1)).await;
        commands.push((test.claimed_command(&command, "a").await, command));
    }
    let begin = async |n: usize| {
        let (attempt, command) = &commands[n];
        test.begin_action(command.actions[0].id, command.id, *attempt, Look::IfInDoubt).await
    };
    for _ in 0..UNTIL_PLANNED {
        begin(0).await;
    }
    let other = "jsonb_populate_record(i, jsonb_build_object('id', gen_random_uuid(), 'outcome', 'refused'))";
    test.run(&format!("insert into inference select ({other}).* from inference i, generate_series(1, {OTHERS})")).await;
    assert_eq!(begin(1).await, BeginOutcome::Send);
    let read = rows_read(&test, "inference").await;
    assert!(read < OTHERS, "{read} rows were read");
}

#[tokio::test]
async fn newer_events_of_a_record_are_found_without_going_through_all_that_wait() {
    let test = TestLedger::new().await;
    let asked = event(1, 1);
    let claimed = test.claimed(&asked, "a").await;
    assert!(test.commit(&decision_with_commands(&asked, &claimed, 0)).await);
    test.run("update event set state = 'written'").await;
    let copies = async |from: i64, state: &str, finished: &str| {
        let copy = format!(
            "jsonb_populate_record(e, jsonb_build_object('id', gen_random_uuid(), 'event_key', n, 'object_id', n, 'state', '{state}',
                                                         'finished_at', {finished}))"
        );
        let copied = format!(
            "from event e, generate_series({from}, {from} + {OTHERS} - 1) as n where e.id = '{}'",
            claimed.event_id.0
        );
        test.run(&format!("insert into event select ({copy}).* {copied}")).await;
    };
    copies(1_000, "written", "now()").await;
    test.run("analyze").await;
    let request = PriorAnswersRequest {
        event_id: claimed.event_id,
        occurred_at: asked.occurred_at,
        event_key: asked.key.clone(),
        record: asked.record(),
    };
    let ask = async || test.ledger.prior_answers(std::slice::from_ref(&request), Duration::from_secs(60)).await;
    for _ in 0..UNTIL_PLANNED {
        ask().await.expect("asked");
    }
    copies(100_000, "claimed", "null").await;
    ask().await.expect("asked");
    let read = rows_read(&test, "event").await;
    assert!(read < OTHERS, "{read} rows were read");
}

#[tokio::test]
async fn leases_on_records_end_without_going_through_those_of_others() {
    let test = TestLedger::new().await;
    let unlock = async |record: &RecordRef| {
        test.ledger.unlock_records(std::slice::from_ref(record), &worker("a")).await.expect("unlocked");
    };
    test.run("analyze").await;
    for _ in 0..UNTIL_PLANNED {
        unlock(&contact(1)).await;
    }
    let others: Vec<_> = (1..=OTHERS).map(contact).collect();
    test.ledger.lock_records(&others, &worker("b"), LEASE).await.expect("locked");
    test.lease(&contact(0), "a").await;
    unlock(&contact(0)).await;
    let read = rows_read(&test, "record_lease").await;
    assert!(read < OTHERS, "{read} rows were read");
}
