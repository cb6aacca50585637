//! "This is what became of the event." — state, history, inferences and write commands in one transaction.

use std::collections::HashSet;

use domain::{EventId, EventState, Inference, WriteCommand};
use uuid::Uuid;

use crate::{Ledger, LedgerError};

/// What a worker decided about an event that it had claimed.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The event.
    pub event_id: EventId,
    /// The claim's number; after a take-over it no longer holds, and nothing is committed.
    pub attempt: i32,
    /// Where the event goes.
    pub state: EventState,
    /// Why, in `snake_case`.
    pub reason: Option<String>,
    /// Why, in words.
    pub detail: Option<String>,
    /// What was asked and answered under this claim, good or bad: it was paid for.
    pub inferences: Vec<Inference>,
    /// What is to be written.
    pub commands: Vec<WriteCommand>,
}

impl Ledger {
    /// Commits decisions. Says for each, in order, whether it counted: not, when the lease had expired and somebody
    /// else has taken the event over.
    pub async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<bool>, LedgerError> {
        let mut transaction = self.pool.begin().await?;
        let ids: Vec<_> = settlements.iter().map(|settlement| settlement.event_id.0).collect();
        let attempts: Vec<_> = settlements.iter().map(|settlement| settlement.attempt).collect();
        let states: Vec<_> = settlements.iter().map(|settlement| settlement.state.to_string()).collect();
        let reasons: Vec<_> = settlements.iter().map(|settlement| settlement.reason.clone()).collect();
        let details: Vec<_> = settlements.iter().map(|settlement| settlement.detail.clone()).collect();
        // Rows are locked in the order of ids, here and wherever several events change at once.
        let counted = sqlx::query_scalar!(
            "with input as (
                 select * from unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[])
                     as input (id, attempt, state, reason, detail)
             ), locked as (
                 select e.id from event e join input using (id)
                 where e.attempt = input.attempt and e.state = 'claimed' order by e.id for update of e
             )
             update event e
             set state = input.state::event_state, reason = input.reason, detail = input.detail,
                 lease_expires_at = null
             from locked join input using (id) where e.id = locked.id
             returning e.id",
            &ids,
            &attempts,
            &states,
            &reasons as &[Option<String>],
            &details as &[Option<String>],
        )
        .fetch_all(&mut *transaction)
        .await?;
        let counted: HashSet<Uuid> = counted.into_iter().collect();
        let committed: Vec<_> = settlements.iter().filter(|item| counted.contains(&item.event_id.0)).collect();
        insert_inferences(&mut transaction, &committed).await?;
        insert_commands(&mut transaction, &committed).await?;
        transaction.commit().await?;
        Ok(settlements.iter().map(|settlement| counted.contains(&settlement.event_id.0)).collect())
    }
}

async fn insert_inferences(
    transaction: &mut sqlx::PgTransaction<'_>,
    settlements: &[&Settlement],
) -> Result<(), LedgerError> {
    let all: Vec<_> =
        settlements.iter().flat_map(|item| item.inferences.iter().map(move |inference| (*item, inference))).collect();
    if all.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($inference:ident => $value:expr) => {
            all.iter().map(|(_, $inference)| $value).collect::<Vec<_>>()
        };
    }
    let events: Vec<_> = all.iter().map(|(item, _)| item.event_id.0).collect();
    let attempts: Vec<_> = all.iter().map(|(item, _)| item.attempt).collect();
    sqlx::query!(
        "insert into inference (id, event_id, attempt, playbook, playbook_version, model_requested, model, prompt,
                                answer, outcome, fields, prompt_tokens, cached_tokens, completion_tokens,
                                cost_micro_dollars, latency_ms, request_id)
         select * from unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[],
                              $8::jsonb[], $9::text[], $10::text[], $11::jsonb[], $12::bigint[], $13::bigint[],
                              $14::bigint[], $15::bigint[], $16::bigint[], $17::text[])",
        &column!(inference => inference.id.0),
        &events,
        &attempts,
        &column!(inference => inference.playbook.clone()),
        &column!(inference => inference.playbook_version.clone()),
        &column!(inference => inference.model_requested.clone()),
        &column!(inference => inference.model.clone()),
        &column!(inference => inference.prompt.clone()),
        // Text columns cannot hold U+0000, and a model can answer anything.
        &column!(inference => inference.answer.replace('\0', "\u{fffd}")),
        &column!(inference => inference.outcome.as_str().to_owned()),
        &column!(inference => inference.fields.clone()),
        &column!(inference => inference.usage.prompt_tokens),
        &column!(inference => inference.usage.cached_tokens),
        &column!(inference => inference.usage.completion_tokens),
        &column!(inference => inference.cost_micro_dollars) as &[Option<i64>],
        &column!(inference => i64::try_from(inference.latency.as_millis()).unwrap_or(i64::MAX)),
        &column!(inference => inference.request_id.clone()) as &[Option<String>],
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn insert_commands(
    transaction: &mut sqlx::PgTransaction<'_>,
    settlements: &[&Settlement],
) -> Result<(), LedgerError> {
    let all: Vec<_> = settlements.iter().flat_map(|item| &item.commands).collect();
    if all.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($command:ident => $value:expr) => {
            all.iter().map(|$command| $value).collect::<Vec<_>>()
        };
    }
    let properties = column!(command => serde_json::json!(command.properties));
    // A command from an earlier claim is there already.
    sqlx::query!(
        "insert into write_command (id, event_id, inference_id, event_key, occurred_at, portal_id, object_type,
                                    object_id, properties)
         select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::bigint[],
                              $7::text[], $8::bigint[], $9::jsonb[])
         on conflict (id) do nothing",
        &column!(command => command.id.0),
        &column!(command => command.event_id.0),
        &column!(command => command.inference_id.0),
        &column!(command => command.event_key.to_string()),
        &column!(command => command.occurred_at),
        &column!(command => command.record.portal_id.0),
        &column!(command => command.record.object_type.type_id().to_owned()),
        &column!(command => command.record.object_id.0),
        &properties,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
