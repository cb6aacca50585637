//! Which events are there? Lists for the operator, in bounded pieces: by record, state, reason, playbook and time.

use domain::{EventId, EventState, Reason, RecordRef};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Ledger, LedgerError,
    column::{Column, EVENT_REASON, EVENT_STATE},
};

const HISTORY_STATE: Column = Column::new("event_history", "state");
const HISTORY_REASON: Column = Column::new("event_history", "reason");

/// Which events are listed: those that meet every condition that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// About this record, under any id by which it was known before a merge; associations at either end.
    pub record: Option<RecordRef>,
    /// In this state.
    pub state: Option<EventState>,
    /// In their state for this reason.
    pub reason: Option<Reason>,
    /// Which this playbook answered, or failed.
    pub playbook: Option<String>,
    /// First claimed at this time or later.
    pub since: Option<OffsetDateTime>,
}

/// One event of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventEntry {
    /// Its id.
    pub id: EventId,
    /// Its key.
    pub key: String,
    /// HubSpot's name of what happened, for example `contact.propertyChange`.
    pub subscription_type: String,
    /// The record's kind, as HubSpot's type id.
    pub object_type: String,
    /// The record's id; `None` once it is erased.
    pub object_id: Option<i64>,
    /// The playbooks that answered it, or the one that failed, separated by commas.
    pub playbooks: Option<String>,
    /// When a worker claimed it for the first time.
    pub first_claimed_at: OffsetDateTime,
    /// What became of it.
    pub status: EventStatus,
}

/// A state that an event has, or had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventStatus {
    /// The state.
    pub state: EventState,
    /// The reason for it.
    pub reason: Option<Reason>,
    /// Since when.
    pub since: OffsetDateTime,
}

/// Where a list goes on: behind this event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPosition {
    first_claimed_at: OffsetDateTime,
    id: Uuid,
}

/// One change of an event's state, in the order in which they are in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventChange {
    /// Its number in the history.
    pub number: i64,
    /// The event, with the state that it had from then on.
    pub event: EventEntry,
}

impl EventEntry {
    /// Where a list that ends with this event goes on.
    pub fn position(&self) -> EventPosition {
        EventPosition { first_claimed_at: self.first_claimed_at, id: self.id.0 }
    }
}

/// A record under all its ids, as the columns of `event` have them.
#[derive(Default)]
struct RecordColumns {
    portal: i64,
    object_type: String,
    ids: Option<Vec<i64>>,
    /// As the column `associated` has them; the type of some ends is not known.
    associated: Vec<String>,
}

/// The entry that a row of a statement is, with the columns `id`, `event_key`, `subscription_type`, `object_type`, `object_id`,
/// `playbooks`, `first_claimed_at`, `state`, `reason` and `state_since`. Ends the function when state or reason is not known.
macro_rules! entry_of {
    ($row:ident, ($state:expr, $reason:expr)) => {
        $crate::EventEntry {
            id: domain::EventId($row.id),
            key: $row.event_key,
            subscription_type: $row.subscription_type,
            object_type: $row.object_type,
            object_id: $row.object_id,
            playbooks: $row.playbooks,
            first_claimed_at: $row.first_claimed_at,
            status: $crate::EventStatus {
                state: $state.read(&$row.state, domain::EventState::parse)?,
                reason: $reason.read_reason($row.reason.as_deref())?,
                since: $row.state_since,
            },
        }
    };
}
pub(crate) use entry_of;

/// How many events are in a state for a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventCount {
    /// The state.
    pub state: EventState,
    /// The reason for the state.
    pub reason: Option<Reason>,
    /// The number of events.
    pub events: i64,
}

impl Ledger {
    /// The number of events by state and reason.
    pub async fn event_counts(&self) -> Result<Vec<EventCount>, LedgerError> {
        let rows = sqlx::query!(
            r#"select state::text as "state!", reason, count(*) as "events!" from event
               group by state, reason order by state, reason"#
        )
        .fetch_all(&self.connections)
        .await?;
        let counts = rows.into_iter().map(|row| {
            Ok(EventCount {
                state: EVENT_STATE.read(&row.state, EventState::parse)?,
                reason: EVENT_REASON.read_reason(row.reason.as_deref())?,
                events: row.events,
            })
        });
        counts.collect()
    }

