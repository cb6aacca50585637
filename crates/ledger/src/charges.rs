//! What does the model cost? A request's money is reserved before it is sent and settled when its answer is known, so that no
//! question that was paid for is without a trace, whatever dies in between.

use domain::{ChargeId, EventId, InferenceId, RecordRef, inference::ChargeState};

use crate::{Ledger, LedgerError, connections::Transaction, records::columns};

/// A request to the model that is about to be sent: one field for each column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeRequest {
    /// Its id, which the request carries.
    pub id: ChargeId,
    /// The event that it is for.
    pub event_id: EventId,
    /// The number of the claim under which it is sent.
    pub attempt: i32,
    /// The inference that its answer becomes a part of.
    pub inference_id: InferenceId,
    /// The playbook that asks.
    pub playbook: String,
    /// The record that the question is about.
    pub record: RecordRef,
    /// The model's name in the request.
    pub model: String,
    /// The most that it can cost, in 10⁻⁶ $; 0 for a model without a price.
    pub most_micro_dollars: i64,
    /// What the questions about the record may cost in a day.
    pub record_limits: RecordLimits,
}

/// What the questions about one record may cost in a day (UTC), in 10⁻⁶ $; `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordLimits {
    /// Those of all playbooks together.
    pub all: Option<i64>,
    /// Those of the playbook that asks.
    pub playbook: Option<i64>,
}

impl RecordLimits {
    /// The lower one of the two.
    pub fn lowest(&self) -> Option<i64> {
        self.all.into_iter().chain(self.playbook).min()
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledCharge {
    /// The charge.
    pub id: ChargeId,
    /// What is known about its cost.
    pub state: ChargeState,
    /// What it cost, or what counts as its cost, in 10⁻⁶ $.
    pub micro_dollars: i64,
}

impl Ledger {
    /// Reserves the most that each request can cost, where the limits of its record allow it. Returns in order whether it was
    /// reserved; what was not must not be sent.
    pub async fn begin_charges(&self, requests: &[ChargeRequest]) -> Result<Vec<bool>, LedgerError> {
        let records: Vec<_> = requests.iter().map(|request| request.record.clone()).collect();
        let (portals, types, objects) = columns(&records);
        let limit = |of: fn(&RecordLimits) -> Option<i64>| {
            requests.iter().map(|request| of(&request.record_limits).unwrap_or(0)).collect::<Vec<_>>()
        };
        let begun = sqlx::query_scalar!(
            r#"select begin_charges($1::uuid[], $2::uuid[], $3::int[], $4::uuid[], $5::text[], $6::bigint[], $7::text[],
                                    $8::bigint[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[]) as "begun!""#,
            &requests.iter().map(|request| request.id.0).collect::<Vec<_>>(),
            &requests.iter().map(|request| request.event_id.0).collect::<Vec<_>>(),
            &requests.iter().map(|request| request.attempt).collect::<Vec<_>>(),
            &requests.iter().map(|request| request.inference_id.0).collect::<Vec<_>>(),
            &requests.iter().map(|request| request.playbook.clone()).collect::<Vec<_>>(),
            &portals,
            &types,
            &objects,
            &requests.iter().map(|request| request.model.clone()).collect::<Vec<_>>(),
            &requests.iter().map(|request| request.most_micro_dollars).collect::<Vec<_>>(),
            &limit(|limits| limits.all),
            &limit(|limits| limits.playbook),
        )
        .fetch_one(&self.connections)
        .await?;
        Ok(begun)
    }
}

/// Settles charges. Not fenced by the claim: what was paid was paid, even if another worker holds the event by now.
pub(crate) async fn settle_charges(
    transaction: &mut Transaction,
    settled: &[SettledCharge],
) -> Result<(), LedgerError> {
    if settled.is_empty() {
        return Ok(());
    }
    // Only a reservation is settled, so that a late repetition changes nothing. In the order of ids, so that two do not
    // deadlock.
    sqlx::query!(
        "with input as (select * from unnest($1::uuid[], $2::text[], $3::bigint[]) as input (id, state, micro_dollars)),
              locked as (select c.id from charge c join input using (id) where c.state = 'reserved'
                         order by c.id for update of c)
         update charge c
         set state = input.state, micro_dollars = input.micro_dollars, settled_at = clock_timestamp()
         from locked join input using (id) where c.id = locked.id",
        &settled.iter().map(|charge| charge.id.0).collect::<Vec<_>>(),
        &settled.iter().map(|charge| charge.state.as_str().to_owned()).collect::<Vec<_>>(),
        &settled.iter().map(|charge| charge.micro_dollars).collect::<Vec<_>>(),
    )
    .execute(&mut *transaction)
    .await?;
    Ok(())
}
