//! Which answers are stored? Inferences with their prompts and answers.

use std::collections::HashMap;

use domain::{EventId, Inference, RecordRef, model::ServiceTier};
use serde_json::Value;
use sqlx::types::Json;

use crate::{
    Ledger, LedgerError,
    charges::{SettledCharge, settle_charges},
    connections::Transaction,
};

/// What the model was asked and said about one part of a context that was too long for one question.
#[derive(Debug, Clone)]
pub struct CondensedPartTexts {
    /// The messages as sent.
    pub prompt: serde_json::Value,
    /// The summary as received.
    pub answer: String,
}

impl Ledger {
    /// The answers of a playbook about those parts of a record's context that it was asked about before, for whichever event,
    /// by the part's hash.
    pub async fn condensed_parts(
        &self,
        record: &RecordRef,
        playbook: &str,
        hashes: &[String],
    ) -> Result<HashMap<String, String>, LedgerError> {
        let rows = sqlx::query!(
            r#"select i.part as "part!", r.answer
               from inference i join inference_raw r on r.inference_id = i.id and r.created_at = i.created_at
               where i.part = any($5::text[]) and i.outcome = 'valid' and i.playbook = $4
                 and i.portal_id = $1 and i.object_type = $2 and i.object_id = $3"#,
            record.portal_id.0,
            record.object_type.type_id(),
            record.object_id.0,
            playbook,
            hashes,
        )
        .fetch_all(&self.connections)
        .await?;
        Ok(rows.into_iter().map(|row| (row.part, row.answer)).collect())
    }

    /// The parts that were condensed for questions of `playbook` about the record of that type and id in the event's portal,
    /// for this event or another one: the newest `limit` that are not deleted.
    pub async fn condensed_part_texts(
        &self,
        event: EventId,
        playbook: &str,
        (object_type, object_id): (&str, i64),
        limit: i64,
    ) -> Result<Vec<CondensedPartTexts>, LedgerError> {
        Ok(sqlx::query_as!(
            CondensedPartTexts,
            r#"select r.prompt as "prompt!", r.answer as "answer!"
               from inference i join inference_raw r on r.inference_id = i.id and r.created_at = i.created_at
               where i.part is not null and i.outcome = 'valid' and i.playbook = $2 and i.object_type = $3
                 and i.object_id = $4 and i.portal_id = (select portal_id from event where id = $1)
               order by i.created_at desc limit $5"#,
            event.0,
            playbook,
            object_type,
            object_id,
            limit
        )
        .fetch_all(&self.connections)
        .await?)
    }

    /// Stores an answer before the decision, so that it is not lost when the worker dies, and settles the `charges` of its
    /// requests. Returns `false`, and stores no answer, when another worker has claimed the event since.
    pub async fn store_inference(
        &self,
        event_id: EventId,
        attempt: i32,
        inference: &Inference,
        charges: &[SettledCharge],
    ) -> Result<bool, LedgerError> {
        let mut transaction = self.connections.begin().await?;
        settle_charges(&mut transaction, charges).await?;
        let holds_claim = sqlx::query_scalar!(
            r#"select true as "holds_claim!" from event where id = $1 and attempt = $2 and state = 'claimed' for share"#,
            event_id.0,
            attempt
        )
        .fetch_optional(&mut transaction)
        .await?
        .is_some();
        if holds_claim {
            insert_inferences(&mut transaction, &[ClaimedInference { event_id, attempt, inference }]).await?;
        }
        transaction.commit().await?;
        Ok(holds_claim)
    }
}

/// An inference with the claim under which it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClaimedInference<'a> {
    pub(crate) event_id: EventId,
    pub(crate) attempt: i32,
    pub(crate) inference: &'a Inference,
}

