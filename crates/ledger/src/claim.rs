//! May this worker work on this event? The idempotency check.

use std::{collections::HashMap, time::Duration};

use domain::{Event, EventId, EventState, NamedRecord, Reason, WriteCommandId};
use uuid::Uuid;

use crate::{Ledger, LedgerError, UnusableAnswer, Worker, column::EVENT_STATE, decision, milliseconds, seconds};

/// An event that a worker asks to work on.
#[derive(Debug, Clone, Copy)]
pub struct ClaimRequest<'a> {
    /// The event.
    pub event: &'a Event,
    /// The copy of the event's message that was delivered.
    pub message_copy_id: Uuid,
    /// The trace that its message carries.
    pub trace_id: Option<&'a str>,
}

/// The ledger's answer to a [`ClaimRequest`].
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// The worker holds the event until its lease expires.
    Granted(Claimed),
    /// The worker must not work on the event.
    Denied(ClaimDenied),
}

/// Why an event must not be worked on.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimDenied {
    /// It has ended, in this state.
    Finished(EventState),
    /// It is parked.
    Parked {
        /// Whether it was parked under this copy of its message. Then the copy may not have reached the parking lot, nor the
        /// write commands their queue: a worker was killed in between. Any other copy is a duplicate.
        under_this_copy: bool,
        /// Its unfinished write commands.
        commands: Vec<WriteCommandId>,
    },
    /// It is decided. Its unfinished write commands may not have been published: they are to be published again.
    Decided(Vec<WriteCommandId>),
    /// It is about a record that was erased: nothing of it is stored.
    Erased,
    /// Another worker holds it, or the batch has it twice. The message is to come back later.
    LeasedElsewhere,
}

/// A claim on an event: until its lease expires, no other worker gets one.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The event's id.
    pub event_id: EventId,
    /// The number of this claim. A decision is refused when a later claim exists.
    pub attempt: i32,
    /// Unfinished write commands that were decided under earlier claims.
    pub commands: Vec<WriteCommandId>,
    /// Whether earlier claims decided any write command, finished or not: then the event has had an effect.
    pub was_decided: bool,
    /// For how long it has been on its way, without the time in which the whole fleet paused or the model of a playbook was
    /// away.
    pub age: Duration,
    /// Answers under earlier claims that cannot be used.
    pub unusable: Vec<UnusableAnswer>,
}

impl Ledger {
    /// Claims events for `worker`, each for the time of `lease`. Answers in the order of `requests`.
    ///
    /// A new event is inserted. An event that waits, or whose worker's lease expired, is taken over. One about a record that
    /// was erased is denied, whether the ledger has it or not.
    pub async fn claim(
        &self,
        requests: &[ClaimRequest<'_>],
        worker: &Worker,
        lease: Duration,
    ) -> Result<Vec<Claim>, LedgerError> {
        // Each key once, and in the order of keys, so that two batches that overlap do not deadlock.
        let mut unique: Vec<_> = requests.to_vec();
        unique.sort_by(|a, b| a.event.key.cmp(&b.event.key));
        unique.dedup_by(|a, b| a.event.key == b.event.key);
        let mut granted = self.take_over(&unique, worker, lease).await?;
        let mut denied = if granted.len() == unique.len() {
            HashMap::new()
        } else {
            let others = unique.iter().filter(|request| !granted.contains_key(request.event.key.as_str()));
            self.denied(&others.copied().collect::<Vec<_>>()).await?
        };
        let claim = |request: &ClaimRequest<'_>| {
            let key = request.event.key.as_str();
            match granted.remove(key) {
                Some(claimed) => Claim::Granted(claimed),
                None => Claim::Denied(denied.remove(key).unwrap_or(ClaimDenied::LeasedElsewhere)),
            }
        };
        Ok(requests.iter().map(claim).collect())
    }

