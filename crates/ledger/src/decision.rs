//! "This is what became of the event." — state, history, inferences and write commands in one transaction.

use std::{collections::HashSet, time::Duration};

use domain::{EventId, EventState, Inference, Reason, WriteCommand};
use uuid::Uuid;

use crate::{Ledger, LedgerError, commands::end_events, milliseconds};

/// What a worker decided about an event that it had claimed.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The event.
    pub event_id: EventId,
    /// The claim's number; after a take-over it no longer holds, and nothing is committed.
    pub attempt: i32,
    /// Where the event goes.
    pub state: EventState,
    /// Why.
    pub reason: Option<Reason>,
    /// Why, in words.
    pub detail: Option<String>,
    /// The playbook whose failure decided about it, if one did.
    pub playbook: Option<String>,
    /// How long its message stays in a retry queue, if it waits.
    pub wait: Option<Duration>,
    /// What was asked and answered under this claim, good or bad: it was paid for.
    pub inferences: Vec<Inference>,
    /// What is to be written.
    pub commands: Vec<WriteCommand>,
}

impl Ledger {
    /// Commits decisions. Says for each, in order, whether it counted: not, when the lease had expired and somebody
    /// else has taken the event over.
    pub async fn commit_decisions(&self, decisions: &[Decision]) -> Result<Vec<bool>, LedgerError> {
        let mut transaction = self.pool.begin().await?;
        let ids: Vec<_> = decisions.iter().map(|decision| decision.event_id.0).collect();
        let attempts: Vec<_> = decisions.iter().map(|decision| decision.attempt).collect();
        let states: Vec<_> = decisions.iter().map(|decision| decision.state.to_string()).collect();
        let reasons: Vec<_> =
            decisions.iter().map(|decision| decision.reason.map(|reason| reason.as_str().to_owned())).collect();
        let details: Vec<_> = decisions.iter().map(|decision| decision.detail.clone()).collect();
        let playbooks: Vec<_> = decisions.iter().map(|decision| decision.playbook.clone()).collect();
        let waits: Vec<_> = decisions.iter().map(|decision| decision.wait.map(milliseconds)).collect();
        // Rows are locked in the order of ids, here and wherever several events change at once.
        let counted = sqlx::query_scalar!(
            "with input as (
                 select * from unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[],
                                      $7::float8[])
                     as input (id, attempt, state, reason, detail, playbook, wait)
             ), locked as (
                 select e.id from event e join input using (id)
                 where e.attempt = input.attempt and e.state = 'claimed' order by e.id for update of e
             )
             update event e
             set state = input.state::event_state, reason = input.reason, detail = input.detail,
                 lease_expires_at = null, playbook = input.playbook,
                 due_at = now() + input.wait * interval '1 millisecond'
             from locked join input using (id) where e.id = locked.id
             returning e.id",
            &ids,
            &attempts,
            &states,
            &reasons as &[Option<String>],
            &details as &[Option<String>],
            &playbooks as &[Option<String>],
            &waits as &[Option<f64>],
        )
        .fetch_all(&mut *transaction)
        .await?;
        let counted: HashSet<Uuid> = counted.into_iter().collect();
        let committed: Vec<_> = decisions.iter().filter(|item| counted.contains(&item.event_id.0)).collect();
        let answered = committed.iter().flat_map(|item| {
            item.inferences.iter().map(|inference| Answered {
                event_id: item.event_id,
                attempt: item.attempt,
                inference,
            })
        });
        insert_inferences(&mut transaction, &answered.collect::<Vec<_>>()).await?;
        insert_commands(&mut transaction, &committed).await?;
        insert_actions(&mut transaction, &committed).await?;
        // What was decided under earlier claims may have been carried out by now.
        let again: Vec<_> = committed.iter().filter(|item| item.attempt > 1).map(|item| item.event_id.0).collect();
        if !again.is_empty() {
            end_events(&mut transaction, &again).await?;
        }
        transaction.commit().await?;
        Ok(decisions.iter().map(|decision| counted.contains(&decision.event_id.0)).collect())
    }
}

