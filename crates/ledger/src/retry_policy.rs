//! How long a worker repeats a statement while Postgres is away, before its message goes to a retry queue.

use std::time::Duration;

use retry::RetryPolicy;

/// For every statement that can be repeated at no cost: about half a minute, which covers a restart of Postgres.
pub const LEDGER_RETRY: RetryPolicy =
    RetryPolicy { attempts: 20, base_delay: Duration::from_millis(50), max_delay: Duration::from_secs(2) };

/// For statements that commit what was paid for: about a minute and a half.
pub const COMMIT_RETRY: RetryPolicy = RetryPolicy { attempts: 60, ..LEDGER_RETRY };