    /// Events that the filter selects, the newest first: at most `limit`, after the position.
    pub async fn events(
        &self,
        filter: &EventFilter,
        after: Option<EventPosition>,
        limit: i64,
    ) -> Result<Vec<EventEntry>, LedgerError> {
        let record = self.record_columns(filter.record.as_ref()).await?;
        // Conditions that are not given are gone before the statement is planned. `$7` is there because the index of parked events
        // is only found by a condition that names the state.
        let rows = sqlx::query!(
            r#"select e.id, e.event_key, e.subscription_type, e.object_type, e.object_id, e.state::text as "state!", e.reason,
                      e.first_claimed_at, e.state_since,
                      coalesce((select string_agg(distinct i.playbook, ', ') from inference i where i.event_id = e.id),
                               e.playbook) as playbooks
               from event e
               where ($1::bigint[] is null
                      or e.portal_id = $2 and (e.object_type = $3 and e.object_id = any($1) or e.associated && $4::text[]))
                 and ($5::text is null or e.state = $5::text::event_state)
                 and ($6::text is null or e.reason = $6)
                 and (not $7::boolean or e.state = 'parked')
                 and ($8::text is null or e.playbook = $8
                      or exists (select from inference i where i.event_id = e.id and i.playbook = $8))
                 and ($9::timestamptz is null or e.first_claimed_at >= $9)
                 and ($10::timestamptz is null or (e.first_claimed_at, e.id) < ($10, $11::uuid))
               order by e.first_claimed_at desc, e.id desc
               limit $12"#,
            record.ids.as_deref() as Option<&[i64]>,
            record.portal,
            record.object_type,
            &record.associated,
            filter.state.map(EventState::as_str),
            filter.reason.map(Reason::as_str),
            filter.state == Some(EventState::Parked),
            filter.playbook.as_deref(),
            filter.since,
            after.map(|position| position.first_claimed_at),
            after.map(|position| position.id),
            limit,
        )
        .fetch_all(&self.connections)
        .await?;
        rows.into_iter().map(|row| Ok(entry_of!(row, (EVENT_STATE, EVENT_REASON)))).collect()
    }

    /// The number of the newest change in the history; 0 when there is none.
    pub async fn newest_change(&self) -> Result<i64, LedgerError> {
        let newest = sqlx::query_scalar!(r#"select coalesce(max(id), 0) as "newest!" from event_history"#);
        Ok(newest.fetch_one(&self.connections).await?)
    }

    /// Changes of state that the filter selects, oldest first: at most `limit`, after the number of a change. State and reason are
    /// those of the change.
    ///
    /// Numbers are given before a change is committed, so one with a lower number may still come: who follows the history looks a
    /// little back.
    pub async fn event_changes(
        &self,
        filter: &EventFilter,
        after: i64,
        limit: i64,
    ) -> Result<Vec<EventChange>, LedgerError> {
        let record = self.record_columns(filter.record.as_ref()).await?;
        let rows = sqlx::query!(
            r#"select h.id as number, h.at as state_since, h.state::text as "state!", h.reason,
                      e.id, e.event_key, e.subscription_type, e.object_type, e.object_id, e.first_claimed_at,
                      coalesce((select string_agg(distinct i.playbook, ', ') from inference i where i.event_id = e.id),
                               e.playbook) as playbooks
               from event_history h join event e on e.id = h.event_id
               where h.id > $10
                 and ($1::bigint[] is null
                      or e.portal_id = $2 and (e.object_type = $3 and e.object_id = any($1) or e.associated && $4::text[]))
                 and ($5::text is null or h.state = $5::text::event_state)
                 and ($6::text is null or h.reason = $6)
                 and ($7::text is null or e.playbook = $7
                      or exists (select from inference i where i.event_id = e.id and i.playbook = $7))
                 and ($8::timestamptz is null or h.at >= $8)
               order by h.id
               limit $9"#,
            record.ids.as_deref() as Option<&[i64]>,
            record.portal,
            record.object_type,
            &record.associated,
            filter.state.map(EventState::as_str),
            filter.reason.map(Reason::as_str),
            filter.playbook.as_deref(),
            filter.since,
            limit,
            after,
        )
        .fetch_all(&self.connections)
        .await?;
        let changes = rows
            .into_iter()
            .map(|row| Ok(EventChange { number: row.number, event: entry_of!(row, (HISTORY_STATE, HISTORY_REASON)) }));
        changes.collect()
    }

    async fn record_columns(&self, record: Option<&RecordRef>) -> Result<RecordColumns, LedgerError> {
        let Some(record) = record else { return Ok(RecordColumns::default()) };
        let ids: Vec<_> = self.known_as(record).await?.into_iter().map(|known| known.object_id.0).collect();
        let kind = record.object_type.type_id();
        let ends = ids.iter().flat_map(|id| [format!("{kind}/{id}"), format!("?/{id}")]).collect();
        Ok(RecordColumns { portal: record.portal_id.0, object_type: kind.to_owned(), ids: Some(ids), associated: ends })
    }
}
