//! "May I work on this event?" — the idempotency check.

use std::{collections::HashMap, time::Duration};

use domain::{Event, EventId, EventState, WriteCommand};
use uuid::Uuid;

use crate::{Ledger, LedgerError, Worker, milliseconds};

/// A wish to work on an event.
#[derive(Debug, Clone, Copy)]
pub struct ClaimRequest<'a> {
    /// The event.
    pub event: &'a Event,
    /// The trace it came with.
    pub trace_id: Option<&'a str>,
}

/// The ledger's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// Work on it.
    Granted(Claimed),
    /// Do not.
    Denied(ClaimDenied),
}

/// Why an event is not to be worked on.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimDenied {
    /// It has ended, in this state.
    Finished(EventState),
    /// It is parked; what was decided before that may not have been published: publish it (again).
    Parked(Vec<WriteCommand>),
    /// It is decided, but its write commands may not have been published: publish them (again).
    Decided(Vec<WriteCommand>),
    /// Another worker has it, or this batch asked for it twice. Come back later.
    LeasedElsewhere,
}

/// A right with an end: until the lease expires, nobody else works on the event.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The event's id.
    pub event_id: EventId,
    /// The claim's number: what is decided under it is refused once somebody else has taken over.
    pub attempt: i32,
    /// Unfinished write commands of answers under earlier claims.
    pub commands: Vec<WriteCommand>,
    /// Whether there were any under earlier claims, finished or not: then the event has an effect already.
    pub was_decided: bool,
}

impl Ledger {
    /// Claims events for `worker`, each until `lease` is over. Answers in the order of `requests`.
    ///
    /// A new event is inserted; one that waits, or whose worker's lease expired, is taken over.
    pub async fn claim(
        &self,
        requests: &[ClaimRequest<'_>],
        worker: &Worker,
        lease: Duration,
    ) -> Result<Vec<Claim>, LedgerError> {
        // Once per key, and in the order of keys: two batches that overlap must not wait for each other.
        let mut unique: Vec<_> = requests.to_vec();
        unique.sort_by(|a, b| a.event.key.cmp(&b.event.key));
        unique.dedup_by(|a, b| a.event.key == b.event.key);
        let mut mine = self.take(&unique, worker, lease).await?;
        let others: Vec<_> = unique.iter().map(|request| request.event.key.as_str()).collect();
        let mut known = if mine.len() == others.len() {
            HashMap::new()
        } else {
            self.duplicates(others.into_iter().filter(|key| !mine.contains_key(*key)).collect()).await?
        };
        let claim = |request: &ClaimRequest<'_>| {
            let key = request.event.key.as_str();
            match mine.remove(key) {
                Some(claimed) => Claim::Granted(claimed),
                None => Claim::Denied(known.remove(key).unwrap_or(ClaimDenied::LeasedElsewhere)),
            }
        };
        Ok(requests.iter().map(claim).collect())
    }

    async fn take(
        &self,
        requests: &[ClaimRequest<'_>],
        worker: &Worker,
        lease: Duration,
    ) -> Result<HashMap<String, Claimed>, LedgerError> {
        let events = || requests.iter().map(|request| request.event);
        let ids: Vec<Uuid> = requests.iter().map(|_| EventId::new().0).collect();
        let keys: Vec<_> = events().map(|event| event.key.to_string()).collect();
        let portals: Vec<_> = events().map(|event| event.portal_id.0).collect();
        let types: Vec<_> = events().map(Event::subscription_type).collect();
        let object_types: Vec<_> = events().map(|event| event.subject.object_type().type_id().to_owned()).collect();
        let object_ids: Vec<_> = events().map(|event| event.record().map(|record| record.object_id.0)).collect();
        let properties: Vec<_> = events().map(|event| event.property_name.clone()).collect();
        let occurred: Vec<_> = events().map(|event| event.occurred_at).collect();
        let payloads: Vec<_> = events().map(|event| event.payload.clone()).collect();
        let traces: Vec<_> = requests.iter().map(|request| request.trace_id.map(ToOwned::to_owned)).collect();
        let rows = sqlx::query!(
            r#"
            insert into event as e (id, event_key, portal_id, subscription_type, object_type, object_id,
                                    property_name, occurred_at, payload, trace_id,
                                    state, worker, lease_expires_at)
            select input.*, 'claimed'::event_state, $11::text, now() + $12::float8 * interval '1 millisecond'
            from unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[],
                        $8::timestamptz[], $9::jsonb[], $10::text[]) as input
            on conflict (event_key) do update
            set state = 'claimed', attempt = e.attempt + 1, worker = excluded.worker,
                lease_expires_at = excluded.lease_expires_at, reason = null, detail = null, due_at = null,
                playbook = null
            where e.state = 'waiting' or (e.state = 'claimed' and e.lease_expires_at < now())
            returning e.id, e.event_key, e.attempt,
                      exists (select from write_command c where c.event_id = e.id) as "was_decided!"
            "#,
            &ids,
            &keys,
            &portals,
            &types,
            &object_types,
            &object_ids as &[Option<i64>],
            &properties as &[Option<String>],
            &occurred,
            &payloads,
            &traces as &[Option<String>],
            worker.0,
            milliseconds(lease),
        )
        .fetch_all(&self.pool)
        .await?;
        let reclaimed: Vec<_> = rows.iter().filter(|row| row.attempt > 1).map(|row| row.id).collect();
        let mut commands =
            if reclaimed.is_empty() { HashMap::new() } else { self.unfinished_commands_of(&reclaimed).await? };
        let claimed = rows.into_iter().map(|row| {
            let claimed = Claimed {
                event_id: EventId(row.id),
                attempt: row.attempt,
                commands: commands.remove(&row.id).unwrap_or_default(),
                was_decided: row.was_decided,
            };
            (row.event_key, claimed)
        });
        Ok(claimed.collect())
    }

    async fn duplicates(&self, keys: Vec<&str>) -> Result<HashMap<String, ClaimDenied>, LedgerError> {
        let keys: Vec<_> = keys.into_iter().map(ToOwned::to_owned).collect();
        let rows = sqlx::query!(
            r#"select id, event_key, state::text as "state!" from event where event_key = any($1::text[])"#,
            &keys
        )
        .fetch_all(&self.pool)
        .await?;
        let published = rows.iter().filter(|row| ["decided", "parked"].contains(&row.state.as_str()));
        let published: Vec<_> = published.map(|row| row.id).collect();
        let mut commands =
            if published.is_empty() { HashMap::new() } else { self.unfinished_commands_of(&published).await? };
        let mut duplicates = HashMap::new();
        for row in rows {
            let state = EventState::parse(&row.state)
                .ok_or_else(|| LedgerError::Unreadable(format!("event state `{}`", row.state)))?;
            let duplicate = match state {
                EventState::Claimed | EventState::Waiting => ClaimDenied::LeasedElsewhere,
                EventState::Decided => ClaimDenied::Decided(commands.remove(&row.id).unwrap_or_default()),
                EventState::Parked => ClaimDenied::Parked(commands.remove(&row.id).unwrap_or_default()),
                done => ClaimDenied::Finished(done),
            };
            duplicates.insert(row.event_key, duplicate);
        }
        Ok(duplicates)
    }
}