pub(crate) async fn insert_inferences(
    transaction: &mut Transaction,
    all: &[ClaimedInference<'_>],
) -> Result<(), LedgerError> {
    if all.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($inference:ident => $value:expr) => {
            all.iter().map(|ClaimedInference { inference: $inference, .. }| $value).collect::<Vec<_>>()
        };
    }
    let events: Vec<_> = all.iter().map(|item| item.event_id.0).collect();
    let attempts: Vec<_> = all.iter().map(|item| item.attempt).collect();
    // The arrays of an array must have one length in Postgres, so a list of names travels as one text.
    let unverified = column!(inference => inference.unverified.join(" "));
    let read = || all.iter().flat_map(|item| item.inference.read.iter().map(|read| (item.inference.id.0, read)));
    sqlx::query!(
        "with input as (select * from unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[],
                              $8::jsonb[], $9::text[], $10::text[], $11::jsonb[], $12::bigint[], $13::bigint[],
                     $14::bigint[], $15::bigint[], $16::bigint[], $17::text[], $18::bigint[], $19::text[],
                     $20::bigint[], $21::text[], $22::text[], $23::text[], $28::text[])
              as input (id, event_id, attempt, playbook, version, requested, model, prompt, answer, outcome, fields,
                        tokens, cached, completion, cost, latency, request_id, portal_id, object_type, object_id, part,
                        context_hash, unverified, service_tier)
         ), inserted as (
             insert into inference (id, event_id, attempt, playbook, playbook_version, model_requested, model, outcome,
                                    fields, prompt_tokens, cached_tokens, completion_tokens, cost_micro_dollars,
                                    latency_ms, request_id, portal_id, object_type, object_id, part, context_hash,
                                    unverified, service_tier)
             select id, event_id, attempt, playbook, version, requested, model, outcome, fields, tokens, cached,
                    completion, cost, latency, request_id, portal_id, object_type, object_id, part, context_hash,
                    array_remove(string_to_array(unverified, ' '), ''), service_tier
             from input
             on conflict (event_id, playbook, playbook_version, portal_id, object_type, object_id, coalesce(part, ''))
                 where outcome = 'valid' and object_id <> 0 do nothing
             returning id, created_at, portal_id
         ), read as (
             insert into inference_record (inference_id, created_at, portal_id, object_type, object_id, is_own)
             select inserted.id, inserted.created_at, inserted.portal_id, read.object_type, read.object_id, read.is_own
             from unnest($24::uuid[], $25::text[], $26::bigint[], $27::boolean[])
                      as read (inference_id, object_type, object_id, is_own)
             join inserted on inserted.id = read.inference_id
         )
         insert into inference_raw (inference_id, created_at, prompt, answer)
         select inserted.id, inserted.created_at, input.prompt, input.answer from inserted join input using (id)",
        &column!(inference => inference.id.0),
        &events,
        &attempts,
        &column!(inference => inference.playbook.as_str()) as &[&str],
        &column!(inference => inference.playbook_version.as_str()) as &[&str],
        &column!(inference => inference.model_requested.as_str()) as &[&str],
        &column!(inference => inference.model.as_str()) as &[&str],
        &column!(inference => Json(&inference.prompt)) as &[Json<&Value>],
        // A text column cannot hold U+0000, and an answer can contain it.
        &column!(inference => inference.answer.replace('\0', "\u{fffd}")),
        &column!(inference => inference.outcome.as_str()) as &[&str],
        &column!(inference => Json(&inference.fields)) as &[Json<&Value>],
        &column!(inference => inference.usage.prompt_tokens),
        &column!(inference => inference.usage.cached_tokens),
        &column!(inference => inference.usage.completion_tokens),
        &column!(inference => inference.cost_micro_dollars) as &[Option<i64>],
        &column!(inference => i64::try_from(inference.latency.as_millis()).unwrap_or(i64::MAX)),
        &column!(inference => inference.request_id.as_deref()) as &[Option<&str>],
        &column!(inference => inference.record.portal_id.0),
        &column!(inference => inference.record.object_type.type_id()) as &[&str],
        &column!(inference => inference.record.object_id.0),
        &column!(inference => inference.part.as_deref()) as &[Option<&str>],
        &column!(inference => inference.context_hash.as_deref()) as &[Option<&str>],
        &unverified,
        &read().map(|(id, _)| id).collect::<Vec<_>>(),
        &read().map(|(_, read)| read.object_type.type_id().to_owned()).collect::<Vec<_>>(),
        &read().map(|(_, read)| read.object_id.0).collect::<Vec<_>>(),
        &read().map(|(_, read)| read.is_own).collect::<Vec<_>>(),
        &column!(inference => inference.service_tier.map(ServiceTier::as_str)) as &[Option<&str>],
    )
    .execute(&mut *transaction)
    .await?;
    Ok(())
}
