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
//! | `records` | may this writer change this record, and who wrote to it last? | writer |
//! | `merges` | under which ids is this record known? | writer, inference |
//! | `verification` | which records may hold an older value than the ledger? | writer |
//! | `actions` | may this action be carried out, or was it done already? Is there such an action? | writer, inference |
//! | `rate_limits` | may the fleet make this call or spend this money? | limits |
//! | `circuit_breakers` | is HubSpot or OpenAI away, or a playbook's model? | maintenance |
//! | `credential_circuits` | is a credential rejected for all who have it? | maintenance |
//! | `singleton_leases` | is it this worker's turn? | maintenance |
//! | `stuck_work` | which work has lost its message? | maintenance |
//! | `retention` | which data may be deleted? | maintenance |
//! | `erasure` | what is known about a record that has to go? | inference, maintenance, operator |
//! | `unfinished`, `parking`, `audit` | what is unfinished, what is parked, what became of an event? | operator |
//!
//! What happens for every event takes and returns batches.

mod actions;
mod audit;
mod charges;
mod circuit_breakers;
mod claim;
mod column;
mod command_results;
mod commands;
mod connections;
mod credential_circuits;
mod decision;
mod erasure;
mod error;
mod inferences;
mod merges;
mod parking;
mod prior_answers;
mod rate_limits;
mod records;
mod retention;
mod retry_policy;
mod singleton_leases;
mod stuck_work;
mod unfinished;
mod verification;

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use uuid::Uuid;

use crate::connections::Connections;

pub use actions::BeginOutcome;
pub use audit::{
    ActionEntry, CondensedPartTexts, EventCost, EventCount, EventStory, HistoryEntry, InferenceEntry, MergeEntry,
    SkippedWriteEntry, WriteEntry,
};
pub use charges::{ChargeRequest, RecordLimits, SettledCharge};
pub use circuit_breakers::{CircuitBreaker, ProbeDelays};
pub use claim::{Claim, ClaimDenied, ClaimRequest, Claimed};
pub use command_results::{CommandResult, SkippedWrite, WrittenProperty};
pub use commands::CommandClaim;
pub use credential_circuits::CredentialRejection;
pub use decision::{Decision, UnusableAnswer};
pub use erasure::{Erased, ErasureReceipt, OpenErasure};
pub use error::{LedgerError, Refusal};
pub use merges::RecordMerge;
pub use parking::{EventToRequeue, ParkedEntry, ParkedStage};
pub use prior_answers::{PriorAnswer, PriorAnswers, PriorAnswersRequest};
pub use rate_limits::{
    AcquireRequest, Grant, ObservedQuota, RateLimitEntry, RateLimitTerms, Refund, SpendLimitEntry, Window,
};
pub use records::LatestWrites;
pub use retention::Retention;
pub use retry_policy::{COMMIT_RETRY, LEDGER_RETRY};
pub use stuck_work::{StuckCommand, StuckEvent};
pub use unfinished::{RecordChange, UnfinishedCommands, UnfinishedEvents};
pub use verification::LatestValue;

/// The migrations, compiled in.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// What each role may do, compiled in. Changes nothing where the roles do not exist.
const GRANTS: &str = include_str!("../../../deploy/postgres/grants.sql");

/// How the ledger is reached.
#[derive(Debug, Clone)]
pub struct LedgerSettings {
    /// `postgres://user:password@host:port/database`.
    pub url: secrecy::SecretString,
    /// The name in `pg_stat_activity`.
    pub application_name: String,
    /// The largest number of connections of this process.
    pub max_connections: u32,
    /// How long a statement waits for a connection.
    pub acquire_timeout: Duration,
    /// How long a statement may run, by the server's clock.
    pub statement_timeout: Duration,
}

/// When Postgres gives up a client that is no longer there, whose locks others wait for: after half a minute without an answer
/// (Postgres' documentation, "Connections and Authentication": `tcp_keepalives_*` in seconds, `tcp_user_timeout` in milliseconds).
const LOST_CLIENTS: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "15"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "30000"),
];

/// The Postgres side of Leadline. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Ledger {
    connections: Connections,
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
        use secrecy::ExposeSecret;
        let timeout = settings.statement_timeout.as_millis().to_string();
        let options: PgConnectOptions = settings.url.expose_secret().parse()?;
        let options = options.application_name(&settings.application_name).options([
            ("statement_timeout", timeout.as_str()),
            // A worker that is frozen within a transaction would hold its locks for as long.
            ("idle_in_transaction_session_timeout", timeout.as_str()),
            ("timezone", "UTC"),
        ]);
        let options = options.options(LOST_CLIENTS);
        let pool =
            PgPoolOptions::new().max_connections(settings.max_connections).acquire_timeout(settings.acquire_timeout);
        Ok(Self { connections: Connections::new(pool, options, settings.statement_timeout) })
    }

    /// Brings the schema up to date, gives the roles of `deploy/postgres/roles.sql` their rights, and says what is kept for how
    /// long. Returns `false` where these roles do not exist. Safe to call from many processes at once: each step takes a lock.
    pub async fn migrate(&self, retention: Retention) -> Result<bool, LedgerError> {
        // Another process may be at it, or a large table may have to be changed: no statement of it has the services' time limit.
        let options = self.connections.connect_options().clone().options([("statement_timeout", "0")]);
        let owner = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
        MIGRATIONS.run(&owner).await.map_err(LedgerError::Migration)?;
        sqlx::raw_sql(GRANTS).execute(&owner).await?;
        owner.close().await;
        self.set_retention(retention).await?;
        let roles = sqlx::query_scalar!(
            r#"select count(*) as "roles!" from pg_roles
               where rolname in ('leadline_inference', 'leadline_writer', 'leadline_operator', 'leadline_auditor')"#
        );
        Ok(roles.fetch_one(&self.connections).await? == 4)
    }

    /// Succeeds when the ledger answers, can be written to, and has every migration that this binary needs. It may have newer ones:
    /// during a rolling update the old version goes on working.
    pub async fn check(&self) -> Result<(), LedgerError> {
        let expected: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
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
        if !expected.iter().all(|version| applied.contains(version)) {
            return Err(LedgerError::Schema { expected, applied });
        }
        let only_reads = "select pg_is_in_recovery() or current_setting('transaction_read_only')::boolean";
        if sqlx::query_scalar::<_, bool>(only_reads).fetch_one(&self.connections).await? {
            self.connections.reconnect();
            return Err(LedgerError::ReadOnly);
        }
        Ok(())
    }

    /// How many connections the server takes from roles that are no superusers.
    pub async fn server_connections(&self) -> Result<i32, LedgerError> {
        let room =
            "select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int";
        Ok(sqlx::query_scalar(room).fetch_one(&self.connections).await?)
    }
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
