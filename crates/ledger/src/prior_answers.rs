//! "What was answered already?" — asked before money is spent.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use domain::{EventId, EventKey, Inference, RecordRef};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Ledger, LedgerError,
    decision::{Answered, insert_inferences},
    milliseconds,
    records::columns,
};

/// An event and one of the records that it concerns.
#[derive(Debug, Clone)]
pub struct PriorAnswersRequest {
    /// The event.
    pub event_id: EventId,
    /// When it happened; with the key, its place in the order of events.
    pub occurred_at: OffsetDateTime,
    /// Its key.
    pub event_key: EventKey,
    /// The record.
    pub record: RecordRef,
}

/// Where the playbooks stand with an event and a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriorAnswers {
    /// Playbooks that answered for this event and record under an earlier claim; they are not asked (and paid) again.
    pub answered: HashSet<String>,
    /// Playbooks that have answered a newer event of the record: what this one asks them is pointless.
    pub answered_newer: HashSet<String>,
    /// Newer events of the record that are not finished, as HubSpot sent them, the newest first; a handful at most.
    pub newer_waiting: Vec<serde_json::Value>,
    /// The hash of the context that each playbook last answered about for the record, if that is not long ago.
    pub last_context: HashMap<String, String>,
}

impl Ledger {
    /// Where the playbooks stand with events and records, in the order of `requests`.
    /// Contexts count for `context_age`.
    pub async fn prior_answers(
        &self,
        requests: &[PriorAnswersRequest],
        context_age: Duration,
    ) -> Result<Vec<PriorAnswers>, LedgerError> {
        let records: Vec<_> = requests.iter().map(|request| request.record.clone()).collect();
        let (portals, types, ids) = columns(&records);
        let rows = sqlx::query!(
            r#"select array(select i.playbook from inference i
                            where i.event_id = input.event_id and i.outcome = 'valid' and i.part is null
                              and (i.portal_id, i.object_type, i.object_id)
                                  = (input.portal_id, input.object_type, input.object_id)) as "answered!",
                      array(select distinct i.playbook
                            from inference i join event newer on newer.id = i.event_id
                            where i.outcome = 'valid' and i.part is null
                              and (i.portal_id, i.object_type, i.object_id)
                                  = (input.portal_id, input.object_type, input.object_id)
                              and (newer.occurred_at, newer.event_key collate "C")
                                  > (input.occurred_at, input.event_key collate "C"))
                          as "newer!",
                      array(select newer.payload from event newer
                            where newer.finished_at is null
                              and (newer.portal_id, newer.object_type, newer.object_id)
                                  = (input.portal_id, input.object_type, input.object_id)
                              and newer.occurred_at >= input.occurred_at
                              and (newer.occurred_at, newer.event_key collate "C")
                                  > (input.occurred_at, input.event_key collate "C")
                            order by newer.occurred_at desc limit 5) as "newer_waiting!",
                      coalesce((select jsonb_object_agg(last.playbook, last.context_hash)
                                from (select distinct on (i.playbook) i.playbook, i.context_hash from inference i
                                      where i.outcome = 'valid' and i.part is null
                                        and (i.portal_id, i.object_type, i.object_id)
                                            = (input.portal_id, input.object_type, input.object_id)
                                        and i.created_at > now() - $7::float8 * interval '1 millisecond'
                                      order by i.playbook, i.created_at desc) as last
                                where last.context_hash is not null), '{}'::jsonb) as "last_context!"
               from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::bigint[], $5::text[], $6::bigint[])
                    with ordinality as input (event_id, occurred_at, event_key, portal_id, object_type, object_id, n)
               order by input.n"#,
            &requests.iter().map(|request| request.event_id.0).collect::<Vec<Uuid>>(),
            &requests.iter().map(|request| request.occurred_at).collect::<Vec<_>>(),
            &requests.iter().map(|request| request.event_key.to_string()).collect::<Vec<_>>(),
            &portals,
            &types,
            &ids,
            milliseconds(context_age),
        )
        .fetch_all(&self.pool)
        .await?;
        let prior_answers = rows.into_iter().map(|row| {
            let last_context = serde_json::from_value(row.last_context)
                .map_err(|error| LedgerError::Unreadable(format!("context hashes: {error}")))?;
            Ok(PriorAnswers {
                answered: row.answered.into_iter().collect(),
                answered_newer: row.newer.into_iter().collect(),
                newer_waiting: row.newer_waiting,
                last_context,
            })
        });
        prior_answers.collect()
    }

    /// What became of the parts of a context that was too long for one question, by the part's hash.
    pub async fn condensed_parts(
        &self,
        event_id: EventId,
        playbook: &str,
    ) -> Result<HashMap<String, String>, LedgerError> {
        let rows = sqlx::query!(
            r#"select i.part as "part!", r.answer
               from inference i join inference_raw r on r.inference_id = i.id and r.created_at = i.created_at
               where i.event_id = $1 and i.playbook = $2 and i.outcome = 'valid' and i.part is not null"#,
            event_id.0,
            playbook
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.part, row.answer)).collect())
    }

    /// Stores an answer under a claim, at once: a worker that dies later has not lost it. Says whether the claim still
    /// held.
    pub async fn store_inference(
        &self,
        event_id: EventId,
        attempt: i32,
        inference: &Inference,
    ) -> Result<bool, LedgerError> {
        let mut transaction = self.pool.begin().await?;
        let held = sqlx::query_scalar!(
            r#"select true as "held!" from event where id = $1 and attempt = $2 and state = 'claimed' for share"#,
            event_id.0,
            attempt
        )
        .fetch_optional(&mut *transaction)
        .await?
        .is_some();
        if held {
            insert_inferences(&mut transaction, &[Answered { event_id, attempt, inference }]).await?;
        }
        transaction.commit().await?;
        Ok(held)
    }
}
