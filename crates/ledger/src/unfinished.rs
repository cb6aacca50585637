//! What is unfinished, and how old is it?

use std::time::Duration;

use domain::{CommandState, EventState, ObjectType, PortalId, Reason};
use time::OffsetDateTime;

use crate::{
    Ledger, LedgerError,
    column::{Column, EVENT_REASON, EVENT_STATE},
    milliseconds,
};

const COMMAND_STATE: Column = Column::new("write_command", "state");

/// Unfinished events in one state and with one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedEvents {
    /// The state.
    pub state: EventState,
    /// The reason for the state.
    pub reason: Option<Reason>,
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
    pub state: CommandState,
    /// How many.
    pub commands: i64,
    /// When the oldest of them was recorded.
    pub oldest: OffsetDateTime,
}

/// A change of a record that HubSpot knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordChange {
    /// The record's id.
    pub object_id: i64,
    /// The property that changed; `None` for the creation of the record.
    pub property: Option<String>,
    /// When, by HubSpot's clock.
    pub at: OffsetDateTime,
}

impl Ledger {
    /// The age of the oldest unfinished event, zero when there is none. If it grows, the fleet does not keep up.
    pub async fn oldest_unfinished(&self) -> Result<Duration, LedgerError> {
        let seconds = sqlx::query_scalar!(
            r#"select extract(epoch from clock_timestamp() - min(first_claimed_at))::float8 from event
               where finished_at is null"#
        )
        .fetch_one(&self.connections)
        .await?;
        Ok(Duration::try_from_secs_f64(seconds.unwrap_or_default().max(0.0)).unwrap_or_default())
    }

    /// Unfinished events by state and reason.
    pub async fn unfinished_events(&self) -> Result<Vec<UnfinishedEvents>, LedgerError> {
        let rows = sqlx::query!(
            r#"select state::text as "state!", reason, count(*) as "events!", min(first_claimed_at) as "oldest!",
                      (array_agg(event_key order by first_claimed_at))[1] as "oldest_key!"
               from event where finished_at is null group by state, reason order by 4"#
        )
        .fetch_all(&self.connections)
        .await?;
        let events = rows.into_iter().map(|row| {
            Ok(UnfinishedEvents {
                state: EVENT_STATE.read(&row.state, EventState::parse)?,
                reason: EVENT_REASON.read_reason(row.reason.as_deref())?,
                events: row.events,
                oldest: row.oldest,
                oldest_key: row.oldest_key,
            })
        });
        events.collect()
    }

    /// Unfinished write commands by state.
    pub async fn unfinished_commands(&self) -> Result<Vec<UnfinishedCommands>, LedgerError> {
        let rows = sqlx::query!(
            r#"select state::text as "state!", count(*) as "commands!", min(created_at) as "oldest!"
               from write_command where finished_at is null group by state order by 3"#
        )
        .fetch_all(&self.connections)
        .await?;
        let commands = rows.into_iter().map(|row| {
            Ok(UnfinishedCommands {
                state: COMMAND_STATE.read(&row.state, CommandState::parse)?,
                commands: row.commands,
                oldest: row.oldest,
            })
        });
        commands.collect()
    }

    /// Those of `changes` of which no webhook came: the ledger has no event of the same record and property (or of the
    /// record's creation) from that time or later. An event may be older by `tolerance`, because HubSpot's servers do not
    /// have exactly the same time.
    pub async fn changes_without_event(
        &self,
        portal: PortalId,
        object_type: &ObjectType,
        changes: &[RecordChange],
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
            &changes.iter().map(|item| item.object_id).collect::<Vec<_>>(),
            &changes.iter().map(|item| item.property.clone()).collect::<Vec<_>>() as &[Option<String>],
            &changes.iter().map(|item| item.at).collect::<Vec<_>>(),
            milliseconds(tolerance),
        )
        .fetch_all(&self.connections)
        .await?;
        Ok(rows)
    }
}
