//! A writer of a test's own, and what a test does with it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use batcher::BatcherSettings;
use broker::{Delivery, Disposition, Handler, RetrySchedule};
use domain::{
    ActionId, AppId, Credential, Dependency, Event, EventId, EventKey, EventState, Fingerprint, Inference, InferenceId,
    ObjectId, ObjectType, PortalId, Reason, RecordRef, WriteCommand, WriteCommandId,
    event::{EventKind, Subject},
    inference::{InferenceOutcome, TokenUsage},
    model::ServiceTier,
    review::WriteTerms,
    write_command::{Action, ActionSpec, PropertyChange, Task, TaskPriority, TaskType, WritePolicy, marker},
};
use hubspot::{
    HubSpotClient,
    client::{ApiVersions, HubSpotSettings, MAX_BATCH},
};
use ledger::{Claim, ClaimRequest, Decision, EventStory, Ledger, LedgerSettings, Worker};
use maintenance::CircuitBreakers;
use retry::{CallHooks, RetryPolicy};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use simulator::{
    Call, Config, Fault, Simulator,
    admin::{ChannelMessage, Edit, Merge, NewRecord, ObjectView, Quirks, Survivor},
};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use writer::{
    ActionExecutor, BatchExecutor, BatchNames, Channels, FailurePolicy, NullValues, Pipelines, RefusedProperties,
    Verifier, WriteHandler, WriteRules,
};

/// The attempts after which a message is parked.
pub const MAX_ATTEMPTS: u32 = 4;

/// The time of the tests' events, in seconds since 1970.
const BASE_SECONDS: i64 = 1_900_000_000;

/// What differs between tests.
pub struct WriterOptions {
    /// How long a batch holds commands and records.
    pub lease: Duration,
    /// How long a batch waits for more commands.
    pub linger: Duration,
    /// The timeout of a call to HubSpot.
    pub call_timeout: Duration,
    /// The age at which a message is parked.
    pub max_age: Duration,
    /// The URLs of the notification channels. One that begins with a slash leads to the simulator.
    pub channels: BTreeMap<String, String>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            linger: Duration::from_millis(100),
            call_timeout: Duration::from_secs(2),
            max_age: Duration::MAX,
            channels: BTreeMap::new(),
        }
    }
}

/// A writer with a database and a simulator of its own.
pub struct TestWriter {
    pub ledger: Ledger,
    pub handler: WriteHandler,
    pub verifier: Verifier,
    postgres_url: String,
    pub simulator_url: String,
    pub http: reqwest::Client,
    portal_id: PortalId,
    app_id: AppId,
}

impl TestWriter {
    pub async fn start() -> Self {
        Self::with(WriterOptions::default()).await
    }

