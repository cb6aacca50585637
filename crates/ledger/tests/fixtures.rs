//! A ledger on a database of its own, and the events, answers and write commands that the tests work with.

use std::time::Duration;
use uuid::Uuid;

use domain::{
    ActionId, CommandState, Event, EventState, Inference, InferenceId, ObjectId, ObjectType, PortalId, Reason,
    RecordRef, WriteCommand, WriteCommandId,
    event::{EventKey, EventKind, Subject},
    inference::{InferenceOutcome, TokenUsage},
    model::ServiceTier,
    review::WriteTerms,
    write_command::{Action, ActionSpec, PropertyChange, WritePolicy},
};
use ledger::{
    BeginOutcome, BeginRequest, Claim, ClaimRequest, Claimed, CommandClaim, CommandResult, Decision, Ledger,
    LedgerSettings, Look, Worker, WrittenProperty,
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};
use time::OffsetDateTime;
use tokio::task::JoinHandle;

/// Longer than any test takes.
pub const LEASE: Duration = Duration::from_secs(600);

/// The portal of every event.
pub const PORTAL: PortalId = PortalId(9_876_543);

/// The playbook of every answer, unless a test says otherwise.
pub const PLAYBOOK: &str = "lead-qualification";

/// A ledger on a fresh, migrated database, with the rights to do everything.
#[derive(Clone)]
pub struct TestLedger {
    pub ledger: Ledger,
    /// How to connect to the database.
    pub url: String,
    /// Another way to the same database: what operators see, and how a test ends a lease.
    pub database: PgPool,
}

impl TestLedger {
    pub async fn new() -> Self {
        Self::on(testbed::database().await.expect("a database"))
    }

    /// A ledger without any table.
    pub async fn empty() -> Self {
        let services = testbed::Services::from_environment().expect("services");
        Self::on(testbed::TestDatabase::empty(&services).await.expect("a database"))
    }

