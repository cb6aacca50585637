//! How long the writer waits for Postgres.

use std::time::Duration;

use retry::RetryPolicy;

/// A statement is tried again for about half a minute: while Postgres restarts, a batch waits here and not in the retry
/// queues.
pub const LEDGER_RETRY: RetryPolicy =
    RetryPolicy { attempts: 20, base_delay: Duration::from_millis(50), max_delay: Duration::from_secs(2) };
