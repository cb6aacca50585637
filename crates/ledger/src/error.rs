//! The errors of the ledger, and what each asks for.

use std::fmt;

use retry::{Failure, Reason, RetryAction};
use sqlx::migrate::MigrateError;

use crate::session::{SessionFault, fault_of};

/// What can go wrong with the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Postgres answered with an error.
    #[error("ledger: {0}")]
    Refused(Refusal),
    /// Postgres cannot be reached, or its answer cannot be read.
    #[error("ledger: {0}")]
    Database(sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("ledger migration: {0}")]
    Migration(MigrateError),
    /// The schema lacks migrations that this binary needs.
    #[error("the ledger lacks {} of the migrations that this version needs, the first is {}; run `leadline migrate`", missing.len(), missing[0])]
    Schema {
        /// Those that the database has not, at least one.
        missing: Vec<i64>,
    },
    /// The server only reads: it is a standby, or after a failover the old primary.
    #[error("the ledger's server takes no writes: it is a standby, or was the primary before a failover")]
    ReadOnly,
    /// The server's sessions, or a pooler's, are not as the settings say.
    #[error("ledger: {0}")]
    Session(SessionFault),
    /// Another process migrates the ledger, and did not end.
    #[error("another process migrates the ledger: it was waited for {0:?} and has not ended")]
    MigrationUnderWay(std::time::Duration),
    /// A row holds a name that this binary does not know: a newer version wrote it, or a person did.
    #[error("the ledger has an unknown name in {table}.{column}: `{value}`")]
    Unreadable {
        /// The table or view.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// What the row holds.
        value: String,
    },
}

/// What an error says about the ledger and about the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ErrorKind {
    /// The ledger is absent: unreachable, overloaded, stopped, read-only, or without the schema that this binary needs. It
    /// would say the same about any other statement.
    Away,
    /// It refused what the statement carries, and will refuse it again.
    DataRefused,
    /// Anything else: it may be this statement's fault, and may be different the next time.
    Other,
}

impl LedgerError {
    /// Whether the database is absent, so that the same statement may succeed later. Any other error may be the fault of one
    /// item of a batch.
    pub fn is_away(&self) -> bool {
        self.kind() == ErrorKind::Away
    }

    /// Whether another process held a lock for longer than is waited for locks, or waited for this statement's. The same statement may
    /// succeed at any moment.
    pub fn is_locked(&self) -> bool {
        match self {
            Self::Refused(refusal) => is_locked(&*refusal.error),
            Self::Migration(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                error.as_database_error().is_some_and(is_locked)
            }
            _ => false,
        }
    }

    /// Whether the statement ran for longer than statements may, and was ended. Others may be short.
    pub fn is_timed_out(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.error.code().is_some_and(|code| code == QUERY_CANCELED))
    }

    /// The SQLSTATE, if Postgres answered with an error.
    pub(crate) fn code(&self) -> Option<String> {
        match self {
            Self::Refused(refusal) => refusal.error.code().map(Into::into),
            _ => None,
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::ReadOnly
            | Self::Session(_)
            | Self::Database(
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed,
            ) => ErrorKind::Away,
            Self::Database(sqlx::Error::Encode(_)) => ErrorKind::DataRefused,
            Self::Database(_)
            | Self::Migration(_)
            | Self::MigrationUnderWay(_)
            | Self::Schema { .. }
            | Self::Unreadable { .. } => ErrorKind::Other,
        }
    }
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => Self::Refused(Refusal::from(error)),
            other => fault_of(&other).cloned().map_or(Self::Database(other), Self::Session),
        }
    }
}

/// An error that Postgres gave, in its own terms.
#[derive(Debug)]
pub struct Refusal {
    error: Box<dyn sqlx::error::DatabaseError>,
}

impl From<Box<dyn sqlx::error::DatabaseError>> for Refusal {
    fn from(error: Box<dyn sqlx::error::DatabaseError>) -> Self {
        Self { error }
    }
}

/// A command of another transaction made this one's reference point to nothing for now: an answer that is stored already
/// under an earlier claim, for example. It is found the next time.
const FOREIGN_KEY_VIOLATION: &str = "23503";

/// `lock_not_available` (after `lock_timeout`) and `deadlock_detected`.
const LOCKED: [&str; 2] = ["55P03", "40P01"];

/// After `statement_timeout`.
const QUERY_CANCELED: &str = "57014";

fn is_locked(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| LOCKED.contains(&&*code))
}

impl Refusal {
    /// By the class of the SQLSTATE (Postgres' documentation, "PostgreSQL Error Codes").
    fn kind(&self) -> ErrorKind {
        let code = self.error.code().unwrap_or_default();
        match code.get(..2).unwrap_or_default() {
            // Connection, transaction state (read-only), a prepared statement that a pooler has lost, authorization, no such database
            // or schema, rolled back, no such table or no right to it, out of resources, locked, stopped by an operator, a system error.
            "08" | "25" | "26" | "28" | "3D" | "3F" | "40" | "42" | "53" | "55" | "57" | "58" => ErrorKind::Away,
            _ if code == FOREIGN_KEY_VIOLATION => ErrorKind::Other,
            // Cardinality, data, integrity, beyond what a row or an index can hold.
            "21" | "22" | "23" | "54" => ErrorKind::DataRefused,
            _ => ErrorKind::Other,
        }
    }
}

/// Postgres quotes values in its messages about data, and those may be what people wrote: such an error names its code only,
/// and the table and the constraint if it is about one.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.error.code().unwrap_or_default();
        write!(f, "Postgres refused it, SQLSTATE {code}")?;
        let parts = [("table", self.error.table()), ("constraint", self.error.constraint())];
        for (what, name) in parts.into_iter().filter_map(|(what, name)| Some((what, name?))) {
            write!(f, ", {what} {name}")?;
        }
        if self.kind() == ErrorKind::Away {
            write!(f, ": {}", self.error.message())?;
        }
        Ok(())
    }
}

impl Failure for LedgerError {
    fn retry_action(&self) -> RetryAction {
        match self.kind() {
            // Repeated in the process; then it waits, and the wait does not count.
            ErrorKind::Away => RetryAction::RateLimited { after: None },
            ErrorKind::DataRefused => RetryAction::Park,
            ErrorKind::Other => RetryAction::RetryLater { after: None },
        }
    }

    fn reason(&self) -> Reason {
        if self.is_away() { Reason::LedgerUnavailable } else { Reason::LedgerRefused }
    }
}
