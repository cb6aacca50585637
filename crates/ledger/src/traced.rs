//! What the ledger is asked, as a part of the traces of those who ask.

use std::future::Future;

use retry::Failure;
use spans::calls::{self, Statements};
use tracing::Instrument;

use crate::{Ledger, LedgerError};

impl Ledger {
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
        let options = self.connections.connect_options();
        let database = options.get_database();
        let statements = Statements { summary, batch, database, server: Some(&self.server) };
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
