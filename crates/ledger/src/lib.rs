//! Postgres: every SQL statement of Leadline lives here, one module per question that the services ask.
//!
//! [`Ledger::claim`] is the idempotency check, [`Ledger::prior_answers`] says what was answered already, [`Ledger::commit_decisions`]
//! commits what an inference decided; [`records`] keeps writers out of each other's way, [`commands`] remembers what
//! was there before, [`actions`] sees to it that nothing is done twice. What happens for every event takes and returns
//! batches. What keeps the fleet well is in [`circuit`], [`reconcile`], [`parking`], [`backlog`] and [`retention`];
//! what it may take of others' limits in [`budget`].

mod actions;
mod audit;
mod circuit_breaker;
mod claim;
mod commands;
mod decision;
mod error;
mod parking;
mod prior_answers;
mod rate_limit;
mod reconcile;
mod records;
mod retention;
mod unfinished;

use std::time::Duration;

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use uuid::Uuid;

pub use actions::BeginOutcome;
pub use audit::{ActionEntry, EventCount, EventStory, HistoryEntry, InferenceEntry, SkippedWriteEntry, WriteEntry};
pub use circuit_breaker::{CircuitBreaker, ProbeDelays};
pub use claim::{Claim, ClaimRequest, Claimed, Duplicate};
pub use commands::{Finished, SkippedWrite, Taken, WrittenProperty};
pub use decision::Decision;
pub use domain::{ActionState, CircuitBreakerState, CommandState};
pub use error::LedgerError;
pub use parking::{ParkedEntry, Requeueable};
pub use prior_answers::{PriorAnswers, PriorAnswersRequest};
pub use rate_limit::{AcquireRequest, Grant, ObservedQuota, RateLimitEntry, RateLimitTerms, Refund, Window};
pub use reconcile::{LatestValue, StuckCommand, StuckEvent};
pub use records::LatestWrites;
pub use retention::Erased;
pub use unfinished::{Happened, Unfinished, UnfinishedCommands};

/// The migrations, compiled in.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// How the ledger is reached.
#[derive(Debug, Clone)]
pub struct LedgerSettings {
    /// `postgres://user:password@host:port/database`.
    pub url: secrecy::SecretString,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// Connections of this process at most.
    pub max_connections: u32,
    /// How long a statement waits for a connection.
    pub acquire_timeout: Duration,
    /// How long a statement may run, by the server's clock.
    pub statement_timeout: Duration,
}

/// The Postgres side of Leadline. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Ledger {
    pool: PgPool,
}

/// Who holds a claim or a lease: unique per process, so that a restarted worker is somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker(pub String);

impl Worker {
    /// A name for this process: service, host and a part of a random id.
    pub fn named(service: &str) -> Self {
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "local".to_owned());
        let id = Uuid::now_v7().simple().to_string();
        Self(format!("{service}@{host}#{}", &id[id.len() - 8..]))
    }
}

impl Ledger {
    /// A ledger that connects when it is first asked: Postgres may be away when a service starts.
    pub fn connect(settings: &LedgerSettings) -> Result<Self, LedgerError> {
        use secrecy::ExposeSecret;
        let timeout = settings.statement_timeout.as_millis().to_string();
        let options: PgConnectOptions = settings.url.expose_secret().parse()?;
        let options = options
            .application_name(&settings.application_name)
            .options([("statement_timeout", timeout.as_str()), ("timezone", "UTC")]);
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(settings.acquire_timeout)
            .connect_lazy_with(options);
        Ok(Self { pool })
    }

    /// Brings the schema up to date. Safe to call from many processes at once: sqlx takes a lock.
    pub async fn migrate(&self) -> Result<(), LedgerError> {
        MIGRATIONS.run(&self.pool).await.map_err(LedgerError::Migration)
    }

    /// Whether the ledger answers and has every migration that this binary needs. It may have newer ones: during a
    /// rolling update the old version goes on working.
    pub async fn check(&self) -> Result<(), LedgerError> {
        let expected: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        let exists = sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "exists!""#)
            .fetch_one(&self.pool)
            .await?;
        let applied = if exists {
            sqlx::query_scalar::<_, i64>("select version from _sqlx_migrations where success order by version")
                .fetch_all(&self.pool)
                .await?
        } else {
            Vec::new()
        };
        if expected.iter().all(|version| applied.contains(version)) {
            Ok(())
        } else {
            Err(LedgerError::Schema { expected, applied })
        }
    }
}

/// Milliseconds for an interval parameter.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
