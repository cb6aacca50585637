//! What was answered already? Asked before money is spent.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use domain::{EventId, EventKey, InferenceId, RecordRef};
use serde::Deserialize;
use serde_json::{Map, Value};
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Ledger, LedgerError, milliseconds, records::columns};

/// An event and one of the records that it concerns.
#[derive(Debug, Clone)]
pub struct PriorAnswersRequest {
    /// The event.
    pub event_id: EventId,
    /// When it happened. With the key, this is its place in the order of events.
    pub occurred_at: OffsetDateTime,
    /// Its key.
    pub event_key: EventKey,
    /// The record.
    pub record: RecordRef,
}

/// What the playbooks have answered about an event and a record, and about newer events of the record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriorAnswers {
    /// Whether the record was erased after the event.
    pub is_erased: bool,
    /// By playbook: its answer for this event and record under an earlier claim. It is not paid for again.
    pub answered: HashMap<String, PriorAnswer>,
    /// Playbooks that have answered a newer event of the record, so that an answer for this event would be out of date.
    /// An answer from which no plan could be made replaces nothing.
    pub answered_newer: HashSet<String>,
    /// Unfinished newer events of the record, as HubSpot sent them, the newest first; at most five.
    pub newer_waiting: Vec<serde_json::Value>,
    /// By playbook: the hashes of the contexts that are not asked about again, if the answers are not older than asked for: of its last
    /// answer about the record, and of those of which something was undone.
    pub known_contexts: HashMap<String, HashSet<String>>,
}

/// A valid answer of an earlier claim.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PriorAnswer {
    /// The inference.
    pub inference_id: InferenceId,
    /// The dated snapshot of the model that answered.
    pub model: String,
    /// The fields as the model answered them; `None` after they were erased.
    pub fields: Option<Map<String, Value>>,
    /// Fields whose quotation was not found.
    pub unverified: Vec<String>,
    /// Whether write commands followed from it. Otherwise nothing was intended, or no plan could be made.
    pub has_commands: bool,
}

impl Ledger {
    /// The prior answers about events and records, in the order of `requests`. The known contexts of a playbook are given
    /// while they are at most `context_age` old.
    pub async fn prior_answers(
        &self,
        requests: &[PriorAnswersRequest],
        context_age: Duration,
    ) -> Result<Vec<PriorAnswers>, LedgerError> {
        let records: Vec<_> = requests.iter().map(|request| request.record.clone()).collect();
        let (portals, types, ids) = columns(&records);
        let rows = sqlx::query!(
            r#"select is_erased(input.portal_id, array[input.object_type || '/' || input.object_id], input.occurred_at) as "is_erased!",
                      coalesce((select jsonb_object_agg(prior.playbook, prior.answer)
                                from (select distinct on (i.playbook) i.playbook,
                                             jsonb_build_object('inference_id', i.id, 'model', i.model, 'fields', i.fields,
                                                 'unverified', i.unverified, 'has_commands', has_commands) as answer
                                      from inference i
                                      cross join lateral (select exists (
                                          select from write_command c
                                          where c.event_id = i.event_id and c.inference_id = i.id) as has_commands) as c
                                      where i.event_id = input.event_id and i.outcome = 'valid' and i.part is null
                                        and (i.portal_id, i.object_type, i.object_id)
                                            = (input.portal_id, input.object_type, input.object_id)
                                      order by i.playbook, has_commands desc, i.created_at desc) as prior), '{}'::jsonb)
                          as "answered!: Json<HashMap<String, PriorAnswer>>",
                      array(select distinct i.playbook
                            from inference i join event newer on newer.id = i.event_id
                            where i.outcome = 'valid' and i.part is null
                              and (i.context_hash is not null
                                   or exists (select from write_command c
                                              where c.event_id = i.event_id and c.inference_id = i.id))
                              and (i.portal_id, i.object_type, i.object_id)
                                  = (input.portal_id, input.object_type, input.object_id)
                              and (newer.occurred_at, newer.event_key collate "C")
                                  > (input.occurred_at, input.event_key collate "C"))
                          as "newer!",
                      -- By the index of records. Those of unfinished events look shorter to Postgres, because what it knows about
                      -- them was true at another moment. Behind a hundred newer ones the answer to one of those is found above.
                      array(select newer.payload
                            from (select e.payload, e.occurred_at, e.finished_at from event e
                                  where (e.portal_id, e.object_type, e.object_id)
                                        = (input.portal_id, input.object_type, input.object_id)
                                    and e.occurred_at >= input.occurred_at
                                    and (e.occurred_at, e.event_key collate "C")
                                        > (input.occurred_at, input.event_key collate "C")
                                  order by e.occurred_at desc limit 100) as newer
                            where newer.finished_at is null
                            order by newer.occurred_at desc limit 5) as "newer_waiting!",
                      coalesce((select jsonb_object_agg(known.playbook, known.hashes)
                                from (select valid.playbook, jsonb_agg(distinct valid.context_hash) as hashes
                                      from (select i.playbook, i.context_hash, i.id,
                                                   row_number() over (partition by i.playbook order by i.created_at desc) = 1
                                                       as is_last
                                            from inference i
                                            where i.outcome = 'valid' and i.part is null
                                              and (i.portal_id, i.object_type, i.object_id)
                                                  = (input.portal_id, input.object_type, input.object_id)
                                              and i.created_at > now() - $7::float8 * interval '1 millisecond') as valid
                                      where valid.context_hash is not null
                                        and (valid.is_last
                                             or exists (select from write_command c
                                                        where c.inference_id = valid.id
                                                          and (c.undo_id is not null
                                                               or exists (select from undone_write u
                                                                          where u.write_command_id = c.id))))
                                      group by valid.playbook) as known), '{}'::jsonb)
                          as "known_contexts!: Json<HashMap<String, HashSet<String>>>"
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
        .fetch_all(&self.connections)
        .await?;
        let prior_answers = rows.into_iter().map(|row| PriorAnswers {
            is_erased: row.is_erased,
            answered: row.answered.0,
            answered_newer: row.newer.into_iter().collect(),
            newer_waiting: row.newer_waiting,
            known_contexts: row.known_contexts.0,
        });
        Ok(prior_answers.collect())
    }
}
