//! What HubSpot holds now in the properties that a batch is about to write.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use domain::{AppId, RecordRef, WriteCommand, write_command::PropertyChange};
use hubspot::client::{ChangeAuthor, PastValue, origin};
use ledger::{LatestWrites, RecordedValue, WrittenProperty};
use time::OffsetDateTime;

use crate::plan::TakenCommand;

/// The most by which HubSpot's clock and ours may differ.
pub(crate) const CLOCK_SKEW: time::Duration = time::Duration::seconds(2);

/// The current values of records, by record and property. A record is absent whose values are not known.
pub type CurrentValues = HashMap<RecordRef, HashMap<String, CurrentValue>>;

/// The current value of one property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentValue {
    /// `None` when the property is empty.
    pub value: Option<String>,
    /// Whether HubSpot shows `null` for it; see [`NullValues`].
    pub is_null: bool,
    /// Who set it.
    pub history: History,
}

/// What is known of the author of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum History {
    /// The history was not read, because it would tell nothing that counts: the policy does not depend on the author, the value is
    /// the one that the fleet wrote last, or the property was never set.
    NotNeeded,
    /// Newest first. Without an entry, it is not known who set the value.
    Read(Vec<PastValue>),
}

impl CurrentValue {
    /// The history, newest first; empty when it was not read.
    pub fn entries(&self) -> &[PastValue] {
        match &self.history {
            History::NotNeeded => &[],
            History::Read(entries) => entries,
        }
    }

    /// The newest entry of the history.
    pub fn last_set(&self) -> Option<&PastValue> {
        self.entries().first()
    }

    /// The entry of the history whose author stands behind the value: behind a value that a merge or a restore carried over
    /// stands who set it before.
    pub fn origin(&self) -> Option<&PastValue> {
        origin(self.entries())
    }

    /// Whether there is a value, and HubSpot was asked who set it and does not say.
    pub fn has_unknown_author(&self) -> bool {
        self.value.is_some() && self.history == History::Read(Vec::new())
    }

    /// Whether the value is the property's default, which nobody chose for this record.
    pub fn is_default(&self) -> bool {
        self.origin().is_some_and(|set| set.author() == ChangeAuthor::Default)
    }

    /// Whether the property has exactly this value. HubSpot makes no difference between an empty and a missing value.
    pub fn equals(&self, value: &str) -> bool {
        self.value.as_deref().unwrap_or_default() == value
    }

    /// The value before a command wrote `proposed`, which is what an undo restores: behind what the fleet wrote and the ledger does not
    /// have.
    pub fn before(&self, own: &OwnEntries<'_>, proposed: &str) -> Option<String> {
        let earlier = self.entries_before(own, proposed);
        if earlier.len() == self.entries().len() {
            return self.value.clone();
        }
        value_of(earlier)
    }

    /// What a person had set the property to before a command wrote `proposed`, if that was the last change.
    pub fn set_by_person(&self, own: &OwnEntries<'_>, proposed: &str) -> Option<&PastValue> {
        origin(self.entries_before(own, proposed)).filter(|set| set.author() == ChangeAuthor::Person)
    }

    /// What an attempt of an approved command has written of `change`, if one has since then and the ledger does not know it. Of our
    /// app's entries the newest counts alone: what the fleet has written after an attempt replaces it. One that makes no difference,
    /// such as a value that the verifier put back, is of no attempt that counts.
    pub fn written_by_attempt(&self, own: &OwnEntries<'_>, change: &PropertyChange) -> Option<WrittenProperty> {
        let PropertyChange { property, value, .. } = change;
        let attempts = UnknownAttempts { since: own.command.live_since(), app: own.app.id, recorded: own.recorded };
        let (place, set) = attempts.written_by(self.entries())?;
        let before = value_of(own.entries_before(&self.entries()[place..], value));
        let is_written = set.value == *value && before.as_ref() != Some(value);
        is_written.then(|| WrittenProperty { property: property.clone(), before, after: value.clone() })
    }

    fn entries_before(&self, own: &OwnEntries<'_>, proposed: &str) -> &[PastValue] {
        own.entries_before(self.entries(), proposed)
    }
}

/// The value of a history; `None` when it is empty.
fn value_of(history: &[PastValue]) -> Option<String> {
    history.first().map(|set| set.value.clone()).filter(|value| !value.is_empty())
}

/// Which of a history's newest entries the fleet made without the ledger's knowledge.
#[derive(Debug, Clone, Copy)]
pub struct OwnEntries<'a> {
    /// The command that writes now.
    pub command: &'a WriteCommand,
    /// Which attempt of it this is. A writer may die after HubSpot has the value and before the ledger has it.
    pub attempt: i32,
    /// Our HubSpot app.
    pub app: OurApp,
    /// The fleet's newest write that the ledger has. A call of a writer that lost its lease may arrive late, and then another command
    /// finds its value.
    pub recorded: Option<RecordedValue<'a>>,
}

