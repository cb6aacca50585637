//! Postgres: every SQL statement of Leadline lives here, one module per question that the services ask.
//!
//! | module | question | asked by |
//! |---|---|---|
//! | `claim` | may this worker work on this event? | inference |
//! | `prior_answers` | what was answered already? | inference |
//! | `inferences` | which answers are stored? | inference |
//! | `charges` | what does the model cost? | inference |
//! | `decision` | what became of the event? | inference |
//! | `commands` | may this writer carry out this command? | writer |
//! | `command_results` | what became of the command? | writer |
//! | `proposals` | what would be written, and which proposals are too old? | writer |
//! | `reviews` | what waits for approval, and what was decided about it? | operator, writer |
//! | `corrections` | which written values did people change? | inference, writer, operator |
//! | `recovery` | what may it have forgotten? | writer |
//! | `records` | may this writer change this record, and who wrote to it last? | writer |
//! | `merges` | under which ids is this record known? | writer, inference |
//! | `verification` | which records may hold an older value than the ledger? | writer |
//! | `actions` | may this action be carried out, or was it done already? Is there such an action? | writer, inference |
//! | `rate_limits` | may the fleet make this call or spend this money? | limits |
//! | `circuit_breakers` | is HubSpot or OpenAI away, or a playbook's model? | maintenance |
//! | `credential_circuits` | is a credential rejected for all who have it? | maintenance |
//! | `gates` | may this version of a playbook run? | inference, operator |
//! | `drift` | which versions of a playbook are held back? | inference, maintenance, operator |
//! | `singleton_leases` | is it this worker's turn? | maintenance |
//! | `stuck_work` | which work has lost its message? | maintenance |
//! | `retention` | which data may be deleted? | maintenance |
//! | `migration` | is the schema up to date? | operator |
//! | `erasure` | what is known about a record that has to go? | inference, maintenance, operator |
//! | `undo`, `undo_commands`, `explain` | what can be undone, and what was? why has a property its value? | operator |
//! | `events`, `pace` | which events are there, how fast do they end, what do they cost? | operator |
//! | `playbook_figures` | how good is a playbook? | operator, maintenance |
//! | `unfinished`, `parking`, `audit` | what is unfinished, what is parked, what became of an event? | operator |
//!
//! What happens for every event takes and returns batches.

mod actions;
mod audit;
mod batched;
mod charges;
mod circuit_breakers;
mod claim;
mod column;
mod command_results;
mod commands;
mod connections;
mod corrections;
mod credential_circuits;
mod decision;
mod drift;
mod erasure;
mod error;
mod events;
mod explain;
mod gates;
mod inferences;
mod merges;
mod migration;
mod pace;
mod parking;
mod playbook_figures;
mod prior_answers;
mod proposals;
mod rate_limits;
mod records;
mod recovery;
mod retention;
mod retry_policy;
mod reviews;
mod session;
mod singleton_leases;
mod stuck_work;
mod traced;
mod undo;
mod undo_commands;
mod unfinished;
mod verification;

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use traced::Place;
use uuid::Uuid;

use crate::{connections::Connections, migration::MIGRATIONS};

