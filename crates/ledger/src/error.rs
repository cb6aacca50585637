use retry::{Failure, Reason, RetryAction};

/// What can go wrong with the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A statement, or the way to the database.
    #[error("ledger: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("ledger migration: {0}")]
    Migration(sqlx::migrate::MigrateError),
    /// The schema lacks what this binary needs.
    #[error("the ledger has migrations {applied:?}, this binary needs {expected:?}; run `leadline migrate`")]
    Schema {
        /// What this binary knows.
        expected: Vec<i64>,
        /// What the database has.
        applied: Vec<i64>,
    },
    /// Something is stored that this binary does not understand.
    #[error("the ledger holds something unreadable: {0}")]
    Unreadable(String),
}

impl LedgerError {
    /// Whether the database is away (or too busy), rather than unwilling.
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
