//! What the ledger itself enforces.

use std::time::Duration;

use domain::{Event, EventState};
use ledger::{Claim, ClaimDenied, ClaimRequest, Decision, Ledger, Worker};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use testbed::TestNamespace;

use crate::fixtures::{note_event, services};

const LEASE: Duration = Duration::from_secs(60);
const NO_LEASE: Duration = Duration::ZERO;

pub async fn ledger() -> (Ledger, TestNamespace) {
    let namespace = TestNamespace::new(&services()).await.expect("a namespace");
    let environment = vec![(lab::fleet::variable("ledger.url"), namespace.postgres_url.clone())];
    let settings = settings::Settings::load_from(None, environment, settings::ConfigScope::LedgerOnly).expect("right");
    let ledger = bootstrap::connect_ledger(&settings, "tests").expect("a ledger");
    ledger.migrate().await.expect("migrated");
    (ledger, namespace)
}

fn event(contact: i64) -> Event {
    let body = json!([note_event(contact, 1)]).to_string();
    hubspot::webhook::parse(body.as_bytes()).expect("an array").pop().expect("one").event.expect("an event")
}

async fn claim(ledger: &Ledger, events: &[&Event], worker: &str, lease: Duration) -> Vec<Claim> {
    let requests: Vec<_> =
        events.iter().map(|event| ClaimRequest { event, message_copy_id: uuid::Uuid::nil(), trace_id: None }).collect();
    ledger.claim(&requests, &Worker(worker.to_owned()), lease).await.expect("claimed")
}

fn mine(claim: &Claim) -> ledger::Claimed {
    match claim {
        Claim::Granted(claimed) => claimed.clone(),
        Claim::Denied(other) => panic!("not mine: {other:?}"),
    }
}

fn skipped(claimed: &ledger::Claimed) -> Decision {
    Decision {
        playbook: None,
        wait: None,
        event_id: claimed.event_id,
        attempt: claimed.attempt,
        state: EventState::Skipped,
        reason: Some(domain::Reason::NoPlaybook),
        detail: None,
        inferences: vec![],
        commands: vec![],
    }
}

#[tokio::test]
async fn the_database_and_the_code_allow_the_same_transitions() {
    let (_ledger, namespace) = ledger().await;
    let mut connection = PgConnection::connect(&namespace.postgres_url).await.expect("Postgres");
    let rows: Vec<(String, String)> = sqlx::query_as("select from_state::text, to_state::text from event_transition")
        .fetch_all(&mut connection)
        .await
        .expect("rows");
    for from in EventState::ALL {
        for to in EventState::ALL {
            let in_database = rows.contains(&(from.to_string(), to.to_string()));
            assert_eq!(in_database, from.can_become(*to), "{from} → {to}");
        }
    }
}

#[tokio::test]
async fn an_illegal_transition_and_a_change_of_history_are_refused() {
    let (ledger, namespace) = ledger().await;
    let claimed = mine(&claim(&ledger, &[&event(1)], "a", LEASE).await[0]);
    assert_eq!(ledger.commit_decisions(&[skipped(&claimed)]).await.expect("settled"), [true]);
    let mut connection = PgConnection::connect(&namespace.postgres_url).await.expect("Postgres");
    for (sql, says) in [
        ("update event set state = 'claimed'", "may not go from skipped to claimed"),
        ("update event_history set reason = 'other'", "append-only"),
        ("delete from event_history", "append-only"),
    ] {
        let error = sqlx::query(sql).execute(&mut connection).await.expect_err(sql).to_string();
        assert!(error.contains(says), "{says} in {error}");
    }
}

/// Every query that docs/ledger.md shows runs on the schema as it is.
#[tokio::test]
async fn the_queries_in_the_docs_run() {
    let (_ledger, namespace) = ledger().await;
    let mut connection = PgConnection::connect(&namespace.postgres_url).await.expect("Postgres");
    let page = include_str!("../../docs/ledger.md");
    let queries: Vec<_> = page.split("```sql\n").skip(1).filter_map(|rest| rest.split_once("```")).collect();
    assert!(queries.len() >= 6, "{} queries found", queries.len());
    for (query, _) in queries {
        sqlx::raw_sql(query).execute(&mut connection).await.expect(query);
    }
}

#[tokio::test]
async fn a_claim_is_exclusive_until_its_lease_ends_and_the_late_one_commits_nothing() {
    let (ledger, _space) = ledger().await;
    let event = event(1);
    let first = mine(&claim(&ledger, &[&event], "a", LEASE).await[0]);
    assert_eq!(claim(&ledger, &[&event], "b", LEASE).await, [Claim::Denied(ClaimDenied::LeasedElsewhere)]);

    let expired = self::event(2);
    let late = mine(&claim(&ledger, &[&expired], "a", NO_LEASE).await[0]);
    let taken_over = mine(&claim(&ledger, &[&expired], "b", LEASE).await[0]);
    assert_eq!((late.attempt, taken_over.attempt), (1, 2));
    assert_eq!(ledger.commit_decisions(&[skipped(&late), skipped(&first)]).await.expect("settled"), [false, true]);
    assert_eq!(ledger.commit_decisions(&[skipped(&taken_over)]).await.expect("settled"), [true]);
    assert_eq!(
        claim(&ledger, &[&expired], "c", LEASE).await,
        [Claim::Denied(ClaimDenied::Finished(EventState::Skipped))]
    );
}

#[tokio::test]
async fn one_batch_that_asks_twice_gets_it_once_and_overlapping_batches_do_not_deadlock() {
    let (ledger, _space) = ledger().await;
    let events: Vec<_> = (1..=50).map(event).collect();
    let twice = claim(&ledger, &[&events[0], &events[0]], "a", LEASE).await;
    assert!(matches!(twice[..], [Claim::Granted(_), Claim::Denied(ClaimDenied::LeasedElsewhere)]), "{twice:?}");
    let forwards: Vec<_> = events.iter().collect();
    let backwards: Vec<_> = events.iter().rev().collect();
    let (a, b) = tokio::join!(claim(&ledger, &forwards, "a", LEASE), claim(&ledger, &backwards, "b", LEASE));
    let won = a.iter().chain(&b).filter(|claim| matches!(claim, Claim::Granted(_))).count();
    assert_eq!(won, 49, "each of the others exactly once");
}