/// What attempts of a command may have written without the ledger's knowledge.
#[derive(Debug, Clone, Copy)]
pub struct UnknownAttempts<'a> {
    /// Since when they may have been made.
    pub since: OffsetDateTime,
    /// Our HubSpot app.
    pub app: AppId,
    /// The fleet's newest write that the ledger has.
    pub recorded: Option<RecordedValue<'a>>,
}

impl UnknownAttempts<'_> {
    /// What they wrote last, and its place in the history: our app's newest entry, if they made it.
    pub fn written_by<'h>(&self, history: &'h [PastValue]) -> Option<(usize, &'h PastValue)> {
        let newest = history.iter().enumerate().find(|(_, set)| set.is_by_app(self.app));
        newest.filter(|(_, set)| set.timestamp >= self.since - CLOCK_SKEW && !is_recorded(set, self.recorded))
    }
}

/// Whether the ledger has recorded an entry of a history as the fleet's newest write.
fn is_recorded(set: &PastValue, recorded: Option<RecordedValue<'_>>) -> bool {
    recorded.is_some_and(|known| known.value == set.value && set.timestamp <= known.at + CLOCK_SKEW)
}

/// What the fleet writes as.
#[derive(Debug, Clone, Copy)]
pub struct OurApp {
    /// Our HubSpot app.
    pub id: AppId,
    /// How long before a command was recorded a late call of another writer may have arrived. What is older the ledger once had, and
    /// keeps no longer.
    pub late_within: Duration,
}

impl<'a> OwnEntries<'a> {
    /// Those in the history of a property that a command is about.
    pub fn of(taken: &'a TakenCommand, property: &str, latest: &'a LatestWrites, app: OurApp) -> Self {
        let TakenCommand { command, attempt, .. } = taken;
        Self { command, attempt: *attempt, app, recorded: latest.recorded(&command.record, property) }
    }

    /// What is in a history before them.
    fn entries_before<'h>(&self, history: &'h [PastValue], proposed: &str) -> &'h [PastValue] {
        let count = history.iter().take_while(|set| self.includes(set, proposed)).count();
        &history[count..]
    }

    fn includes(&self, set: &PastValue, proposed: &str) -> bool {
        // Another command may have written the same value between two attempts.
        let is_recorded = is_recorded(set, self.recorded);
        let is_of_earlier_attempt = self.attempt > 1
            && set.author() == ChangeAuthor::Machine
            && set.value == proposed
            && set.timestamp >= self.command.live_since() - CLOCK_SKEW;
        let is_late = set.is_by_app(self.app.id) && set.timestamp >= self.command.recorded_at() - self.app.late_within;
        !is_recorded && (is_of_earlier_attempt || is_late)
    }
}

/// Whether `null` means that a property was never set. HubSpot says so nowhere, but shows an empty text for a property that was
/// cleared, and `null` for one that never had a value (estuary/connectors issue 4272, HubSpot/hubspot-api-nodejs issue 324).
///
/// Who clears a property wants it empty, and only its history says who that was. So the first value that proves the opposite ends
/// the trust of this process, and the histories of all values that are `null` are read from then on.
#[derive(Debug, Default)]
pub struct NullValues {
    are_refuted: AtomicBool,
}

impl NullValues {
    /// Whether `null` can be taken for "never set".
    pub fn mean_never_set(&self) -> bool {
        !self.are_refuted.load(Ordering::Relaxed)
    }