    pub async fn with(options: WriterOptions) -> Self {
        http_client::install_tls_provider();
        let database = testbed::database().await.expect("Postgres");
        let ledger = Ledger::connect(&LedgerSettings {
            url: database.url.clone().into(),
            application_name: "writer tests".to_owned(),
            max_connections: 4,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(10),
            pool_mode: ledger::PoolMode::Session,
        })
        .expect("a ledger");
        let config = Config { calls_per_10s: 100_000, ..Config::default() };
        let (portal_id, app_id) = (PortalId(config.portal_id), AppId(config.app_id));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let simulator_url = format!("http://{}", listener.local_addr().expect("an address"));
        let hubspot = HubSpotClient::new(HubSpotSettings {
            authorities: None,
            base_url: simulator_url.clone(),
            token: config.token.clone().into(),
            api_versions: ApiVersions::default(),
            timeout: options.call_timeout,
            retry: RetryPolicy {
                attempts: 2,
                base_delay: Duration::from_millis(10),
                max_delay: Duration::from_millis(100),
            },
            max_response_bytes: 10_000_000,
            hooks: CallHooks::default(),
        })
        .expect("a client");
        let router = Simulator::new(config).router();
        tokio::spawn(async move { axum::serve(listener, router).await });

        let breaker_settings =
            settings::CircuitBreakerSection { failure_threshold: 1_000, ..settings::CircuitBreakerSection::default() };
        let fingerprint = Fingerprint::of("9876543", ["token"]);
        let token = Credential { dependency: Dependency::HubSpot, setting: "hubspot.token", fingerprint };
        let circuit_breakers = CircuitBreakers::new(&breaker_settings, [token]);
        let delays = vec![Duration::from_secs(1), Duration::from_secs(2)];
        let retry_schedule =
            RetrySchedule::new(delays, MAX_ATTEMPTS).expect("a schedule").with_max_age(options.max_age);
        let url_of = |url: String| if url.starts_with('/') { format!("{simulator_url}{url}") } else { url };
        let urls = options.channels.into_iter().map(|(name, url)| (name, url_of(url).into())).collect();
        let channels = Channels::new(urls, Duration::from_secs(1)).expect("channels");
        let worker = Worker::named("writer");
        let protected_properties = settings::InferenceSection::default().protected_properties;
        let rules = WriteRules {
            portal_id,
            app_id,
            protected_properties: protected_properties.into_iter().collect(),
            proposals_expire_after: Duration::from_secs(3_600),
        };
        let executor = BatchExecutor {
            refused_properties: RefusedProperties::new(Duration::from_secs(3_600)),
            ledger: ledger.clone(),
            hubspot: hubspot.clone(),
            actions: ActionExecutor::new(
                ledger.clone(),
                hubspot.clone(),
                Pipelines::new(Duration::from_secs(60)),
                channels,
            ),
            failures: FailurePolicy::new(circuit_breakers.clone(), retry_schedule),
            null_values: NullValues::default(),
            rules: rules.clone(),
            lease: options.lease,
            names: BatchNames::of(worker.clone()),
        };
        let batching = BatcherSettings {
            name: "write",
            max: MAX_BATCH,
            linger: options.linger,
            extra_linger: None,
            max_in_flight: 4,
            long: None,
        };
        Self {
            handler: WriteHandler::new(circuit_breakers, executor, batching),
            verifier: Verifier::new(hubspot, ledger.clone(), &worker, options.lease, rules),
            ledger,
            postgres_url: database.url,
            simulator_url,
            http: reqwest::Client::new(),
            portal_id,
            app_id,
        }
    }

    /// Records an event, the `second`th, that decided this about a record; returns its write command.
    pub async fn decide(
        &self,
        record: &RecordRef,
        second: i64,
        properties: &[PropertyChange],
        actions: Vec<ActionSpec>,
    ) -> WriteCommand {
        let occurred_at =
            OffsetDateTime::from_unix_timestamp(BASE_SECONDS + second).expect("a time after 1970 and before 9999");
        self.decide_at(record, occurred_at, (properties, actions), WriteTerms::default()).await
    }

    /// The same, under these terms.
    pub async fn decide_under(
        &self,
        terms: WriteTerms,
        record: &RecordRef,
        second: i64,
        (properties, actions): (&[PropertyChange], Vec<ActionSpec>),
    ) -> WriteCommand {
        let occurred_at =
            OffsetDateTime::from_unix_timestamp(BASE_SECONDS + second).expect("a time after 1970 and before 9999");
        self.decide_at(record, occurred_at, (properties, actions), terms).await
    }

    /// The same, for an event that happens now.
    pub async fn decide_now(
        &self,
        record: &RecordRef,
        properties: &[PropertyChange],
        actions: Vec<ActionSpec>,
    ) -> WriteCommand {
        let now = OffsetDateTime::now_utc();
        let now = now.replace_millisecond(now.millisecond()).expect("a millisecond");
        self.decide_at(record, now, (properties, actions), WriteTerms::default()).await
    }

