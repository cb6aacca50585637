//! The errors of the ledger, and what each asks for.

use retry::{Failure, Reason, RetryAction};

/// What can go wrong with the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Postgres rejected a statement, or cannot be reached.
    #[error("ledger: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("ledger migration: {0}")]
    Migration(sqlx::migrate::MigrateError),
    /// The schema lacks migrations that this binary needs.
    #[error("the ledger has migrations {applied:?}, this binary needs {expected:?}; run `leadline migrate`")]
    Schema {
        /// The migrations that are compiled into this binary.
        expected: Vec<i64>,
        /// The migrations that the database has.
        applied: Vec<i64>,
    },
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

impl LedgerError {
    /// Whether the database cannot be reached or is overloaded, so that the same statement may succeed later.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => {
                // Classes 08 connection, 40 rolled back, 53 out of resources, 57 stopped by an operator.
                error.code().is_some_and(|code| ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)))
            }
            Self::Database(
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed,
            ) => true,
            _ => false,
        }
    }
}

impl Failure for LedgerError {
    fn retry_action(&self) -> RetryAction {
        if self.is_away() { RetryAction::RetryNow { after: None } } else { RetryAction::RetryLater { after: None } }
    }

    fn reason(&self) -> Reason {
        if self.is_away() { Reason::LedgerUnavailable } else { Reason::LedgerRefused }
    }
}
