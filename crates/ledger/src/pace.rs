//! How fast is the fleet, what takes long, and what does it cost today? For an operator who looks on.

use std::time::Duration;

use domain::EventState;
use time::OffsetDateTime;

use crate::{
    EventEntry, Ledger, LedgerError,
    column::{EVENT_REASON, EVENT_STATE},
    events::entry_of,
    milliseconds,
};

/// What came and what ended within a window that ends now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Throughput {
    /// Events that were claimed for the first time.
    pub claimed: i64,
    /// Events that ended, by state.
    pub finished: Vec<(EventState, i64)>,
}

/// An event that has ended, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedEvent {
    /// Its key.
    pub key: String,
    /// How it ended.
    pub state: EventState,
    /// When.
    pub finished_at: OffsetDateTime,
    /// From its first claim to its end.
    pub took: Duration,
}

/// What the questions of a playbook to a model have cost today, in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostToday {
    /// The playbook.
    pub playbook: String,
    /// The model that answered.
    pub model: String,
    /// How many answers.
    pub inferences: i64,
    /// In 10⁻⁶ $; `None` for a model without a known price.
    pub micro_dollars: Option<i64>,
}

impl Ledger {
    /// What came and what ended within a window that ends now.
    pub async fn throughput(&self, window: Duration) -> Result<Throughput, LedgerError> {
        let claimed = sqlx::query_scalar!(
            r#"select count(*) as "claimed!" from event
               where first_claimed_at > clock_timestamp() - $1 * interval '1 millisecond'"#,
            milliseconds(window)
        )
        .fetch_one(&self.connections)
        .await?;
        let rows = sqlx::query!(
            r#"select state::text as "state!", count(*) as "events!" from event
               where finished_at > clock_timestamp() - $1 * interval '1 millisecond'
               group by state order by state"#,
            milliseconds(window)
        )
        .fetch_all(&self.connections)
        .await?;
        let finished = rows.into_iter().map(|row| Ok((EVENT_STATE.read(&row.state, EventState::parse)?, row.events)));
        Ok(Throughput { claimed, finished: finished.collect::<Result<_, LedgerError>>()? })
    }

    /// Of the events that ended within a window that ends now, those that took longest.
    pub async fn slowest_events(&self, window: Duration, limit: i64) -> Result<Vec<FinishedEvent>, LedgerError> {
        let rows = sqlx::query!(
            r#"select event_key, state::text as "state!", finished_at as "finished_at!",
                      extract(epoch from finished_at - first_claimed_at)::float8 as "took!"
               from event where finished_at > clock_timestamp() - $1 * interval '1 millisecond'
               order by finished_at - first_claimed_at desc, event_key limit $2"#,
            milliseconds(window),
            limit
        )
        .fetch_all(&self.connections)
        .await?;
        let events = rows.into_iter().map(|row| {
            Ok(FinishedEvent {
                key: row.event_key,
                state: EVENT_STATE.read(&row.state, EventState::parse)?,
                finished_at: row.finished_at,
                took: Duration::try_from_secs_f64(row.took.max(0.0)).unwrap_or_default(),
            })
        });
        events.collect()
    }

    /// The unfinished events that were claimed first.
    pub async fn oldest_events(&self, limit: i64) -> Result<Vec<EventEntry>, LedgerError> {
        let rows = sqlx::query!(
            r#"select id, event_key, subscription_type, object_type, object_id, playbook as playbooks, first_claimed_at,
                      state::text as "state!", reason, state_since
               from event where finished_at is null order by first_claimed_at, id limit $1"#,
            limit
        )
        .fetch_all(&self.connections)
        .await?;
        rows.into_iter().map(|row| Ok(entry_of!(row, (EVENT_STATE, EVENT_REASON)))).collect()
    }

    /// What the answers of today, in UTC, have cost, by playbook and model.
    pub async fn cost_today(&self) -> Result<Vec<CostToday>, LedgerError> {
        Ok(sqlx::query_as!(
            CostToday,
            r#"select playbook, model, count(*) as "inferences!", sum(cost_micro_dollars)::bigint as micro_dollars
               from inference where created_at >= date_trunc('day', now() at time zone 'UTC') at time zone 'UTC'
               group by playbook, model order by playbook, model"#
        )
        .fetch_all(&self.connections)
        .await?)
    }
}