    async fn decide_at(
        &self,
        record: &RecordRef,
        occurred_at: OffsetDateTime,
        (properties, actions): (&[PropertyChange], Vec<ActionSpec>),
        terms: WriteTerms,
    ) -> WriteCommand {
        let event = event(record, occurred_at);
        let request = ClaimRequest { event: &event, message_copy_id: uuid::Uuid::nil(), trace_id: None };
        let worker = Worker::named("inference");
        let claims = self.ledger.claim(&[request], &worker, Duration::from_secs(60)).await.expect("claimed");
        let Some(Claim::Granted(claimed)) = claims.into_iter().next() else { panic!("the event is not new") };
        let inference = inference(record);
        let action =
            |(index, spec)| Action { id: ActionId::new(), name: format!("action-{index}"), cooldown_hours: 0, spec };
        let command = WriteCommand {
            id: WriteCommandId::new(),
            event_id: claimed.event_id,
            event_key: event.key,
            inference_id: inference.id,
            occurred_at,
            record: record.clone(),
            properties: properties.to_vec(),
            actions: actions.into_iter().enumerate().map(action).collect(),
            terms,
        };
        let decision = Decision {
            event_id: claimed.event_id,
            attempt: claimed.attempt,
            state: EventState::Decided,
            reason: None,
            detail: None,
            playbook: None,
            wait: None,
            inferences: vec![inference],
            commands: vec![command.clone()],
            charges: vec![],
            unusable: vec![],
        };
        assert_eq!(self.ledger.commit_decisions(&[decision]).await.expect("committed"), [true]);
        command
    }

    /// Handles a message with the command, whose earlier attempts failed `failures` times.
    pub async fn handle_after(&self, command: &WriteCommand, failures: u32) -> Disposition {
        let mut message = maintenance::command_message(command.id);
        message.attempts = failures;
        self.handler.handle(Delivery { message: Arc::new(message), redelivered: failures > 0 }).await
    }

    /// Handles the first message with the command.
    pub async fn handle(&self, command: &WriteCommand) -> Disposition {
        self.handle_after(command, 0).await
    }

    /// Handles the command again and again, as a retry queue would, until it is done.
    pub async fn until_done(&self, command: &WriteCommand) {
        let done = async {
            while self.handle(command).await != Disposition::Done {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), done).await.expect("done in the end");
    }

    /// What the ledger knows about the command's event.
    pub async fn story(&self, command: &WriteCommand) -> EventStory {
        let story = self.ledger.event_story(command.event_key.as_str()).await.expect("an answer");
        story.expect("the event is in the ledger")
    }

    /// The state of the command's event and its reason.
    pub async fn ended_as(&self, command: &WriteCommand, state: EventState, reason: Option<Reason>) -> EventStory {
        let story = self.story(command).await;
        assert_eq!((story.state, story.reason), (state, reason), "{story:#?}");
        story
    }

    /// A value of the ledger, by SQL as operators would ask.
    pub async fn query<T>(&self, sql: &'static str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        use sqlx::Connection;
        let mut connection = sqlx::PgConnection::connect(&self.postgres_url).await.expect("Postgres");
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect(sql)
    }

    /// Runs a statement, for what no service does.
    pub async fn execute(&self, sql: &'static str) {
        use sqlx::Connection;
        let mut connection = sqlx::PgConnection::connect(&self.postgres_url).await.expect("Postgres");
        sqlx::query(sql).execute(&mut connection).await.expect(sql);
    }

    /// Runs several statements.
    pub async fn execute_all(&self, sql: &'static str) {
        use sqlx::Connection;
        let mut connection = sqlx::PgConnection::connect(&self.postgres_url).await.expect("Postgres");
        sqlx::raw_sql(sql).execute(&mut connection).await.expect(sql);
    }

    /// Makes the ledger one that was restored from a backup.
    pub async fn restored(&self) {
        self.execute_all("delete from recovery; insert into recovery (database) values ('the former one')").await;
    }

    /// Gives the only action of a command another id.
    pub async fn give_action_id(&self, command: &WriteCommand, id: ActionId) {
        assert!(self.ledger.adopt_action_id(command.actions[0].id, id).await.expect("an answer"));
    }

    /// Creates a task of a contact in HubSpot that carries the marker of an action.
    pub async fn marked_task(&self, id: i64, contact: i64, action: ActionId) {
        let body = format!("Call her<br><br>{}", marker(action));
        let properties = [("hs_task_subject", "Call Ada"), ("hs_task_body", &body)];
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let associations = vec![("contact".to_owned(), contact)];
        let new = NewRecord { kind: "task".to_owned(), id, properties, associations, ..NewRecord::default() };
        self.post("objects", &new).await;
    }