    fn on(database: testbed::TestDatabase) -> Self {
        let settings = LedgerSettings {
            url: database.url.clone().into(),
            application_name: "tests".to_owned(),
            max_connections: 4,
            acquire_timeout: Duration::from_secs(60),
            statement_timeout: Duration::from_secs(60),
            pool_mode: ledger::PoolMode::Session,
        };
        let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(60));
        Self {
            ledger: Ledger::connect(&settings).expect("a URL"),
            database: pool.connect_lazy(&database.url).expect("a URL"),
            url: database.url,
        }
    }

    /// Runs statements.
    pub async fn run(&self, statements: &str) {
        let result = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.database).await;
        result.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// One value.
    pub async fn value<T>(&self, query: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let result = sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&self.database).await;
        result.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// Whether a session waits for a lock.
    pub async fn is_lock_awaited(&self) -> bool {
        self.value(
            "select count(*) > 0 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
        )
        .await
    }

    /// Returns when a session waits for a lock, or `false` when `task`, which should, ends without.
    pub async fn waits_for_lock<T>(&self, task: &JoinHandle<T>) -> bool {
        while !task.is_finished() {
            if self.is_lock_awaited().await {
                return true;
            }
            tokio::task::yield_now().await;
        }
        false
    }

    /// The tables that a statement cannot but go through from the beginning.
    pub async fn tables_read(&self, statement: &str) -> Vec<String> {
        // Of its own, because what a session has read is counted for a while.
        let mut session = PgConnection::connect(&self.url).await.expect("connected");
        for statement in ["begin", "set local enable_seqscan = off", statement] {
            session.execute(AssertSqlSafe(statement.to_owned())).await.expect("done");
        }
        let read = "select array(select relname::text from pg_stat_xact_user_tables where seq_tup_read > 0)";
        let tables = sqlx::query_scalar(read).fetch_one(&mut session).await.expect("counted");
        session.close().await.expect("closed");
        tables
    }

    /// Ends the lease of every claimed event.
    pub async fn end_event_leases(&self) {
        self.run("update event set lease_expires_at = now() - interval '1 hour' where state = 'claimed'").await;
    }

    /// Ends the lease of every write command that a writer holds.
    pub async fn end_command_leases(&self) {
        self.run("update write_command set lease_expires_at = now() - interval '1 hour' where state = 'sending'").await;
    }

    /// Ends the lease of every record.
    pub async fn end_record_leases(&self) {
        self.run("update record_lease set expires_at = now() - interval '1 hour'").await;
    }

    pub async fn claim(&self, events: &[&Event], worker: &str) -> Vec<Claim> {
        self.claim_under(Uuid::now_v7(), events, worker).await
    }

    /// Claims events under a copy of their message.
    pub async fn claim_under(&self, message_copy_id: Uuid, events: &[&Event], worker: &str) -> Vec<Claim> {
        let requests: Vec<_> =
            events.iter().map(|event| ClaimRequest { event, message_copy_id, trace_id: None }).collect();
        self.ledger.claim(&requests, &self::worker(worker), LEASE).await.expect("claimed")
    }

    /// Claims one event, which must be granted.
    pub async fn claimed(&self, event: &Event, worker: &str) -> Claimed {
        match self.claim(&[event], worker).await.remove(0) {
            Claim::Granted(claimed) => claimed,
            Claim::Denied(reason) => panic!("denied: {reason:?}"),
        }
    }

    pub async fn commit(&self, decision: &Decision) -> bool {
        self.ledger.commit_decisions(std::slice::from_ref(decision)).await.expect("committed")[0]
    }

    /// An event that is decided, with one write command that sets `lead_score` of its contact.
    pub async fn decided(&self, event: &Event) -> WriteCommand {
        let claimed = self.claimed(event, "inference").await;
        let decision = decision_with_commands(event, &claimed, 1);
        assert!(self.commit(&decision).await);
        decision.commands[0].clone()
    }

    /// Claims one command, which must be granted, and returns the claim's number.
    pub async fn claimed_command(&self, command: &WriteCommand, worker: &str) -> i32 {
        match self.claim_command(command, worker).await {
            CommandClaim::Granted { attempt, .. } => attempt,
            other => panic!("not granted: {other:?}"),
        }
    }

    /// Asks for one action.
    pub async fn begin_action(&self, id: ActionId, command: WriteCommandId, attempt: i32, look: Look) -> BeginOutcome {
        let request = BeginRequest { id, command, attempt, look };
        self.ledger.begin_actions(&[request]).await.expect("asked").remove(0)
    }

    /// A claim of a command, without its age.
    pub async fn claim_command(&self, command: &WriteCommand, worker: &str) -> CommandClaim {
        let mut claim = self.claim_command_with_age(command, worker).await;
        if let CommandClaim::Granted { age, .. } = &mut claim {
            *age = Duration::ZERO;
        }
        claim
    }

    pub async fn claim_command_with_age(&self, command: &WriteCommand, worker: &str) -> CommandClaim {
        self.ledger
            .claim_commands(&[command.id], PORTAL, &self::worker(worker), LEASE)
            .await
            .expect("claimed")
            .remove(0)
    }

    /// Leases a record, which must be free.
    pub async fn lease(&self, record: &RecordRef, worker: &str) {
        assert!(self.try_lease(record, worker).await, "{record} is leased elsewhere");
    }

    pub async fn try_lease(&self, record: &RecordRef, worker: &str) -> bool {
        let records = std::slice::from_ref(record);
        self.ledger.lock_records(records, &self::worker(worker), LEASE).await.expect("asked").contains(record)
    }

    pub async fn finish(&self, result: &CommandResult, worker: &str) -> bool {
        let results = std::slice::from_ref(result);
        self.ledger.finish_commands(results, &self::worker(worker)).await.expect("committed")[0]
    }

    /// Writes the properties of a command, from its claim to its end.
    pub async fn written(&self, command: &WriteCommand, worker: &str) {
        self.lease(&command.record, worker).await;
        let attempt = self.claimed_command(command, worker).await;
        assert!(self.finish(&written(command, attempt), worker).await);
        self.ledger
            .unlock_records(std::slice::from_ref(&command.record), &self::worker(worker))
            .await
            .expect("unlocked");
    }

    /// The state and reason of an event.
    pub async fn state(&self, event: &Event) -> (EventState, Option<Reason>) {
        let story = self.ledger.event_story(event.key.as_str()).await.expect("asked").expect("known");
        (story.state, story.reason)
    }
}

pub fn worker(name: &str) -> Worker {
    Worker(name.to_owned())
}

pub fn contact(id: i64) -> RecordRef {
    RecordRef { portal_id: PORTAL, object_type: ObjectType::Contact, object_id: ObjectId(id) }
}

