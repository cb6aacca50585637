//! Is it this worker's turn? Tasks that one worker of the fleet does at a time.

use std::time::Duration;

use crate::{Ledger, LedgerError, Worker, milliseconds};

impl Ledger {
    /// Acquires the lease on the task `name` for the time of `lease`. Returns `false` while a lease on it has not expired,
    /// also one of the same worker: a lease is not given back, so the task is done once within its time.
    pub async fn acquire_singleton_lease(
        &self,
        name: &str,
        worker: &Worker,
        lease: Duration,
    ) -> Result<bool, LedgerError> {
        let acquired = sqlx::query!(
            "insert into singleton_lease as l (name, holder, expires_at)
             values ($1, $2, clock_timestamp() + $3 * interval '1 millisecond')
             on conflict (name) do update set holder = excluded.holder, expires_at = excluded.expires_at
             where l.expires_at < clock_timestamp()",
            name,
            worker.0,
            milliseconds(lease),
        )
        .execute(&self.connections)
        .await?;
        Ok(acquired.rows_affected() == 1)
    }
}