    /// Creates a contact in HubSpot and returns it as a record.
    pub async fn contact(&self, id: i64) -> RecordRef {
        self.object("contact", id, &[("firstname", "Ada")]).await
    }

    /// Creates a record of any kind in HubSpot.
    pub async fn object(&self, kind: &str, id: i64, properties: &[(&str, &str)]) -> RecordRef {
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let new = NewRecord { kind: kind.to_owned(), id, properties, ..NewRecord::default() };
        self.post("objects", &new).await;
        RecordRef { portal_id: self.portal_id, object_type: ObjectType::from(kind), object_id: ObjectId(id) }
    }

    /// Changes a property in HubSpot as a person (`CRM_UI`) or another `source` does.
    pub async fn edit(&self, contact: i64, property: &str, value: &str, source: &str) {
        self.edit_from(("contact", contact), property, value, (source, "userId:9")).await;
    }

    /// Changes a property in HubSpot as a late call of our own app does.
    pub async fn edit_as_app(&self, contact: i64, property: &str, value: &str) {
        self.edit_from(("contact", contact), property, value, ("INTEGRATION", &self.app_id.to_string())).await;
    }

    /// Moves a deal to a stage as our own app does, and then to another one as a person does.
    pub async fn move_deal(&self, deal: i64, by_app: &str, by_person: &str) {
        self.move_deal_as(deal, by_app, &self.app_id.to_string()).await;
        self.edit_from(("deal", deal), "dealstage", by_person, ("CRM_UI", "userId:9")).await;
    }

    /// Moves a deal to a stage as an app does.
    pub async fn move_deal_as(&self, deal: i64, stage: &str, app: &str) {
        self.edit_from(("deal", deal), "dealstage", stage, ("INTEGRATION", app)).await;
    }

    async fn edit_from(&self, (kind, id): (&str, i64), property: &str, value: &str, (source, source_id): (&str, &str)) {
        let edit = Edit {
            properties: [(property.to_owned(), value.to_owned())].into(),
            source: source.to_owned(),
            source_id: source_id.to_owned(),
            announce: false,
        };
        let url = format!("{}/_simulator/objects/{kind}/{id}", self.simulator_url);
        self.http.patch(url).json(&edit).send().await.expect("sent").error_for_status().expect("edited");
    }

    /// Merges contacts as a person does in HubSpot's screens, and returns the record that survives.
    pub async fn merge(&self, primary: &RecordRef, others: &[&RecordRef]) -> RecordRef {
        let merge = Merge {
            kind: primary.object_type.type_id().to_owned(),
            primary: primary.object_id.0,
            merged: others.iter().map(|other| other.object_id.0).collect(),
            announce: false,
        };
        let url = format!("{}/_simulator/merges", self.simulator_url);
        let answer = self.http.post(url).json(&merge).send().await.expect("sent").error_for_status().expect("merged");
        let survivor: Survivor = answer.json().await.expect("the documented form");
        RecordRef { object_id: ObjectId(survivor.id), ..primary.clone() }
    }

