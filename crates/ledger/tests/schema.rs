//! What the database itself enforces, and that it has the same names as the code.

use domain::{
    ActionState, CircuitBreakerState, CommandState, CorrectionSource, DriftRate, EventState, GateState, Reason,
    inference::{ChargeState, InferenceOutcome},
    model::ServiceTier,
    review::WriteMode,
};
use ledger::LedgerError;
use sqlx::AssertSqlSafe;

use crate::fixtures::{TestLedger, decision, event};

/// The texts in quotes within the check constraint of a column, sorted.
async fn checked_names(test: &TestLedger, table: &str, column: &str) -> Vec<String> {
    let query = format!(
        "select array(select name from pg_constraint c,
                             regexp_matches(pg_get_constraintdef(c.oid), '''([a-z_]+)''::text', 'g') as m (names),
                             unnest(m.names) as name
                      where c.conrelid = '{table}'::regclass and pg_get_constraintdef(c.oid) like '%({column} =%'
                      order by name collate \"C\")"
    );
    test.value(&query).await
}

async fn enum_names(test: &TestLedger, name: &str) -> Vec<String> {
    let query = format!(
        "select array(select label::text from unnest(enum_range(null::{name})) as label order by label::text collate \"C\")"
    );
    test.value(&query).await
}

fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<String> {
    let mut names: Vec<_> = all.iter().map(|value| name(*value).to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_database_and_the_code_allow_the_same_transitions() {
    let test = TestLedger::new().await;
    let rows: Vec<String> =
        test.value("select array(select from_state || ' ' || to_state from event_transition)").await;
    for from in EventState::ALL {
        for to in EventState::ALL {
            let in_database = rows.contains(&format!("{from} {to}"));
            assert_eq!(in_database, from.can_become(*to), "{from} → {to}");
        }
    }
}

#[tokio::test]
async fn the_database_and_the_code_have_the_same_states_and_outcomes() {
    let test = TestLedger::new().await;
    assert_eq!(enum_names(&test, "event_state").await, names(EventState::ALL, EventState::as_str));
    assert_eq!(enum_names(&test, "write_command_state").await, names(CommandState::ALL, CommandState::as_str));
    assert_eq!(enum_names(&test, "write_mode").await, names(WriteMode::ALL, WriteMode::as_str));
    assert_eq!(enum_names(&test, "action_state").await, names(ActionState::ALL, ActionState::as_str));
    let outcomes = checked_names(&test, "inference", "outcome").await;
    assert_eq!(outcomes, names(InferenceOutcome::ALL, InferenceOutcome::as_str));
    let tiers = checked_names(&test, "inference", "service_tier").await;
    assert_eq!(tiers, names(ServiceTier::ALL, ServiceTier::as_str));
    assert_eq!(checked_names(&test, "charge", "state").await, names(ChargeState::ALL, ChargeState::as_str));
    let sources = checked_names(&test, "correction", "seen_by").await;
    assert_eq!(sources, names(CorrectionSource::ALL, CorrectionSource::as_str));
    let states = checked_names(&test, "circuit_breaker", "state").await;
    assert_eq!(states, names(CircuitBreakerState::ALL, CircuitBreakerState::as_str));
    let gates = checked_names(&test, "playbook_gate", "state").await;
    assert_eq!(gates, names(GateState::ALL, GateState::as_str));
    assert_eq!(checked_names(&test, "drift", "rate").await, names(DriftRate::ALL, DriftRate::as_str));
}

#[tokio::test]
async fn an_illegal_transition_and_a_change_of_history_are_refused() {
    let test = TestLedger::new().await;
    let claimed = test.claimed(&event(1, 1), "a").await;
    assert!(test.commit(&decision(&claimed, EventState::Skipped, Some(Reason::NoPlaybook))).await);
    for (statement, message) in [
        ("update event set state = 'claimed'", "may not go from skipped to claimed"),
        ("update event_history set reason = 'other'", "append-only"),
        ("delete from event_history", "append-only"),
    ] {
        let error = sqlx::query(statement).execute(&test.database).await.expect_err(statement).to_string();
        assert!(error.contains(message), "{message} in {error}");
    }
    assert_eq!(test.state(&event(1, 1)).await, (EventState::Skipped, Some(Reason::NoPlaybook)));
}

/// As the owner of the tables or a superuser: the roles of deploy/postgres may not even try (`roles.rs`).
#[tokio::test]
async fn no_partition_of_the_history_can_be_changed_nor_any_of_it_truncated() {
    let test = TestLedger::new().await;
    test.claimed(&event(1, 1), "a").await;
    test.ledger.add_partitions(9).await.expect("two days more than the migration made");
    let today: String = test.value("select 'event_history_' || to_char(now() at time zone 'UTC', 'YYYYMMDD')").await;
    assert_eq!(test.value::<i64>(&format!("select count(*) from {today}")).await, 1);
    let partitions: Vec<String> = test
        .value(
            "select array(select inhrelid::regclass::text from pg_inherits
                          where inhparent = 'event_history'::regclass order by 1)",
        )
        .await;
    assert!(partitions.len() >= 11, "{partitions:?}");
    // A row for every partition: those to come have none, and a trigger for each row would not be met.
    for partition in &partitions {
        test.run(&format!(
            "insert into {partition} (event_id, at, state, attempt, worker)
             select gen_random_uuid(),
                    coalesce(to_date(substring('{partition}' from '[0-9]+$'), 'YYYYMMDD')::timestamp at time zone 'UTC'
                             + interval '12 hours', 'epoch'), 'claimed', 1, 'a'"
        ))
        .await;
    }
    let count = "select count(*) from event_history where worker = 'a'";
    let before: i64 = test.value(count).await;
    for table in partitions.iter().map(String::as_str).chain(["event_history"]) {
        for statement in [
            format!("update {table} set reason = 'other'"),
            format!("delete from {table}"),
            format!("truncate {table}"),
            format!("set leadline.retention = 'on'; update {table} set reason = 'other'"),
        ] {
            let mut connection = test.database.acquire().await.expect("a connection");
            let result = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *connection).await;
            let error = result.expect_err(&statement).to_string();
            assert!(error.contains("append-only"), "{statement}: {error}");
        }
    }
    assert_eq!(test.value::<i64>(count).await, before);
}

#[tokio::test]
async fn every_change_of_state_is_in_the_history_even_one_by_hand() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    assert!(test.commit(&decision(&claimed, EventState::Waiting, Some(Reason::HubSpotTimeout))).await);
    test.claimed(&event, "b").await;
    test.end_event_leases().await;
    test.claimed(&event, "c").await;
    test.run("update event set state = 'dropped', reason = 'discarded'").await;
    let story = test.ledger.event_story(event.key.as_str()).await.expect("asked").expect("known");
    let history: Vec<_> =
        story.history.iter().map(|entry| (entry.state, entry.attempt, entry.worker.as_str(), entry.reason)).collect();
    assert_eq!(
        history,
        [
            (EventState::Claimed, 1, "a", None),
            (EventState::Waiting, 1, "a", Some(Reason::HubSpotTimeout)),
            (EventState::Claimed, 2, "b", None),
            (EventState::Claimed, 3, "c", None),
            (EventState::Dropped, 3, "c", Some(Reason::Discarded)),
        ]
    );
}

#[tokio::test]
async fn a_name_that_this_version_does_not_know_is_an_error_that_says_where_it_stands() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    test.claimed(&event, "a").await;
    test.run("update event set reason = 'of_a_newer_version'").await;
    let error = test.ledger.event_story(event.key.as_str()).await.expect_err("an unknown reason");
    assert_eq!(error.to_string(), "the ledger has an unknown name in event.reason: `of_a_newer_version`");
    assert!(matches!(error, LedgerError::Unreadable { table: "event", column: "reason", .. }));
}

#[tokio::test]
async fn a_ledger_is_usable_only_with_every_migration() {
    let test = TestLedger::new().await;
    test.ledger.check().await.expect("it is migrated");
    let kept = ledger::Retention { raw_days: 90, events_days: 400 };
    test.ledger.migrate(kept).await.expect("once more changes nothing");
    test.run("delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)").await;
    let error = test.ledger.check().await.expect_err("one is missing");
    assert!(error.to_string().contains("run `leadline migrate`"), "{error}");
    test.run("drop table _sqlx_migrations").await;
    test.ledger.check().await.expect_err("all are missing");
}

/// The rows that the page should have between its markers for a closed set.
fn documented<T: Copy>(all: &[T], name: fn(T) -> &'static str, explanation: fn(T) -> &'static str) -> Vec<String> {
    all.iter().map(|value| format!("| `{}` | {} |", name(*value), explanation(*value))).collect()
}

/// The rows of `docs/ledger.md` between two markers, without the table's head.
fn rows_of_the_page(marker: &str) -> Vec<String> {
    let page = include_str!("../../../docs/ledger.md");
    let (_, rest) = page.split_once(&format!("<!-- {marker} -->\n")).expect("the page has the marker");
    let (block, _) = rest.split_once(&format!("<!-- /{marker} -->")).expect("the page has the end marker");
    block.lines().skip(2).map(ToOwned::to_owned).collect()
}

#[test]
fn the_page_about_the_ledger_lists_every_reason_and_state() {
    assert_eq!(rows_of_the_page("reasons"), documented(Reason::ALL, Reason::as_str, Reason::explanation));
    let states = [
        documented(EventState::ALL, EventState::as_str, EventState::explanation),
        documented(CommandState::ALL, CommandState::as_str, CommandState::explanation),
        documented(ActionState::ALL, ActionState::as_str, ActionState::explanation),
        documented(CircuitBreakerState::ALL, CircuitBreakerState::as_str, CircuitBreakerState::explanation),
        documented(ChargeState::ALL, ChargeState::as_str, ChargeState::explanation),
        documented(GateState::ALL, GateState::as_str, GateState::explanation),
    ];
    let markers =
        ["states", "command-states", "action-states", "circuit-breaker-states", "charge-states", "gate-states"];
    for (marker, states) in markers.iter().zip(states) {
        assert_eq!(rows_of_the_page(marker), states, "{marker}");
    }
}

#[tokio::test]
async fn the_queries_in_the_docs_run() {
    let test = TestLedger::new().await;
    let page = include_str!("../../../docs/ledger.md");
    let queries: Vec<_> = page.split("```sql\n").skip(1).filter_map(|rest| rest.split_once("```")).collect();
    assert!(queries.len() >= 6, "{} queries found", queries.len());
    for (query, _) in queries {
        sqlx::raw_sql(query).execute(&test.database).await.expect(query);
    }
}
