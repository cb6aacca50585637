//! What the ledger is asked, as a part of the traces of those who ask.

use std::future::Future;

use retry::Failure;
use spans::{
    Server,
    calls::{self, Statements},
};
use sqlx::postgres::PgConnectOptions;
use tracing::Instrument;

use crate::{LEDGER_RETRY, Ledger, LedgerError};

/// Where the ledger is. It stays there while a process runs: another URL may name another user and password alone.
#[derive(Debug)]
pub(crate) struct Place {
    server: Server,
    database: Option<String>,
}

impl Place {
    pub(crate) fn of(options: &PgConnectOptions) -> Self {
        let server = Server { address: options.get_host().to_owned(), port: options.get_port() };
        Self { server, database: options.get_database().map(ToOwned::to_owned) }
    }
}

impl Ledger {
    /// Makes a call that may be repeated until the ledger answers, as [`LEDGER_RETRY`] says. Each attempt is a span, as in
    /// [`Ledger::traced`].
    ///
    /// # Errors
    /// Those of the last attempt.
    pub async fn traced_until_answered<T, Work>(
        &self,
        summary: &'static str,
        batch: usize,
        call: impl Fn() -> Work,
    ) -> Result<T, LedgerError>
    where
        Work: Future<Output = Result<T, LedgerError>>,
    {
        retry::run(&LEDGER_RETRY, || self.traced(summary, batch, call())).await
    }

    /// Makes `work` a span of the current trace: statements that are called `summary`, for so many events, commands or records. In
    /// no trace it is only `work`.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn traced<T>(
        &self,
        summary: &'static str,
        batch: usize,
        work: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let Place { server, database } = &*self.place;
        let statements = Statements { summary, batch, database: database.as_deref(), server: Some(server) };
        let span = calls::statements(&statements);
        let result = work.instrument(span.clone()).await;
        if let Err(error) = &result {
            spans::fail(&span, error.reason().as_str());
            if let Some(code) = error.code() {
                calls::refused(&span, &code);
            }
        }
        result
    }
}