pub use actions::{BeginOutcome, BeginRequest, EndedAction, Look, RecordedAction};
pub use audit::{
    ActionEntry, EventCost, EventStory, HistoryEntry, InferenceEntry, MergeEntry, SkippedWriteEntry, WriteEntry,
};
pub use charges::{ChargeRequest, RecordLimits, SettledCharge};
pub use circuit_breakers::{CircuitBreaker, ProbeDelays};
pub use claim::{Claim, ClaimDenied, ClaimRequest, Claimed};
pub use command_results::{CommandResult, SkippedWrite, WrittenProperty};
pub use commands::CommandClaim;
pub use corrections::{CorrectedAnswer, CorrectedValue, RecordedCorrection, RejectedAnswer};
pub use credential_circuits::CredentialRejection;
pub use decision::{Decision, UnusableAnswer};
pub use drift::{Drift, DriftEntry};
pub use erasure::{Erased, ErasureReceipt, OpenErasure};
pub use error::{LedgerError, Refusal};
pub use events::{EventChange, EventCount, EventEntry, EventFilter, EventPosition, EventStatus};
pub use explain::{
    ExplainedAnswer, ExplainedDecision, ExplainedOverride, ExplainedWrite, Explanation, KeptValue, UndoneBy,
};
pub use gates::{AskedVersion, Evaluation, EvaluationScore, GateEntry, GateNote, PassedVersion};
pub use inferences::CondensedPartTexts;
pub use merges::RecordMerge;
pub use migration::{MIGRATION_PATIENCE, MigrationWait};
pub use pace::{CostToday, FinishedEvent, Throughput};
pub use parking::{EventToRequeue, ParkedEntry, ParkedStage};
pub use playbook_figures::{AnswerCounts, EffectCounts, FieldValue, PlaybookFigures, PropertyFigures, ReviewCounts};
pub use prior_answers::{PriorAnswer, PriorAnswers, PriorAnswersRequest};
pub use proposals::{Proposal, ProposedWrite, WaitingProposals};
pub use rate_limits::{
    AcquireRequest, Grant, ObservedQuota, RateLimitEntry, RateLimitTerms, Refund, SpendLimitEntry, Window,
};
pub use records::{LatestWrites, RecordedValue};
pub use recovery::Recovery;
pub use retention::Retention;
pub use retry_policy::{COMMIT_RETRY, LEDGER_RETRY};
pub use reviews::{
    ChangedValue, ProposalEntry, ProposalFilter, ProposedAction, ProposedProperty, ReviewEntry, ReviewedProperty,
    Verdict,
};
pub use session::{PoolMode, SessionFault};
pub use stuck_work::{StuckCommand, StuckEvent};
pub use undo::{DoneAction, KnownWrite, UndoSelection, WriteAuthor, WriteStanding};
pub use undo_commands::{LeftProperty, UndoCommand, UndoProgress, UndoRequest, UnfinishedUndo};
pub use unfinished::{RecordChange, UnfinishedCommands, UnfinishedEvents};
pub use verification::LatestValue;

/// How the ledger is reached.
#[derive(Debug, Clone)]
pub struct LedgerSettings {
    /// `postgres://user:password@host:port/database`.
    pub url: SecretString,
    /// The name in `pg_stat_activity`.
    pub application_name: String,
    /// The largest number of connections of this process.
    pub max_connections: u32,
    /// How long a statement waits for a connection.
    pub acquire_timeout: Duration,
    /// How long a statement may run, by the server's clock. Maintenance has a limit of its own.
    pub statement_timeout: Duration,
    /// Whose the sessions behind the URL are.
    pub pool_mode: PoolMode,
}

/// How many connections a process may have beyond `max_connections`: what is done about the ledger itself must not wait for the
/// services' statements, nor they for it.
pub const MAINTENANCE_CONNECTIONS: u32 = 2;

/// How long a statement of maintenance may run. Each is about one partition, or a few hundred rows.
const MAINTENANCE_STATEMENT: Duration = Duration::from_secs(300);

/// How long maintenance waits for a lock, and at most makes others wait behind it. It tries again later.
const MAINTENANCE_LOCK: Duration = Duration::from_secs(2);

/// How long a connection of maintenance rests before it is closed.
const MAINTENANCE_REST: Duration = Duration::from_secs(60);

/// The Postgres side of Leadline. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Ledger {
    connections: Connections,
    /// For erasures, retention and partitions.
    maintenance: Connections,
    /// What traces name.
    place: Arc<Place>,
}

/// The holder of a claim or a lease. Unique per process, so that a restarted worker is a new holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker(pub String);

impl Worker {
    /// A name for this process: service, host and the end of a random id.
    pub fn named(service: &str) -> Self {
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "local".to_owned());
        let id = Uuid::now_v7().simple().to_string();
        Self(format!("{service}@{host}#{}", &id[id.len() - 8..]))
    }
}

