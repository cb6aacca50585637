//! A ledger that comes back from a backup or a standby notices it, and says what it may have forgotten.

use std::{collections::HashSet, time::Duration};

use domain::ActionId;
use ledger::{BeginOutcome, CommandClaim, Look};
use sqlx::{Connection, PgConnection};
use testbed::Services;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::fixtures::{TestLedger, contact, event};

/// What the tables say when they come from another database.
const RESTORED: &str = "update recovery set database = 'another one'";

/// A marker's id whose event happened at this time.
fn marker(at: OffsetDateTime) -> ActionId {
    let milliseconds = u128::try_from(at.unix_timestamp_nanos() / 1_000_000).expect("after 1970");
    ActionId(Uuid::from_u128(milliseconds << 80 | ActionId::new().0.as_u128() & ((1 << 80) - 1)))
}

#[tokio::test]
async fn a_ledger_that_was_never_restored_has_forgotten_nothing() {
    let test = TestLedger::new().await;
    for _ in 0..2 {
        assert_eq!(test.ledger.recovery().await.expect("asked"), None);
    }
    let command = test.decided(&event(1, 1)).await;
    let claim = test.claim_command(&command, "a").await;
    assert!(matches!(claim, CommandClaim::Granted { recovery: None, .. }), "{claim:?}");
}

#[tokio::test]
async fn a_restored_ledger_notices_it_before_a_command_is_carried_out_and_notices_it_once() {
    let test = TestLedger::new().await;
    assert_eq!(test.ledger.recovery().await.expect("asked"), None);
    let (first, second) = (test.decided(&event(1, 1)).await, test.decided(&event(2, 1)).await);
    test.run(RESTORED).await;
    let before = OffsetDateTime::now_utc();
    let CommandClaim::Granted { recovery: Some(recovery), .. } = test.claim_command(&first, "a").await else {
        panic!("it was restored");
    };
    assert!(recovery.at >= before - Duration::from_secs(5) && recovery.is_after(before - Duration::from_secs(60)));
    assert!(!recovery.is_after(recovery.at + Duration::from_secs(120)), "what happens now is not forgotten");
    let CommandClaim::Granted { recovery: Some(again), .. } = test.claim_command(&second, "b").await else {
        panic!("it was restored");
    };
    assert_eq!(again.at, recovery.at);
    assert_eq!(test.value::<i64>("select count(*) from recovery").await, 2);
}

/// The table is another one after `pg_restore`, even in the same database of the same server.
#[tokio::test]
async fn a_database_that_is_made_anew_is_another_one() {
    let test = TestLedger::new().await;
    let identity = "select database_identity()";
    let first: String = test.value(identity).await;
    test.run("create table copy as table recovery; drop table recovery; alter table copy rename to recovery").await;
    assert_ne!(test.value::<String>(identity).await, first);
    let services = Services::from_environment().expect("services");
    let mut server = PgConnection::connect(&services.postgres_url).await.expect("connected");
    let timeline: String = sqlx::query_scalar("select left(pg_walfile_name(pg_current_wal_lsn()), 8)")
        .fetch_one(&mut server)
        .await
        .expect("asked");
    assert!(first.ends_with(&timeline), "a promotion begins another timeline: {first}");
}

#[tokio::test]
async fn markers_of_the_time_that_is_forgotten_are_the_fleets_own() {
    let test = TestLedger::new().await;
    assert_eq!(test.ledger.recovery().await.expect("asked"), None);
    let known = test.decided(&event(1, 1)).await.actions[0].id;
    let now = OffsetDateTime::now_utc();
    let (forgotten, old) = (marker(now), marker(now - Duration::from_secs(3 * 86_400)));
    let asked = [known, forgotten, old];
    assert_eq!(test.ledger.known_actions(&asked).await.expect("asked"), HashSet::from([known]));
    test.run(RESTORED).await;
    assert_eq!(test.ledger.known_actions(&asked).await.expect("asked"), HashSet::from([known, forgotten]));
    let later = marker(OffsetDateTime::now_utc() + Duration::from_secs(60));
    assert_eq!(test.ledger.known_actions(&[later]).await.expect("asked"), HashSet::new(), "anybody can write one");
}

#[tokio::test]
async fn every_value_that_was_written_since_an_event_is_known_and_not_only_the_last_one() {
    let test = TestLedger::new().await;
    let record = contact(1);
    for second in 1..=2 {
        let command = test.decided(&event(1, second)).await;
        test.written(&command, "a").await;
    }
    test.run("update write set after = case when event_key like '%:2' then 'last' else 'earlier' end").await;
    let now = OffsetDateTime::now_utc();
    let records = std::slice::from_ref(&record);
    let latest = test.ledger.latest_writes(records, None).await.expect("asked");
    let has = |value, at| latest.has_value(&record, "lead_score", value, at);
    assert_eq!((has("last", now), has("earlier", now)), (true, false), "it was asked for nothing else");
    let latest = test.ledger.latest_writes(records, Some(now)).await.expect("asked");
    let has = |value, at| latest.has_value(&record, "lead_score", value, at);
    assert_eq!((has("last", now), has("earlier", now), has("another", now)), (true, true, false));
    let later = now + Duration::from_secs(60);
    assert_eq!((has("last", later), has("earlier", later)), (true, false), "it was written again since");
}

#[tokio::test]
async fn an_action_that_is_looked_for_first_is_not_in_doubt_by_that() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    let attempt = test.claimed_command(&command, "a").await;
    let id = command.actions[0].id;
    let begin = async |look| test.begin_action(id, command.id, attempt, look).await;
    for _ in 0..2 {
        assert_eq!(begin(Look::First).await, BeginOutcome::LookFirst);
    }
    let begun = OffsetDateTime::now_utc() - Duration::from_secs(5);
    assert_eq!(begin(Look::Done).await, BeginOutcome::Send);
    assert!(matches!(begin(Look::First).await, BeginOutcome::InDoubt { .. }));
    let recorded = test.ledger.recorded_actions(&[id]).await.expect("asked")[&id];
    let later = begun + Duration::from_secs(10);
    assert_eq!((recorded.had_begun_by(begun), recorded.had_begun_by(later)), (false, true));
    assert!(!recorded.had_ended_by(later));
}

#[tokio::test]
async fn an_action_takes_the_id_under_which_it_was_found_unless_another_one_has_it() {
    let test = TestLedger::new().await;
    let (first, second) = (test.decided(&event(1, 1)).await, test.decided(&event(2, 1)).await);
    let found = ActionId::new();
    assert!(test.ledger.adopt_action_id(first.actions[0].id, found).await.expect("asked"));
    assert!(!test.ledger.adopt_action_id(second.actions[0].id, found).await.expect("asked"));
    let both = test.ledger.known_actions(&[found, second.actions[0].id, first.actions[0].id]).await.expect("asked");
    assert_eq!(both, HashSet::from([found, second.actions[0].id]));
}
