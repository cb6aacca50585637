//! "Is all well?" — how much is unfinished, and how old the oldest is.

use std::time::Duration;

use domain::{ObjectType, PortalId};
use time::OffsetDateTime;

use crate::{Ledger, LedgerError, milliseconds};

/// UnfinishedEvents events in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedEvents {
    /// The state.
    pub state: String,
    /// Why, if there is a reason.
    pub reason: Option<String>,
    /// How many.
    pub events: i64,
    /// When the oldest of them was first claimed.
    pub oldest: OffsetDateTime,
    /// Its key.
    pub oldest_key: String,
}

/// Write commands in one unfinished state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedCommands {
    /// The state.
    pub state: String,
    /// How many.
    pub commands: i64,
    /// When the oldest of them was decided.
    pub oldest: OffsetDateTime,
}

/// Something that happened to a record, as the ledger would have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordChange {
    /// The record's id.
    pub object_id: i64,
    /// The property, for a change of one.
    pub property: Option<String>,
    /// When, by HubSpot's clock.
    pub at: OffsetDateTime,
}

impl Ledger {
    /// How old the oldest unfinished event is; zero when there is none. The one number that says whether all is well.
    pub async fn oldest_unfinished(&self) -> Result<Duration, LedgerError> {
        let seconds = sqlx::query_scalar!(
            r#"select extract(epoch from clock_timestamp() - min(first_claimed_at))::float8 from event
               where finished_at is null"#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Duration::try_from_secs_f64(seconds.unwrap_or_default().max(0.0)).unwrap_or_default())
    }

    /// UnfinishedEvents events by state and reason.
    pub async fn unfinished_events(&self) -> Result<Vec<UnfinishedEvents>, LedgerError> {
        let rows = sqlx::query_as!(
            UnfinishedEvents,
            r#"select state::text as "state!", reason, count(*) as "events!", min(first_claimed_at) as "oldest!",
                      (array_agg(event_key order by first_claimed_at))[1] as "oldest_key!"
               from event where finished_at is null group by state, reason order by 4"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }

    /// UnfinishedEvents write commands by state.
    pub async fn unfinished_commands(&self) -> Result<Vec<UnfinishedCommands>, LedgerError> {
        let rows = sqlx::query_as!(
            UnfinishedCommands,
            r#"select state::text as "state!", count(*) as "commands!", min(created_at) as "oldest!"
               from write_command where finished_at is null group by state order by 3"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }

    /// Which of these happenings no webhook has told of: the ledger has no event of the same record and property (or of
    /// the record's creation) from then or later. HubSpot's clocks may be `tolerance` apart from each other.
    pub async fn changes_without_event(
        &self,
        portal: PortalId,
        object_type: &ObjectType,
        happened: &[RecordChange],
        tolerance: Duration,
    ) -> Result<Vec<RecordChange>, LedgerError> {
        let rows = sqlx::query_as!(
            RecordChange,
            r#"select input.object_id as "object_id!", input.property, input.at as "at!"
               from unnest($3::bigint[], $4::text[], $5::timestamptz[]) as input (object_id, property, at)
               where not exists (
                   select from event e
                   where e.portal_id = $1 and e.object_type = $2 and e.object_id = input.object_id
                     and e.property_name is not distinct from input.property
                     and e.occurred_at >= input.at - $6 * interval '1 millisecond')
               order by input.at, input.object_id"#,
            portal.0,
            object_type.type_id(),
            &happened.iter().map(|item| item.object_id).collect::<Vec<_>>(),
            &happened.iter().map(|item| item.property.clone()).collect::<Vec<_>>() as &[Option<String>],
            &happened.iter().map(|item| item.at).collect::<Vec<_>>(),
            milliseconds(tolerance),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows)
    }
}
