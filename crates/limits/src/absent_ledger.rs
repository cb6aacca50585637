//! For tests: a ledger that is away.

use std::time::Duration;

use ledger::{Ledger, LedgerSettings, PoolMode};

/// Nothing listens where it should be.
pub fn absent_ledger() -> Ledger {
    Ledger::connect(&LedgerSettings {
        url: "postgres://nobody@127.0.0.1:1/nothing".to_owned().into(),
        application_name: "tests".to_owned(),
        max_connections: 1,
        acquire_timeout: Duration::from_millis(10),
        statement_timeout: Duration::from_secs(1),
        pool_mode: PoolMode::Session,
    })
    .expect("a URL")
}
