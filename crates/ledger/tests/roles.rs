//! Who may do what with the ledger: the roles of `deploy/postgres`, as `leadline migrate` grants them.

use std::time::Duration;

use domain::{
    ChargeId, CommandState, EventState, Reason,
    inference::{ChargeState, ErasureCause},
};
use ledger::{
    AcquireRequest, ChargeRequest, Ledger, LedgerSettings, RateLimitTerms, RecordChange, RecordLimits, Retention,
    SettledCharge, Window,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testbed::{Role, Services, TestDatabase};

use crate::fixtures::{TestLedger, contact, event, inference};

/// What a ledger is told to keep.
const KEPT: Retention = Retention { raw_days: 30, events_days: 60 };

/// A ledger that is used with the rights of one role.
pub fn ledger_of(role: Role, url: &str) -> Ledger {
    Ledger::connect(&LedgerSettings {
        url: role.url(url).expect("a URL").into(),
        application_name: role.user().to_owned(),
        max_connections: 2,
        acquire_timeout: Duration::from_secs(60),
        statement_timeout: Duration::from_secs(60),
        pool_mode: ledger::PoolMode::Session,
    })
    .expect("a URL")
}

/// Runs statements with the rights of a role and returns Postgres' refusal; `None` when they were carried out.
async fn refusal(role: Role, url: &str, statements: &str) -> Option<String> {
    let mut connection = PgConnection::connect(&role.url(url).expect("a URL")).await.expect("connected");
    // Changes nothing that another statement of the test relies on.
    let statements = format!("begin; {statements}; rollback");
    let result = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await;
    result.err().map(|error| error.to_string())
}

/// As an operator sets a ledger up: the roles by hand, once; then `leadline migrate` as the owner.
#[tokio::test]
async fn an_owner_migrates_an_empty_database_and_a_ledger_without_roles_is_told_so() {
    let services = Services::from_environment().expect("services");
    let database = TestDatabase::empty(&services).await.expect("a database");
    let mut connection = PgConnection::connect(&database.url).await.expect("connected");
    let roles = include_str!("../../../deploy/postgres/roles.sql");
    sqlx::raw_sql(roles).execute(&mut connection).await.expect("once more changes nothing");
    let owner = ledger_of(Role::Owner, &database.url);
    assert!(owner.migrate(KEPT).await.expect("migrated"), "the roles have their rights");
    assert!(owner.migrate(KEPT).await.expect("once more changes nothing"));
    for role in [Role::Inference, Role::Writer, Role::Operator] {
        ledger_of(role, &database.url).check().await.expect("ready");
    }
    // Nobody else comes in, not even to look.
    let strangers: bool = sqlx::query_scalar("select has_database_privilege('public', current_database(), 'connect')")
        .fetch_one(&mut connection)
        .await
        .expect("asked");
    assert!(!strangers);
}

#[tokio::test]
async fn no_service_may_rewrite_what_happened() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    test.written(&command, "a").await;
    let today: String = test.value("select to_char(now() at time zone 'UTC', 'YYYYMMDD')").await;
    let history = [
        "event_history".to_owned(),
        "event_history_default".to_owned(),
        format!("event_history_{today}"),
        "inference".to_owned(),
        "inference_raw".to_owned(),
        format!("inference_raw_{today}"),
        "write".to_owned(),
        "skipped_write".to_owned(),
        "proposed_write".to_owned(),
        "review".to_owned(),
        "correction".to_owned(),
        "evaluation".to_owned(),
    ];
    for role in [Role::Inference, Role::Writer, Role::Operator, Role::Auditor] {
        for table in &history {
            for statement in [
                format!("delete from {table}"),
                format!("truncate {table}"),
                format!("drop table {table}"),
                format!("alter table {table} disable trigger all"),
            ] {
                let refused = refusal(role, &test.url, &statement).await;
                assert!(
                    refused.is_some_and(|error| error.contains("denied") || error.contains("owner")),
                    "{statement}"
                );
            }
        }
        for statement in [
            "update event_history set reason = 'other'",
            "insert into event_history (event_id, state, attempt, worker) values (gen_random_uuid(), 'written', 1, 'a')",
            "update inference set cost_micro_dollars = 0",
            "update inference_raw set answer = ''",
            "update write set before = ''",
            "update correction set value = ''",
            "update event set payload = '{}'",
            "update event set event_key = 'other'",
            "update write_command set properties = '[]'",
            "update action set spec = '{}'",
            "update proposed_write set proposed = ''",
            "update review set decision = 'approved'",
            "delete from review",
            "update evaluation set passed = true",
            "update event_transition set to_state = 'claimed'",
            "delete from event",
            "delete from write_command",
            "create table mine ()",
            "update _sqlx_migrations set success = false",
        ] {
            let refused = refusal(role, &test.url, statement).await.unwrap_or_default();
            assert!(refused.contains("permission denied"), "{}: {statement}: {refused}", role.user());
        }
    }
    // And yet every change of an event is in the history.
    let states = "select string_agg(state::text, ' ' order by id) from event_history";
    assert_eq!(test.value::<String>(states).await, "claimed decided written");
}