/// The `n`th change of a property of a contact; a greater `n` is a newer event.
pub fn event(contact: i64, n: i64) -> Event {
    let subject = Subject::Record { object_type: ObjectType::Contact, object_id: ObjectId(contact) };
    let occurred_ms = 1_900_000_000_000 + n * 1_000;
    let property = "notes_last_updated";
    Event {
        key: EventKey::new(PORTAL, EventKind::PropertyChange, &subject, Some(property), occurred_ms, &n.to_string()),
        portal_id: PORTAL,
        kind: EventKind::PropertyChange,
        subject,
        property_name: Some(property.to_owned()),
        occurred_at: OffsetDateTime::from_unix_timestamp(occurred_ms / 1_000).expect("a time"),
        change_source: Some("CRM_UI".to_owned()),
        source_id: Some("userId:42".to_owned()),
        payload: json!({"objectId": contact, "n": n}).into(),
    }
}

/// A valid answer about a record.
pub fn inference(record: &RecordRef) -> Inference {
    Inference {
        id: InferenceId::new(),
        playbook: PLAYBOOK.to_owned(),
        playbook_version: "abc123".to_owned(),
        record: record.clone(),
        part: None,
        context_hash: Some("hash of the context".to_owned()),
        read: vec![],
        model_requested: "gpt-5-mini".to_owned(),
        model: "gpt-5-mini-2025-08-07".to_owned(),
        service_tier: Some(ServiceTier::Default),
        prompt: json!([{"role": "user", "content": format!("note of {record}\n: {record}\n They have $50k ready.")}]),
        answer: r#"{"lead_score": 85}"#.to_owned(),
        outcome: InferenceOutcome::Valid,
        fields: json!({"lead_score": 85}),
        unverified: vec![],
        usage: TokenUsage { prompt_tokens: 100, cached_tokens: 10, completion_tokens: 20, cache_write_tokens: 0 },
        cost_micro_dollars: Some(2_500),
        latency: Duration::from_millis(700),
        request_id: Some("req_1".to_owned()),
    }
}

/// A command that sets `lead_score` and creates a note.
pub fn command(event: &Event, claimed: &Claimed, inference: &Inference) -> WriteCommand {
    WriteCommand {
        id: WriteCommandId::new(),
        event_id: claimed.event_id,
        event_key: event.key.clone(),
        inference_id: inference.id,
        occurred_at: event.occurred_at,
        record: inference.record.clone(),
        properties: vec![PropertyChange {
            property: "lead_score".to_owned(),
            value: "85".to_owned(),
            policy: WritePolicy::UnlessHuman,
            expected: None,
        }],
        actions: vec![Action {
            id: ActionId::new(),
            name: "follow-up".to_owned(),
            cooldown_hours: 24,
            spec: ActionSpec::CreateNote { body: "Call them.".to_owned(), associations: vec![] },
        }],
        terms: WriteTerms::default(),
    }
}

/// The answer to the `attempt`th claim of a command, of which these properties are written.
pub fn granted(command: &WriteCommand, attempt: i32, written: &[&str]) -> CommandClaim {
    let written = written.iter().map(|property| (*property).to_owned()).collect();
    CommandClaim::Granted {
        command: Box::new(command.clone()),
        attempt,
        written,
        age: Duration::ZERO,
        recovery: None,
        is_undo: false,
    }
}

/// A decision without any answer.
pub fn decision(claimed: &Claimed, state: EventState, reason: Option<Reason>) -> Decision {
    Decision {
        event_id: claimed.event_id,
        attempt: claimed.attempt,
        state,
        reason,
        detail: None,
        playbook: None,
        wait: None,
        inferences: vec![],
        commands: vec![],
        charges: vec![],
        unusable: vec![],
    }
}

/// A decision with `count` answers, each by another playbook and with a write command.
pub fn decision_with_commands(event: &Event, claimed: &Claimed, count: usize) -> Decision {
    let record = event.record();
    let playbook = |number| if number == 0 { PLAYBOOK.to_owned() } else { format!("{PLAYBOOK}-{number}") };
    let inferences: Vec<_> =
        (0..count).map(|number| Inference { playbook: playbook(number), ..inference(&record) }).collect();
    let commands = inferences.iter().map(|inference| command(event, claimed, inference)).collect();
    Decision { inferences, commands, ..decision(claimed, EventState::Decided, None) }
}

/// The result of a command under a claim, without any written property.
pub fn result(command: &WriteCommand, attempt: i32, state: CommandState, reason: Option<Reason>) -> CommandResult {
    CommandResult { reason, ..CommandResult::new(command.id, attempt, state) }
}

/// The result of a command whose properties are all written.
pub fn written(command: &WriteCommand, attempt: i32) -> CommandResult {
    let properties = command.properties.iter().map(|change| WrittenProperty {
        property: change.property.clone(),
        before: None,
        after: change.value.clone(),
    });
    CommandResult { written: properties.collect(), ..result(command, attempt, CommandState::Written, None) }
}