/// An inference with the claim that it was made under.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered<'a> {
    pub(crate) event_id: EventId,
    pub(crate) attempt: i32,
    pub(crate) inference: &'a Inference,
}

pub(crate) async fn insert_inferences(
    transaction: &mut sqlx::PgTransaction<'_>,
    all: &[Answered<'_>],
) -> Result<(), LedgerError> {
    if all.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($inference:ident => $value:expr) => {
            all.iter().map(|Answered { inference: $inference, .. }| $value).collect::<Vec<_>>()
        };
    }
    let events: Vec<_> = all.iter().map(|answered| answered.event_id.0).collect();
    let attempts: Vec<_> = all.iter().map(|answered| answered.attempt).collect();
    // Postgres has no ragged arrays: a list of names travels as one text.
    let unverified = column!(inference => inference.unverified.join(" "));
    sqlx::query!(
        "with input as (select * from unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[],
                              $8::jsonb[], $9::text[], $10::text[], $11::jsonb[], $12::bigint[], $13::bigint[],
                     $14::bigint[], $15::bigint[], $16::bigint[], $17::text[], $18::bigint[], $19::text[],
                     $20::bigint[], $21::text[], $22::text[], $23::text[])
              as input (id, event_id, attempt, playbook, version, requested, model, prompt, answer, outcome, fields,
                        tokens, cached, completion, cost, latency, request_id, portal_id, object_type, object_id, part,
                        context_hash, unverified)
         ), inserted as (
             insert into inference (id, event_id, attempt, playbook, playbook_version, model_requested, model, outcome,
                                    fields, prompt_tokens, cached_tokens, completion_tokens, cost_micro_dollars,
                                    latency_ms, request_id, portal_id, object_type, object_id, part, context_hash,
                                    unverified)
             select id, event_id, attempt, playbook, version, requested, model, outcome, fields, tokens, cached,
                    completion, cost, latency, request_id, portal_id, object_type, object_id, part, context_hash,
                    array_remove(string_to_array(unverified, ' '), '')
             from input
             on conflict (event_id, playbook, portal_id, object_type, object_id, coalesce(part, ''))
                 where outcome = 'valid' do nothing
             returning id, created_at
         )
         insert into inference_raw (inference_id, created_at, prompt, answer)
         select inserted.id, inserted.created_at, input.prompt, input.answer from inserted join input using (id)",
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
        &column!(inference => inference.record.portal_id.0),
        &column!(inference => inference.record.object_type.type_id().to_owned()),
        &column!(inference => inference.record.object_id.0),
        &column!(inference => inference.part.clone()) as &[Option<String>],
        &column!(inference => inference.context_hash.clone()) as &[Option<String>],
        &unverified,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn insert_commands(
    transaction: &mut sqlx::PgTransaction<'_>,
    decisions: &[&Decision],
) -> Result<(), LedgerError> {
    let all: Vec<_> = decisions.iter().flat_map(|item| &item.commands).collect();
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

async fn insert_actions(transaction: &mut sqlx::PgTransaction<'_>, decisions: &[&Decision]) -> Result<(), LedgerError> {
    let commands = decisions.iter().flat_map(|item| &item.commands);
    let all: Vec<_> =
        commands.flat_map(|command| command.actions.iter().map(move |action| (command.id.0, action))).collect();
    if all.is_empty() {
        return Ok(());
    }
    let hours = all.iter().map(|(_, action)| i32::try_from(action.cooldown_hours).unwrap_or(i32::MAX));
    // An action from an earlier claim is there already.
    sqlx::query!(
        "insert into action (write_command_id, id, name, kind, spec, cooldown_hours)
         select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::int[])
         on conflict (id) do nothing",
        &all.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        &all.iter().map(|(_, action)| action.id.0).collect::<Vec<_>>(),
        &all.iter().map(|(_, action)| action.name.clone()).collect::<Vec<_>>(),
        &all.iter().map(|(_, action)| action.spec.kind().as_str().to_owned()).collect::<Vec<_>>(),
        &all.iter().map(|(_, action)| serde_json::json!(action.spec)).collect::<Vec<_>>(),
        &hours.collect::<Vec<_>>(),
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