#[tokio::test]
async fn only_an_operator_records_that_a_playbook_has_passed_its_gate() {
    let test = TestLedger::new().await;
    let insert =
        "insert into evaluation (id, recorded_by, playbook, version, model, effort, cases, answers, hits, passed, \
                                          file_text, report)
                  values (gen_random_uuid(), 'ada', 'leads', '1', 'gpt-4o', 'none', 1, 1, 1, true, '', '{}')";
    for role in [Role::Inference, Role::Writer, Role::Auditor] {
        let refused = refusal(role, &test.url, insert).await.unwrap_or_default();
        assert!(refused.contains("permission denied"), "{}: {refused}", role.user());
    }
    assert_eq!(refusal(Role::Operator, &test.url, insert).await, None);
}

#[tokio::test]
async fn a_worker_holds_a_version_back_and_only_an_operator_lets_it_go_on() {
    let test = TestLedger::new().await;
    let insert = "insert into drift (playbook, version, rate, part, whole, bound_percent, counted_from, held_by)
                  values ('leads', '1', 'refused', 1, 1, 10, now(), 'w')";
    let resume = "update drift set resumed_at = now(), resumed_by = 'ada', why = 'seen'";
    let is_refused = async |role, statement| {
        refusal(role, &test.url, statement).await.is_some_and(|error| error.contains("permission denied"))
    };
    assert!(is_refused(Role::Operator, insert).await && is_refused(Role::Writer, insert).await);
    assert!(!is_refused(Role::Inference, insert).await);
    assert!(is_refused(Role::Inference, resume).await && is_refused(Role::Writer, resume).await);
    assert!(!is_refused(Role::Operator, resume).await);
    let values = "select value from correction";
    assert!(is_refused(Role::Inference, values).await, "how many people changed, and not to what");
    let figures =
        ledger_of(Role::Inference, &test.url).playbook_figures("leads", time::OffsetDateTime::UNIX_EPOCH).await;
    assert_eq!(figures.expect("counted"), []);
}

#[tokio::test]
async fn an_auditor_reads_every_view_and_no_table() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    test.written(&command, "a").await;
    let relations = |kinds: &str| {
        format!(
            "select array(select relname::text from pg_class
                          where relnamespace = 'public'::regnamespace and relkind in ({kinds}) order by 1)"
        )
    };
    let views: Vec<String> = test.value(&relations("'v'")).await;
    assert!(views.len() >= 15, "{views:?}");
    for view in views {
        let refused = refusal(Role::Auditor, &test.url, &format!("select * from {view}")).await;
        assert_eq!(refused, None, "{view}");
    }
    let tables: Vec<String> = test.value(&relations("'r', 'p', 'S'")).await;
    for table in tables {
        let refused = refusal(Role::Auditor, &test.url, &format!("select from {table}")).await.unwrap_or_default();
        assert!(refused.contains("permission denied"), "{table}: {refused}");
    }
    // What an auditor needs: who wrote what over what, because of which prompt and answer.
    let mut connection = PgConnection::connect(&Role::Auditor.url(&test.url).expect("a URL")).await.expect("connected");
    let row: (String, Option<String>, String, String) = sqlx::query_as(
        "select w.property, w.before, w.after, t.answer
         from written_properties w join inference_text t using (inference_id)",
    )
    .fetch_one(&mut connection)
    .await
    .expect("one row");
    let answer = inference(&contact(1)).answer;
    assert_eq!(row, ("lead_score".to_owned(), None, "85".to_owned(), answer));
}