    async fn take_over(
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
        let object_ids: Vec<_> = events().map(|event| event.record().object_id.0).collect();
        let properties: Vec<_> = events().map(|event| event.property_name.clone()).collect();
        let occurred: Vec<_> = events().map(|event| event.occurred_at).collect();
        let payloads: Vec<_> = events().map(|event| event.payload.json().to_owned()).collect();
        let named: Vec<_> = events().map(named_records).collect();
        let copies: Vec<_> = requests.iter().map(|request| request.message_copy_id).collect();
        let traces: Vec<_> = requests.iter().map(|request| request.trace_id.map(ToOwned::to_owned)).collect();
        let rows = sqlx::query!(
            r#"
            insert into event as e (id, event_key, portal_id, subscription_type, object_type, object_id,
                                    property_name, occurred_at, payload, trace_id, message_copy_id, associated,
                                    state, worker, lease_expires_at)
            select id, key, portal_id, subscription_type, object_type, object_id, property, occurred_at, payload::jsonb, trace_id,
                   copy_id, case when cardinality(named) > 1 then named end,
                   'claimed'::event_state, $12::text, now() + $13::float8 * interval '1 millisecond'
            from unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[],
                        $8::timestamptz[], $9::text[], $10::text[], $11::uuid[], $14::text[])
                     as input (id, key, portal_id, subscription_type, object_type, object_id, property, occurred_at,
                               payload, trace_id, copy_id, joined),
                 string_to_array(joined, e'\n') as named
            where not is_erased(portal_id, named, occurred_at)
            on conflict (event_key) do update
            set state = 'claimed', attempt = e.attempt + 1, worker = excluded.worker,
                lease_expires_at = excluded.lease_expires_at, reason = null, detail = null, due_at = null,
                playbook = null, message_copy_id = excluded.message_copy_id,
                age_since = case when e.state = 'waiting' and e.reason = any($15)
                                 then e.age_since + age_seconds(e.state_since) * interval '1 second'
                                 else e.age_since end
            where e.state = 'waiting' or (e.state = 'claimed' and e.lease_expires_at < now())
            returning e.id, e.event_key, e.attempt, e.unusable_answers,
                      exists (select from write_command c where c.event_id = e.id) as "was_decided!",
                      case when e.attempt > 1 then age_seconds(e.age_since) else 0 end as "age_seconds!"
            "#,
            &ids,
            &keys,
            &portals,
            &types,
            &object_types,
            &object_ids,
            &properties as &[Option<String>],
            &occurred,
            &payloads,
            &traces as &[Option<String>],
            &copies,
            worker.0,
            milliseconds(lease),
            &named,
            &[Reason::ModelPaused, Reason::GateClosed].map(|reason| reason.as_str().to_owned()),
        )
        .fetch_all(&self.connections)
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
                age: seconds(row.age_seconds),
                unusable: decision::unusable_answers(row.unusable_answers),
            };
            (row.event_key, claimed)
        });
        Ok(claimed.collect())
    }

    async fn denied(&self, requests: &[ClaimRequest<'_>]) -> Result<HashMap<String, ClaimDenied>, LedgerError> {
        let keys: Vec<_> = requests.iter().map(|request| request.event.key.to_string()).collect();
        let copies: Vec<_> = requests.iter().map(|request| request.message_copy_id).collect();
        let rows = sqlx::query!(
            r#"select e.id, e.event_key, e.state::text as "state!", e.message_copy_id = input.copy as "under_this_copy!"
               from unnest($1::text[], $2::uuid[]) as input (key, copy) join event e on e.event_key = input.key"#,
            &keys,
            &copies
        )
        .fetch_all(&self.connections)
        .await?;
        let erased = self.erased_among(requests).await?;
        let rows = rows.into_iter().map(|row| {
            Ok((row.id, row.event_key, EVENT_STATE.read(&row.state, EventState::parse)?, row.under_this_copy))
        });
        let rows: Vec<_> = rows.collect::<Result<_, LedgerError>>()?;
        let is_published = |state: EventState| matches!(state, EventState::Decided | EventState::Parked);
        let published: Vec<_> = rows.iter().filter(|row| is_published(row.2)).map(|row| row.0).collect();
        let mut commands =
            if published.is_empty() { HashMap::new() } else { self.unfinished_commands_of(&published).await? };
        let denied = rows.into_iter().map(|(id, key, state, under_this_copy)| {
            let denied = match state {
                EventState::Claimed | EventState::Waiting => ClaimDenied::LeasedElsewhere,
                EventState::Decided => ClaimDenied::Decided(commands.remove(&id).unwrap_or_default()),
                EventState::Parked => {
                    ClaimDenied::Parked { under_this_copy, commands: commands.remove(&id).unwrap_or_default() }
                }
                finished => ClaimDenied::Finished(finished),
            };
            (key, denied)
        });
        // Whatever the ledger still has of one: it is about to be erased.
        Ok(denied.chain(erased).collect())
    }

    /// Those events of which nothing is stored, because their record was erased.
    async fn erased_among(&self, requests: &[ClaimRequest<'_>]) -> Result<HashMap<String, ClaimDenied>, LedgerError> {
        let events = || requests.iter().map(|request| request.event);
        let erased = sqlx::query_scalar!(
            r#"select key as "key!"
               from unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[])
                        as input (key, portal_id, named, occurred_at)
               where is_erased(portal_id, string_to_array(named, e'\n'), occurred_at)"#,
            &events().map(|event| event.key.to_string()).collect::<Vec<_>>(),
            &events().map(|event| event.portal_id.0).collect::<Vec<_>>(),
            &events().map(named_records).collect::<Vec<_>>(),
            &events().map(|event| event.occurred_at).collect::<Vec<_>>(),
        )
        .fetch_all(&self.connections)
        .await?;
        Ok(erased.into_iter().map(|key| (key, ClaimDenied::Erased)).collect())
    }
}

/// The records that an event names, as the column `associated` has them, in one text: arrays of arrays must have one length
/// in Postgres.
fn named_records(event: &Event) -> String {
    let text = |NamedRecord { object_type, object_id }: NamedRecord| {
        format!("{}/{object_id}", object_type.as_ref().map_or("?", |known| known.type_id()))
    };
    event.named_records().into_iter().map(text).collect::<Vec<_>>().join("\n")
}