    /// Notes that a property is `null` that was set before.
    pub fn refute(&self, record: &RecordRef, property: &str) {
        if !self.are_refuted.swap(true, Ordering::Relaxed) {
            tracing::warn!(%record, property, "HubSpot shows null for a property that was set before: histories are read for all");
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{
        AppId, EventId, EventKey, InferenceId, ObjectId, ObjectType, PortalId, RecordRef, WriteCommand, WriteCommandId,
        write_command::{PropertyChange, WritePolicy},
    };
    use hubspot::client::PastValue;
    use ledger::RecordedValue;
    use time::{Duration, OffsetDateTime};

    use super::{CurrentValue, History, OurApp, OwnEntries};

    fn app(seconds: u64) -> OurApp {
        OurApp { id: AppId(7), late_within: std::time::Duration::from_secs(seconds) }
    }

    fn command_of(occurred_at: OffsetDateTime) -> WriteCommand {
        WriteCommand {
            id: WriteCommandId::new(),
            event_id: EventId::new(),
            event_key: EventKey::from_text("k"),
            inference_id: InferenceId::new(),
            occurred_at,
            record: RecordRef { portal_id: PortalId(1), object_type: ObjectType::Contact, object_id: ObjectId(1) },
            properties: Vec::new(),
            actions: Vec::new(),
            terms: domain::review::WriteTerms::default(),
        }
    }

    #[test]
    fn the_value_before_is_found_behind_every_attempt_of_the_same_command() {
        let now = OffsetDateTime::now_utc();
        let command = command_of(now);
        let set = |value: &str, source: &str, seconds| PastValue {
            value: value.to_owned(),
            timestamp: now + Duration::seconds(seconds),
            source_type: source.to_owned(),
            source_id: None,
        };
        let current = |history: Vec<PastValue>| CurrentValue {
            value: Some("85".to_owned()),
            is_null: false,
            history: History::Read(history),
        };
        let own = OwnEntries { command: &command, attempt: 2, app: app(60), recorded: None };
        let before = |history| current(history).before(&own, "85");
        let attempts = || vec![set("85", "INTEGRATION", 9), set("85", "INTEGRATION", 5)];
        assert_eq!(before(attempts()), None);
        let after = |earlier| before(attempts().into_iter().chain([earlier]).collect());
        assert_eq!(after(set("7", "CRM_UI", -60)).as_deref(), Some("7"));
        assert_eq!(after(set("", "CRM_UI", -60)), None, "it was cleared before");
        assert_eq!(
            after(set("85", "INTEGRATION", -60)).as_deref(),
            Some("85"),
            "an earlier event wrote the same value"
        );
        assert_eq!(before(vec![set("85", "CRM_UI", 5)]).as_deref(), Some("85"), "a person set it");
        let first = OwnEntries { attempt: 1, ..own };
        let first_attempt = current(attempts()).before(&first, "85");
        assert_eq!(first_attempt.as_deref(), Some("85"), "in the first attempt another command wrote the same value");

        // A call of a writer that lost its lease arrived late: the ledger has no write of its value.
        let ours = |value: &str| PastValue { source_id: Some("7".to_owned()), ..set(value, "INTEGRATION", -30) };
        let before = |history, own: &OwnEntries<'_>| current(history).before(own, "90");
        let first = &first;
        assert_eq!(before(vec![ours("85")], first), None);
        let long_ago = &OwnEntries { app: app(10), ..*first };
        assert_eq!(before(vec![ours("85")], long_ago).as_deref(), Some("85"), "the ledger does not keep it any more");
        assert_eq!(before(vec![ours("85"), set("7", "CRM_UI", -60)], first).as_deref(), Some("7"));
        let known = &OwnEntries { recorded: Some(RecordedValue { value: "85", at: now }), ..*first };
        assert_eq!(before(vec![ours("85")], known).as_deref(), Some("85"), "the ledger has it");
        assert_eq!(before(vec![ours("95"), ours("85")], known).as_deref(), Some("85"));

        // Another command wrote the same value between two attempts, and the ledger has it.
        let recorded = Some(RecordedValue { value: "85", at: now + Duration::seconds(6) });
        let own = OwnEntries { command: &command, attempt: 2, app: app(60), recorded };
        let before = |history| current(history).before(&own, "85");
        assert_eq!(before(vec![set("85", "INTEGRATION", 5), set("7", "CRM_UI", -60)]).as_deref(), Some("85"));
        let again = vec![set("85", "INTEGRATION", 20), set("9", "CRM_UI", 15), set("85", "INTEGRATION", 5)];
        assert_eq!(before(again).as_deref(), Some("9"), "an attempt wrote it again, over what a person had set since");
    }

    /// A late call had put 40 there, which the reviewer saw; then the verifier put the newest value back.
    #[test]
    fn what_an_attempt_replaced_is_in_the_history_and_not_what_a_late_call_had_put_there() {
        let now = OffsetDateTime::now_utc();
        let command = command_of(now);
        let set = |value: &str, by_app: bool, seconds| PastValue {
            value: value.to_owned(),
            timestamp: now + Duration::seconds(seconds),
            source_type: if by_app { "INTEGRATION" } else { "CRM_UI" }.to_owned(),
            source_id: by_app.then(|| "7".to_owned()),
        };
        let (property, value) = ("lead_score".to_owned(), "85".to_owned());
        let change = PropertyChange { property, value, policy: WritePolicy::default(), expected: None };
        let recorded = |value| Some(RecordedValue { value, at: now - Duration::seconds(10) });
        let replaced = |history: Vec<PastValue>, recorded: Option<RecordedValue<'_>>| {
            let value = history.first().map(|set| set.value.clone());
            let current = CurrentValue { value, is_null: false, history: History::Read(history) };
            let own = OwnEntries { command: &command, attempt: 1, app: app(60), recorded };
            current.written_by_attempt(&own, &change).map(|written| written.before)
        };
        let late_and_repaired = || vec![set("85", true, 9), set("40", true, -5), set("85", true, -11)];
        assert_eq!(replaced(late_and_repaired(), recorded("85")), None, "the verifier put it back");
        let changed = [set("12", false, 12)].into_iter().chain(late_and_repaired()).collect();
        assert_eq!(replaced(changed, recorded("85")), None, "a person changed what the verifier put back");
        let over_late = vec![set("85", true, 9), set("40", true, -5), set("70", true, -11)];
        assert_eq!(replaced(over_late, recorded("70")), Some(Some("70".to_owned())));
        let over_person = vec![set("85", true, 9), set("7", false, -5), set("85", true, -11)];
        assert_eq!(replaced(over_person, recorded("85")), Some(Some("7".to_owned())));
        assert_eq!(replaced(vec![set("85", true, 9)], None), Some(None), "it was empty");
    }
}
