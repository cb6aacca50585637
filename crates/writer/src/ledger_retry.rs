//! How long the writer waits for Postgres.

use std::time::Duration;

use retry::Policy;

/// A statement is tried again for about half a minute: while Postgres restarts, a batch waits here and not in the retry
/// queues.
pub const LEDGER_RETRY: Policy = Policy { attempts: 20, base: Duration::from_millis(50), cap: Duration::from_secs(2) };