impl Ledger {
    /// A ledger that connects with its first statement, because Postgres may be away when a service starts.
    ///
    /// # Errors
    /// When the URL cannot be parsed.
    pub fn connect(settings: &LedgerSettings) -> Result<Self, LedgerError> {
        let options = connect_options(&settings.url, &settings.application_name)?;
        let pool =
            |connections| PgPoolOptions::new().max_connections(connections).acquire_timeout(settings.acquire_timeout);
        let place = Arc::new(Place::of(&options));
        let connections = Connections::new(
            pool(settings.max_connections),
            options.clone(),
            settings.pool_mode,
            settings.statement_timeout,
            None,
        );
        let maintenance = Connections::new(
            pool(MAINTENANCE_CONNECTIONS).idle_timeout(MAINTENANCE_REST),
            options,
            settings.pool_mode,
            MAINTENANCE_STATEMENT,
            Some(MAINTENANCE_LOCK),
        );
        Ok(Self { connections, maintenance, place })
    }

    /// Makes connections with another user or password from now on. The URL has to lead where the one before did: what is open stays open.
    ///
    /// # Errors
    /// When the URL cannot be parsed; the one before stays.
    pub fn replace_url(&self, url: &SecretString) -> Result<(), LedgerError> {
        for connections in [&self.connections, &self.maintenance] {
            let name = connections.connect_options().get_application_name().unwrap_or_default().to_owned();
            connections.connect_with(connect_options(url, &name)?);
        }
        Ok(())
    }

    /// Finds out, the first time that it is asked and the ledger answers, whether sessions are as [`LedgerSettings::pool_mode`] says.
    ///
    /// # Errors
    /// [`LedgerError::Session`] when they are not, which only a person can mend; another one when the ledger is away.
    pub async fn verify_sessions(&self) -> Result<(), LedgerError> {
        Ok(self.connections.verify_sessions().await?)
    }

    /// Succeeds when the ledger answers with sessions as they are expected, can be written to, and has every migration that this
    /// binary needs. It may have newer ones: during a rolling update the old version goes on working.
    pub async fn check(&self) -> Result<(), LedgerError> {
        self.verify_sessions().await?;
        self.check_migrations().await?;
        let only_reads = "select pg_is_in_recovery() or current_setting('transaction_read_only')::boolean";
        if sqlx::query_scalar::<_, bool>(only_reads).fetch_one(&self.connections).await? {
            self.connections.reconnect();
            return Err(LedgerError::ReadOnly);
        }
        Ok(())
    }

    /// Succeeds when the ledger has every migration that this binary needs. Changes nothing.
    ///
    /// # Errors
    /// [`LedgerError::Schema`] when it lacks one; another one when it does not answer, or this user may not know.
    pub async fn check_migrations(&self) -> Result<(), LedgerError> {
        let exists = sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "exists!""#)
            .fetch_one(&self.connections)
            .await?;
        let applied = if exists {
            sqlx::query_scalar::<_, i64>("select version from _sqlx_migrations where success order by version")
                .fetch_all(&self.connections)
                .await?
        } else {
            Vec::new()
        };
        let needed = MIGRATIONS.iter().map(|migration| migration.version);
        let missing: Vec<_> = needed.filter(|version| !applied.contains(version)).collect();
        if missing.is_empty() { Ok(()) } else { Err(LedgerError::Schema { missing }) }
    }

    /// How many connections the server takes from roles that are no superusers.
    pub async fn server_connections(&self) -> Result<i32, LedgerError> {
        let room =
            "select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int";
        Ok(sqlx::query_scalar(room).fetch_one(&self.connections).await?)
    }
}

fn connect_options(url: &SecretString, application_name: &str) -> Result<PgConnectOptions, sqlx::Error> {
    let options: PgConnectOptions = url.expose_secret().parse()?;
    // Values come in binary, and poolers refuse parameters that they do not know.
    Ok(options.application_name(application_name).extra_float_digits(None))
}

/// The longest detail that is stored, in characters. What a server says about an error may be megabytes, and the detail of a
/// circuit breaker is read every second.
const MAX_DETAIL: usize = 2_000;

/// A detail as it is stored.
fn stored_detail(detail: &str) -> String {
    detail.chars().take(MAX_DETAIL).collect()
}

/// Milliseconds for an interval parameter.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// A duration in seconds that a statement returned; zero for a negative one.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
