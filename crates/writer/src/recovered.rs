//! What a recovered ledger may have forgotten, and how HubSpot shows it.

use std::time::Duration;

use domain::{ActionId, AppId, RecordRef, write_command::Action};
use hubspot::client::PastValue;
use ledger::{LatestWrites, Recovery};
use time::OffsetDateTime;

use crate::plan::TakenCommand;

/// The values that the fleet set within a time which a recovered ledger may have forgotten.
#[derive(Debug, Clone, Copy)]
pub struct Forgotten {
    app: AppId,
    from: OffsetDateTime,
    until: OffsetDateTime,
}

impl Forgotten {
    /// Those since the command's event, which it or a newer event caused. `None` when the event happened after the recovery.
    pub fn of(taken: &TakenCommand, app: AppId) -> Option<Self> {
        let recovery = taken.predates_recovery()?;
        Some(Self { app, from: taken.command.occurred_at, until: recovery.at })
    }

    /// Those since the command was recorded, which a newer event caused, unless it wrote them itself. `None` when it was recorded
    /// after the recovery: then its answer is about what the record holds now.
    pub fn since_recorded(taken: &TakenCommand, app: AppId) -> Option<Self> {
        let forgotten = Self { from: taken.command.recorded_at(), ..Self::of(taken, app)? };
        (forgotten.from < forgotten.until).then_some(forgotten)
    }

    /// Those since the command's event, without those of attempts that may not have come to the actions.
    pub fn of_ended_attempts(taken: &TakenCommand, app: AppId, lease: Duration) -> Option<Self> {
        let forgotten = Self::of(taken, app)?;
        Some(Self { until: taken.ended_before(lease)?, ..forgotten })
    }

    /// Whether it is one of these values. One that the ledger has is not.
    pub fn includes(&self, set: &PastValue, (record, property): (&RecordRef, &str), writes: &LatestWrites) -> bool {
        set.is_by_app(self.app)
            && (self.from..self.until).contains(&set.timestamp)
            && !writes.has_value(record, property, &set.value, set.timestamp)
    }
}

/// Since when the ledger may have forgotten values that bear on these commands; `None` when all their events are newer than the
/// last recovery.
pub fn forgotten_since(taken: &[TakenCommand]) -> Option<OffsetDateTime> {
    let older = taken.iter().filter(|taken| taken.predates_recovery().is_some());
    older.map(|taken| taken.command.occurred_at).min()
}

impl TakenCommand {
    /// The recovery after which the ledger may have forgotten what was done for the command's event.
    pub fn predates_recovery(&self) -> Option<Recovery> {
        self.recovery.filter(|recovery| recovery.is_after(self.command.occurred_at))
    }

    /// When the attempts had ended that the ledger may have forgotten. An attempt that it remembers may have been under way at the
    /// recovery, for no longer than its `lease`; what that one has begun is in doubt as after any crash.
    pub fn ended_before(&self, lease: Duration) -> Option<OffsetDateTime> {
        let is_remembered = self.attempt > 1;
        self.recovery.map(|recovery| if is_remembered { recovery.at - lease } else { recovery.at })
    }

    /// The recovery after which the ledger may have forgotten that an action was carried out: for the command's event, or for
    /// another one within the action's cooldown.
    pub fn may_be_forgotten(&self, action: &Action) -> Option<Recovery> {
        let is_recent = |recovery: &Recovery| recovery.age < cooldown(action);
        self.predates_recovery().or_else(|| self.recovery.filter(is_recent))
    }
}

/// Whether the marker says that `action` is not to be carried out: it was, or is overtaken.
pub fn is_done(action: &Action, marker: ActionId) -> bool {
    was_done(action, marker) || marker.is_repetition_of(action.id) && marker.is_newer_than(action.id)
}

/// Whether the marker says that `action` was carried out, for the same change, or for another one within its cooldown. Other items
/// of the same change's list are other actions.
pub fn was_done(action: &Action, marker: ActionId) -> bool {
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    let age = u64::try_from(now).unwrap_or(0).saturating_sub(marker.milliseconds());
    let is_recent = Duration::from_millis(age) < cooldown(action);
    let is_of_other_event = marker.is_repetition_of(action.id) && !marker.is_of_same_event_as(action.id);
    marker.is_same_as(action.id) || is_of_other_event && is_recent
}

fn cooldown(action: &Action) -> Duration {
    Duration::from_secs(u64::from(action.cooldown_hours) * 3_600)
}