    /// Merges `merged` into `primary` once a call to a path that contains `path` has been answered, after the first `known` calls.
    /// Then it switches all faults off: the calls that are held find the records merged.
    pub async fn merge_after_call(
        &self,
        (known, path): (usize, &str),
        primary: &RecordRef,
        merged: &RecordRef,
    ) -> RecordRef {
        while !self.calls().await.iter().skip(known).any(|call| call.path.contains(path)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let survivor = self.merge(primary, &[merged]).await;
        self.clear_faults().await;
        survivor
    }

    pub async fn quirks(&self, quirks: &Quirks) {
        self.post("quirks", quirks).await;
    }

    /// Deletes a contact in HubSpot.
    pub async fn delete(&self, contact: i64) {
        let url = format!("{}/_simulator/objects/contact/{contact}", self.simulator_url);
        self.http.delete(url).send().await.expect("sent").error_for_status().expect("deleted");
    }

    /// Switches all faults off, and lets the calls go on that were held.
    pub async fn clear_faults(&self) {
        let url = format!("{}/_simulator/faults", self.simulator_url);
        self.http.delete(url).send().await.expect("sent").error_for_status().expect("accepted");
    }

    pub async fn fault(&self, fault: &Fault) {
        self.post("faults", fault).await;
    }

    /// The value of a contact's property in HubSpot.
    pub async fn property(&self, contact: i64, property: &str) -> Option<String> {
        self.value("contact", contact, property).await
    }

    /// The value of a record's property in HubSpot.
    pub async fn value(&self, kind: &str, id: i64, property: &str) -> Option<String> {
        let view: ObjectView = self.get(&format!("objects/{kind}/{id}")).await;
        view.properties.get(property).cloned()
    }

    /// Every task in HubSpot.
    pub async fn tasks(&self) -> Vec<ObjectView> {
        self.get("objects/task").await
    }

    /// The messages that the channels of the simulator have received.
    pub async fn messages(&self) -> Vec<ChannelMessage> {
        self.get("messages").await
    }

    /// Every note in HubSpot.
    pub async fn notes(&self) -> Vec<ObjectView> {
        self.get("objects/note").await
    }

    /// Every call to HubSpot, oldest first.
    pub async fn calls(&self) -> Vec<Call> {
        self.get("calls").await
    }

    /// The calls that write contacts, oldest first.
    pub async fn contact_writes(&self) -> Vec<Call> {
        let calls = self.calls().await;
        let is_write = |call: &Call| {
            call.path.contains("/contacts") && (call.method == "PATCH" || call.path.ends_with("/batch/update"))
        };
        calls.into_iter().filter(is_write).collect()
    }

    async fn post(&self, path: &str, body: &impl Serialize) {
        let url = format!("{}/_simulator/{path}", self.simulator_url);
        self.http.post(url).json(body).send().await.expect("sent").error_for_status().expect("accepted");
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let url = format!("{}/_simulator/{path}", self.simulator_url);
        let response = self.http.get(url).send().await.expect("sent").error_for_status().expect("an answer");
        response.json().await.expect("the documented form")
    }
}

/// A task about a record.
pub fn task(record: &RecordRef) -> ActionSpec {
    ActionSpec::CreateTask(Task {
        subject: "Call Ada".to_owned(),
        body: "She has a budget.".to_owned(),
        priority: TaskPriority::High,
        task_type: TaskType::Call,
        owner: None,
        due: OffsetDateTime::now_utc(),
        associations: vec![record.clone()],
    })
}

/// A change of one property with the default policy, `unless_human`.
pub fn set(property: &str, value: &str) -> PropertyChange {
    PropertyChange {
        property: property.to_owned(),
        value: value.to_owned(),
        policy: WritePolicy::default(),
        expected: None,
    }
}

/// The records of a batch update, by id.
pub fn ids_of(call: &Call) -> Vec<&str> {
    call.request["inputs"].as_array().into_iter().flatten().filter_map(|input| input["id"].as_str()).collect()
}

fn event(record: &RecordRef, occurred_at: OffsetDateTime) -> Event {
    let subject = Subject::Record { object_type: record.object_type.clone(), object_id: record.object_id };
    Event {
        key: EventKey::from_text(EventId::new().to_string()),
        portal_id: record.portal_id,
        kind: EventKind::PropertyChange,
        subject,
        property_name: Some("notes_last_updated".to_owned()),
        occurred_at,
        change_source: None,
        source_id: None,
        payload: json!({}).into(),
    }
}

fn inference(record: &RecordRef) -> Inference {
    Inference {
        id: InferenceId::new(),
        playbook: "lead-qualification".to_owned(),
        playbook_version: "test".to_owned(),
        record: record.clone(),
        part: None,
        context_hash: None,
        read: vec![],
        model_requested: "gpt-4o".to_owned(),
        model: "gpt-4o-2024-08-06".to_owned(),
        service_tier: Some(ServiceTier::Default),
        prompt: json!([]),
        answer: "{}".to_owned(),
        outcome: InferenceOutcome::Valid,
        fields: Value::Null,
        unverified: Vec::new(),
        usage: TokenUsage::default(),
        cost_micro_dollars: Some(0),
        latency: Duration::from_millis(1),
        request_id: None,
    }
}