/// Functions of the owner's are the only way to what no role may do by itself.
#[tokio::test]
async fn functions_of_the_owner_have_a_fixed_search_path_and_do_no_more_than_they_say() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    test.written(&command, "a").await;
    let loose: Vec<String> = test
        .value(
            "select array(select proname::text from pg_proc
                          where pronamespace = 'public'::regnamespace and prosecdef
                            and not coalesce('search_path=public, pg_temp' = any(proconfig), false))",
        )
        .await;
    assert!(loose.is_empty(), "{loose:?} run with the owner's rights and the caller's search path");
    for (statement, says) in [
        ("select drop_oldest_day('event')", "event has no partition a day"),
        ("select add_day_partition('event', 1)", "no partition of event"),
        ("select add_day_partition('event_history', 2000000)", "no partition of event_history in 2000000 days"),
        ("update retention set days = 1", "permission denied"),
        ("insert into retention values ('event_history', 2)", "permission denied"),
        ("select drop_commands('{}', 'record_erased')", "permission denied"),
    ] {
        let refused = refusal(Role::Inference, &test.url, statement).await.unwrap_or_default();
        assert!(refused.contains(says), "{statement}: {says} in {refused}");
    }
    for (role, statement) in [
        (Role::Auditor, "select delete_finished_events(1)"),
        (Role::Writer, "select erase_record(1, '0-1', 1, 1, 0)"),
        (Role::Writer, "select request_erasure(1, '0-1', 1, 'operator')"),
        // Who has the key can find out by trying which records were erased.
        (Role::Operator, "select key from receipt_key"),
        (Role::Inference, "select key from receipt_key"),
        // Only erasure takes a detail out of the history.
        (Role::Operator, "set leadline.erasure = 'on'; update event_history set detail = null"),
    ] {
        let refused = refusal(role, &test.url, statement).await.unwrap_or_default();
        assert!(refused.contains("permission denied"), "{statement}: {refused}");
    }
    assert_eq!(test.value::<i64>("select count(*) from event").await, 1);
}

#[tokio::test]
async fn retention_and_erasure_work_with_the_rights_of_those_who_do_them() {
    let test = TestLedger::new().await;
    for id in [1, 2] {
        let command = test.decided(&event(id, 1)).await;
        test.written(&command, "a").await;
    }
    let writer = ledger_of(Role::Writer, &test.url);
    assert!(writer.add_partitions(9).await.expect("added") >= 4);
    // Rows of a day without a partition; the day itself was made by an earlier version as a superuser.
    test.run(
        "set local session_replication_role = replica;
         create table event_history_20200102 partition of event_history
             for values from ('2020-01-02 00:00:00+00') to ('2020-01-03 00:00:00+00');
         alter table event_history_20200102 owner to leadline_owner;
         insert into event_history (event_id, at, state, attempt, worker)
         values (gen_random_uuid(), '2020-01-01 12:00:00+00', 'claimed', 1, 'old'),
                (gen_random_uuid(), '2020-01-02 12:00:00+00', 'claimed', 1, 'old');
         update event set finished_at = '2020-01-01 12:00:00+00' where object_id = 1",
    )
    .await;
    assert_eq!(writer.drop_history().await.expect("dropped"), 1);
    let old = "select count(*) from event_history where worker = 'old'";
    assert_eq!(test.value::<i64>(old).await, 0, "in the default partition as well");
    assert_eq!(writer.drop_raw_texts().await.expect("dropped"), 0);
    assert_eq!(writer.delete_finished(10).await.expect("deleted"), 1);

    let operator = ledger_of(Role::Operator, &test.url);
    operator.request_erasure(&contact(2), ErasureCause::Operator).await.expect("requested");
    let inference = ledger_of(Role::Inference, &test.url);
    let (erased, _) = inference.erase(&contact(2)).await.expect("erased, whoever asked for it");
    assert_eq!((erased.events, erased.inferences, erased.values), (1, 1, 1));
    assert_eq!(inference.open_erasures(Duration::ZERO, Duration::ZERO, 0, 1).await.expect("asked").len(), 1);
    operator.conclude_erasure(&contact(2), false).await.expect("concluded");
    assert!(operator.erasure_receipt(&contact(2)).await.expect("asked").is_some());
    let now = time::OffsetDateTime::now_utc();
    assert_eq!(inference.cancel_waiting(&contact(2), now).await.expect("asked"), 0);
    assert_eq!(test.value::<i64>("select count(*) from inference_raw").await, 0);
}

