//! Is a credential rejected, or is one worker mistaken about it? What the workers that have it say of it to each other.
//!
//! A worker that is rejected notes it and pauses by itself. Another one with the same credential looks whether it works. The
//! circuit opens for all of them when two are rejected, or one is rejected twice, and it works for no other.

use std::time::Duration;

use domain::{Circuit, Reason};

use crate::{Ledger, LedgerError, Worker, circuit_breakers::Key, milliseconds, stored_detail};

/// A rejection of a credential, as one worker met it.
#[derive(Debug, Clone, Copy)]
pub struct CredentialRejection<'a> {
    /// Why.
    pub reason: Reason,
    /// The reason in words.
    pub detail: &'a str,
    /// Whether the worker was rejected before, and has looked again.
    pub is_repeated: bool,
    /// For how long it counts what workers have said.
    pub counts_for: Duration,
}

impl Ledger {
    /// Notes that a worker's credential was rejected. Returns whether that is confirmed, so that the circuit has to be opened. What is
    /// open stays as it is.
    pub async fn note_rejected_credential(
        &self,
        credential: &Circuit,
        rejection: CredentialRejection<'_>,
        worker: &Worker,
    ) -> Result<bool, LedgerError> {
        let key = Key::from(credential);
        let confirmed = sqlx::query_scalar!(
            r#"insert into circuit_breaker as c (dependency, credential, state, reason, detail, worker, rejected_by)
               values ($1, $2, 'closed', $3, $4, $5, array[$5])
               on conflict (dependency, credential, playbook, playbook_version, model) do update
               set reason = excluded.reason, detail = excluded.detail, worker = excluded.worker,
                   changed_at = clock_timestamp(), accepted_by = nullif(c.accepted_by, excluded.worker),
                   rejected_by = case when c.changed_at < clock_timestamp() - $6::float8 * interval '1 millisecond'
                                      then excluded.rejected_by
                                      else array_remove(c.rejected_by, excluded.worker) || excluded.rejected_by end
               where c.state <> 'open'
               returning (cardinality(rejected_by) > 1 or $7)
                         and (accepted_by is null
                              or accepted_at < clock_timestamp() - $6::float8 * interval '1 millisecond') as "confirmed!""#,
            key.dependency,
            key.credential,
            rejection.reason.as_str(),
            stored_detail(rejection.detail),
            worker.0,
            milliseconds(rejection.counts_for),
            rejection.is_repeated,
        )
        .fetch_optional(&self.connections)
        .await?;
        Ok(confirmed.unwrap_or(false))
    }

    /// Notes that a credential works for this worker, although it was rejected.
    pub async fn note_accepted_credential(&self, credential: &Circuit, worker: &Worker) -> Result<(), LedgerError> {
        let key = Key::from(credential);
        sqlx::query!(
            "update circuit_breaker
             set rejected_by = array_remove(rejected_by, $3), accepted_by = $3, accepted_at = clock_timestamp()
             where (dependency, credential) = ($1, $2) and playbook = '' and state <> 'open' and rejected_by <> '{}'",
            key.dependency,
            key.credential,
            worker.0,
        )
        .execute(&self.connections)
        .await?;
        Ok(())
    }

    /// Notes that this worker goes on with another credential while `rejected` is: the fleet does not pause, and events grow older. Its
    /// last call was accepted so long ago; that was before, if the circuit was opened later.
    pub async fn note_other_credential(
        &self,
        rejected: &Circuit,
        worker: &Worker,
        accepted_ago: Duration,
    ) -> Result<(), LedgerError> {
        let key = Key::from(rejected);
        sqlx::query!(
            "update circuit_breaker set accepted_by = $3, accepted_at = clock_timestamp()
             where (dependency, credential) = ($1, $2) and playbook = '' and state = 'open' and accepted_by is null
               and changed_at < clock_timestamp() - $4::float8 * interval '1 millisecond'",
            key.dependency,
            key.credential,
            worker.0,
            milliseconds(accepted_ago),
        )
        .execute(&self.connections)
        .await?;
        Ok(())
    }

    /// Takes the task to look whether a credential works that was rejected for others, for the time of `lease` at most. Returns `true` to
    /// one worker, and again when what it said does not count for much longer.
    pub async fn take_credential_check(
        &self,
        credential: &Circuit,
        worker: &Worker,
        counts_for: Duration,
        lease: Duration,
    ) -> Result<bool, LedgerError> {
        let key = Key::from(credential);
        let taken = sqlx::query!(
            "update circuit_breaker set due_at = clock_timestamp() + $5 * interval '1 millisecond'
             where (dependency, credential) = ($1, $2) and playbook = '' and state = 'closed'
               and rejected_by <> '{}' and not rejected_by @> array[$3]
               and changed_at > clock_timestamp() - $4::float8 * interval '1 millisecond'
               and (accepted_by is null or accepted_at < clock_timestamp() - $4::float8 / 2 * interval '1 millisecond')
               and (due_at is null or due_at <= clock_timestamp())",
            key.dependency,
            key.credential,
            worker.0,
            milliseconds(counts_for),
            milliseconds(lease),
        )
        .execute(&self.connections)
        .await?;
        Ok(taken.rows_affected() == 1)
    }
}