/// What services may delete does not depend on what they say.
#[tokio::test]
async fn no_service_deletes_what_the_owner_keeps() {
    let test = TestLedger::new().await;
    for id in [1, 2] {
        let command = test.decided(&event(id, 1)).await;
        test.written(&command, "a").await;
    }
    // Of 70 and of 50 days ago, which have partitions.
    let day = |days: u32| format!("(now() at time zone 'UTC')::date - {days}");
    for (id, days) in [(1, 70), (2, 50)] {
        let (day, name) =
            (day(days), test.value::<String>(&format!("select to_char({}, 'YYYYMMDD')", day(days))).await);
        test.run(&format!(
            "do $$ begin
                 execute format('create table event_history_{name} partition of event_history
                                     for values from (%L) to (%L)', {day} || ' 00:00:00+00', {day} + 1 || ' 00:00:00+00');
                 alter table event_history_{name} owner to leadline_owner;
             end $$;
             set local session_replication_role = replica;
             update event set finished_at = now() - interval '{days} days' where object_id = {id}"
        ))
        .await;
    }
    let (owner, writer) = (ledger_of(Role::Owner, &test.url), ledger_of(Role::Writer, &test.url));
    let kept =
        async |raw_days, events_days| owner.migrate(Retention { raw_days, events_days }).await.expect("migrated");
    let deleted =
        async || (writer.drop_history().await.expect("asked"), writer.delete_finished(10).await.expect("asked"));
    assert_eq!(deleted().await, (0, 0), "400 days by default");
    kept(90, 0).await;
    assert_eq!(deleted().await, (0, 0), "for ever");
    kept(90, 60).await;
    assert_eq!(deleted().await, (1, 1));
    for role in [Role::Inference, Role::Writer, Role::Operator, Role::Auditor] {
        let refused = refusal(role, &test.url, "update retention set days = 2").await.unwrap_or_default();
        assert!(refused.contains("permission denied"), "{}: {refused}", role.user());
    }
    assert_eq!(test.value::<String>("select string_agg(object_id::text, ' ') from event").await, "2");
    // Not even the owner keeps an event's key for less than HubSpot delivers it again.
    assert!(owner.migrate(Retention { raw_days: 1, events_days: 1 }).await.is_err());
}

/// A worker of each kind does its part with no more rights than its role has.
#[tokio::test]
async fn inference_and_writer_do_their_work_with_the_rights_of_their_roles() {
    let test = TestLedger::new().await;
    let inference = TestLedger { ledger: ledger_of(Role::Inference, &test.url), ..test.clone() };
    let writer = TestLedger { ledger: ledger_of(Role::Writer, &test.url), ..test.clone() };
    let command = inference.decided(&event(1, 1)).await;
    let again = inference.claim(&[&event(1, 1)], "b").await;
    assert!(matches!(again[..], [ledger::Claim::Denied(ledger::ClaimDenied::Decided(_))]), "{again:?}");
    writer.written(&command, "a").await;
    assert_eq!(test.state(&event(1, 1)).await, (EventState::Written, None));
    let parked = inference.claimed(&event(2, 1), "a").await;
    let decision = crate::fixtures::decision(&parked, EventState::Parked, Some(Reason::Refused));
    assert!(inference.commit(&decision).await);
    let operator = ledger_of(Role::Operator, &test.url);
    assert!(operator.replay_event(event(2, 1).key.as_str()).await.expect("replayed"));
    assert_eq!(operator.event_story(event(1, 1).key.as_str()).await.expect("asked").expect("known").writes.len(), 1);
}

/// Every statement of the command `leadline`, with the rights of its role.
#[tokio::test]
async fn the_operator_does_what_the_command_does_with_the_rights_of_the_role() {
    let test = TestLedger::new().await;
    let operator = TestLedger { ledger: ledger_of(Role::Operator, &test.url), ..test.clone() };
    let ledger = &operator.ledger;
    ledger.check().await.expect("check");

    // status, event, erase
    let command = test.decided(&event(1, 1)).await;
    test.written(&command, "a").await;
    ledger.circuit_breakers().await.expect("status");
    ledger.oldest_unfinished().await.expect("status");
    ledger.unfinished_events().await.expect("status");
    ledger.unfinished_commands().await.expect("status");
    ledger.event_counts().await.expect("status");
    ledger.spend_limits().await.expect("status");
    ledger.rate_limits().await.expect("status");
    ledger.event_story(event(1, 1).key.as_str()).await.expect("event").expect("known");
    ledger.erasure_receipt(&contact(1)).await.expect("erase");
    ledger.request_erasure(&contact(1), ErasureCause::Operator).await.expect("erase");
    ledger.erase(&contact(1)).await.expect("erase");
    ledger.open_erasures(Duration::ZERO, Duration::ZERO, 0, 1).await.expect("erase");
    ledger.conclude_erasure(&contact(1), false).await.expect("erase");

    // backfill
    let change = RecordChange { object_id: 9, property: None, at: event(9, 1).occurred_at };
    let (portal, kind) = (crate::fixtures::PORTAL, domain::ObjectType::Contact);
    ledger.changes_without_event(portal, &kind, &[change], Duration::from_secs(1)).await.expect("backfill");
    let terms = RateLimitTerms { name: "test".to_owned(), window: Window::Day, quota: 10, share: 1.0 };
    ledger.define_rate_limits(std::slice::from_ref(&terms)).await.expect("backfill");
    let request = AcquireRequest {
        names: &[terms.name],
        need: &[1],
        want: &[1],
        usable_share: 1.0,
        observed: &[None],
        pause: None,
        refunds: &[],
    };
    ledger.acquire_quota(&request).await.expect("backfill");

    // parked, requeue
    for (id, state) in [(2, EventState::Parked), (3, EventState::Parked)] {
        let claimed = test.claimed(&event(id, 1), "a").await;
        assert!(test.commit(&crate::fixtures::decision(&claimed, state, Some(Reason::Refused))).await);
    }
    assert_eq!(ledger.parked().await.expect("parked list").len(), 2);
    assert!(ledger.replay_event(event(2, 1).key.as_str()).await.expect("parked replay"));
    assert!(ledger.discard_event(event(3, 1).key.as_str()).await.expect("parked discard"));
    ledger.event_to_requeue(event(2, 1).key.as_str()).await.expect("event requeue").expect("known");
    for (id, is_replayed) in [(4, true), (5, false)] {
        let command = test.decided(&event(id, 1)).await;
        let attempt = test.claimed_command(&command, "a").await;
        let parked = crate::fixtures::result(&command, attempt, CommandState::Parked, Some(Reason::ValidationError));
        assert!(test.finish(&parked, "a").await);
        ledger.command_state(command.id).await.expect("parked show");
        let done = if is_replayed {
            ledger.replay_command(command.id).await.expect("parked replay")
        } else {
            ledger.discard_command(command.id).await.expect("parked discard")
        };
        assert!(done);
    }

    // reconcile: one event and one write command of dead workers
    let lost = test.claimed(&event(6, 1), "a").await.event_id;
    let command = test.decided(&event(7, 1)).await;
    test.claimed_command(&command, "a").await;
    test.end_event_leases().await;
    test.end_command_leases().await;
    let after = Duration::from_secs(60);
    assert!(ledger.stuck_events(after, 10).await.expect("reconcile").iter().any(|stuck| stuck.id == lost));
    assert!(ledger.stuck_commands(after, 10).await.expect("reconcile").iter().any(|stuck| stuck.id == command.id));
    ledger.record_requeue(&[lost.0], &[command.id.0]).await.expect("reconcile");
    let why = (Reason::AttemptsExhausted, "every worker died");
    assert!(ledger.park_event(lost, why.0, why.1).await.expect("reconcile --yes"));
    assert!(ledger.park_command(command.id, why.0, why.1).await.expect("reconcile --yes"));
    assert_eq!(test.state(&event(7, 1)).await, (EventState::Parked, Some(Reason::AttemptsExhausted)));

    // playbook run --write
    let claimed = operator.claimed(&event(8, 1), "a").await;
    let mut decision = crate::fixtures::decision_with_commands(&event(8, 1), &claimed, 1);
    let inference = &decision.inferences[0];
    let charge = ChargeRequest {
        id: ChargeId::new(),
        event_id: claimed.event_id,
        attempt: claimed.attempt,
        inference_id: inference.id,
        playbook: inference.playbook.clone(),
        record: inference.record.clone(),
        model: inference.model_requested.clone(),
        most_micro_dollars: 2_500,
        record_limits: RecordLimits::default(),
    };
    assert_eq!(ledger.begin_charges(std::slice::from_ref(&charge)).await.expect("playbook run --write"), [true]);
    decision.charges = vec![SettledCharge { id: charge.id, state: ChargeState::Answered, micro_dollars: 2_500 }];
    assert!(operator.commit(&decision).await);
    assert!(ledger.known_actions(&[decision.commands[0].actions[0].id]).await.expect("playbook run").len() == 1);
    assert_eq!(test.value::<String>("select string_agg(state, ' ') from charge").await, "answered");
}
