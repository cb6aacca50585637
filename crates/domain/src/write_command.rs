//! A write command: the property changes and actions that an inference requests.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    event::{EventKey, RecordRef},
    ids::{ActionId, EventId, InferenceId, WriteCommandId},
    names::named_values,
    review::WriteTerms,
};

/// The body of a message in `leadline.writes`: which command is to be carried out, and nothing of what it does. Whoever
/// may write to the queue can only have a command carried out that the ledger has recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandMessage {
    /// The id in the ledger.
    pub id: WriteCommandId,
}

/// The property changes and actions that an inference requests for one record, as the ledger has recorded them. Not
/// serialisable as a whole, so that no message can contain one.
///
/// It has more than eight fields because it is one row: four that say where it comes from, and what is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteCommand {
    /// The id in the ledger.
    pub id: WriteCommandId,
    /// The event that led to it.
    pub event_id: EventId,
    /// That event's key.
    pub event_key: EventKey,
    /// The inference that led to it.
    pub inference_id: InferenceId,
    /// When the event happened, in milliseconds. With the key it orders the writes to one record.
    pub occurred_at: OffsetDateTime,
    /// The record to change.
    pub record: RecordRef,
    /// The values to set.
    pub properties: Vec<PropertyChange>,
    /// The actions to perform after the values are set.
    pub actions: Vec<Action>,
    /// Whether it is carried out, or first reviewed.
    pub terms: WriteTerms,
}

impl WriteCommand {
    /// The format that this program records, and the newest that it carries out: what `properties` and `actions` may say in the ledger.
    /// A writer that ignored what it does not know would do something else than was decided, so each new kind of action, policy or
    /// condition is a new format. `crates/maintenance/messages/` has commands of each format as the ledger keeps them.
    ///
    /// 1: as it is now.
    pub const FORMAT: i16 = 1;

    /// When the command was created, by the clock of the worker that created it. The time is part of the UUIDv7 id.
    pub fn recorded_at(&self) -> OffsetDateTime {
        let (seconds, nanoseconds) = self.id.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
        let at = OffsetDateTime::UNIX_EPOCH + std::time::Duration::new(seconds, nanoseconds);
        at.to_offset(time::UtcOffset::UTC)
    }

    /// Since when an attempt may have carried it out: since it was recorded, or, if it was approved, since it was proposed.
    pub fn live_since(&self) -> OffsetDateTime {
        self.terms.approved.as_ref().map_or_else(|| self.recorded_at(), |approved| approved.proposed_at)
    }

    /// The key by which commands for one record are ordered: the later event wins. For events of the same millisecond
    /// the event key decides, so that every replica orders them the same way.
    pub fn order(&self) -> (OffsetDateTime, &EventKey) {
        (self.occurred_at, &self.event_key)
    }
}

/// A property and its new value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyChange {
    /// The property's internal name.
    pub property: String,
    /// The new value in HubSpot's form: numbers as decimal text, times as ISO 8601 UTC.
    pub value: String,
    /// When the new value may replace the current one.
    #[serde(default)]
    pub policy: WritePolicy,
    /// The only current value that the new one may replace: what a reviewer saw, or what an undo takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<ExpectedValue>,
}

/// A value that a property is expected to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedValue {
    /// In HubSpot's form; `None` when the property is empty.
    pub value: Option<String>,
}

/// When a new value may replace the current value of a property.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WritePolicy {
    /// Always.
    Always,
    /// Only if the property is empty.
    IfEmpty,
    /// Unless a person has set or changed the property since the fleet's last write.
    #[default]
    UnlessHuman,
    /// Only if the new value is a larger number.
    IfHigher,
    /// Only if the event happened after the last change of the property, whether a person or a program made it.
    IfNewer,
}

named_values!(WritePolicy {
    Always => "always",
    IfEmpty => "if_empty",
    UnlessHuman => "unless_human",
    IfHigher => "if_higher",
    IfNewer => "if_newer",
});

/// A side effect beyond properties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The id in the ledger. The created task or note contains it as a marker, by which the writer finds the task or
    /// note again when it does not know whether the request succeeded.
    pub id: ActionId,
    /// The action's name in the playbook.
    pub name: String,
    /// For so many hours the same action of the playbook is not performed again for the same record; 0 for no limit.
    pub cooldown_hours: u32,
    /// What to do.
    pub spec: ActionSpec,
}

/// What an action does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ActionSpec {
    /// Creates a task for a person.
    CreateTask(Task),
    /// Creates a note.
    CreateNote {
        /// The note's text.
        body: String,
        /// The records with which the note is associated.
        associations: Vec<RecordRef>,
    },
    /// Moves the command's record, a deal, to another stage of its pipeline.
    MoveDeal(DealStage),
    /// Sends a message to a webhook URL from the settings.
    Notify {
        /// The name of the setting `notify.CHANNEL`.
        channel: String,
        /// The message's text.
        text: String,
    },
    /// Undoes the creation of a task or note, unless a person has changed it.
    DeleteEngagement {
        /// The task or note.
        engagement: RecordRef,
    },
    /// Undoes a move of the command's record, a deal, unless it has moved on.
    MoveDealBack {
        /// The id of the stage to which the deal was moved.
        from: String,
        /// The id of the stage in which it was before.
        to: String,
    },
}

impl ActionSpec {
    /// The kind of the action.
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::CreateTask(_) => ActionKind::CreateTask,
            Self::CreateNote { .. } => ActionKind::CreateNote,
            Self::MoveDeal(_) => ActionKind::MoveDeal,
            Self::Notify { .. } => ActionKind::Notify,
            Self::DeleteEngagement { .. } => ActionKind::DeleteEngagement,
            Self::MoveDealBack { .. } => ActionKind::MoveDealBack,
        }
    }

    /// The records with which what it creates is associated; `None` when it creates nothing.
    pub fn associations_mut(&mut self) -> Option<&mut Vec<RecordRef>> {
        match self {
            Self::CreateTask(Task { associations, .. }) | Self::CreateNote { associations, .. } => Some(associations),
            Self::MoveDeal(_) | Self::Notify { .. } | Self::DeleteEngagement { .. } | Self::MoveDealBack { .. } => None,
        }
    }
}

/// Where a deal is moved to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DealStage {
    /// The stage's label or id.
    pub stage: String,
    /// The label or id of the only pipeline whose deals are moved; `None`: each deal within its own pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
}

/// The kinds of actions. The name of a kind is the same in playbook files, in the ledger and in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActionKind {
    /// See [`ActionSpec::CreateTask`].
    CreateTask,
    /// See [`ActionSpec::CreateNote`].
    CreateNote,
    /// See [`ActionSpec::MoveDeal`].
    MoveDeal,
    /// See [`ActionSpec::Notify`].
    Notify,
    /// See [`ActionSpec::DeleteEngagement`].
    DeleteEngagement,
    /// See [`ActionSpec::MoveDealBack`].
    MoveDealBack,
}

named_values!(ActionKind {
    CreateTask => "create_task",
    CreateNote => "create_note",
    MoveDeal => "move_deal",
    Notify => "notify",
    DeleteEngagement => "delete_engagement",
    MoveDealBack => "move_deal_back",
});

impl ActionKind {
    /// Whether it undoes what another action did. No playbook has such an action.
    pub fn is_undo(self) -> bool {
        matches!(self, Self::DeleteEngagement | Self::MoveDealBack)
    }
}

/// A task in HubSpot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The title.
    pub subject: String,
    /// The text.
    pub body: String,
    /// The priority.
    pub priority: TaskPriority,
    /// The type.
    pub task_type: TaskType,
    /// The id of the HubSpot owner to whom the task is assigned; `None` leaves it unassigned.
    pub owner: Option<String>,
    /// When the task is due.
    #[serde(with = "time::serde::rfc3339")]
    pub due: OffsetDateTime,
    /// The records with which the task is associated.
    pub associations: Vec<RecordRef>,
}

/// A task's priority: the values of HubSpot's property `hs_task_priority`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "HubSpot's own words")]
pub enum TaskPriority {
    Low,
    #[default]
    Medium,
    High,
}

named_values!(TaskPriority { Low => "LOW", Medium => "MEDIUM", High => "HIGH" });

/// A task's type: values of HubSpot's property `hs_task_type`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "HubSpot's own words")]
pub enum TaskType {
    #[default]
    Todo,
    Call,
    Email,
}

named_values!(TaskType { Todo => "TODO", Call => "CALL", Email => "EMAIL" });

const MARKER_PREFIX: &str = "Leadline action ";

/// The line in the body of a task or note that says which action created it.
pub fn marker(id: ActionId) -> impl fmt::Display {
    format!("{MARKER_PREFIX}{id}")
}

/// The action whose marker `body` contains; `None` if the fleet did not create the task or note.
///
/// Of several markers the last counts, because the fleet writes its own at the end: the text before it may quote what a
/// stranger wrote. Anybody can write such a line, so only an action that the ledger knows is one of the fleet's.
pub fn marker_in(body: &str) -> Option<ActionId> {
    body.rmatch_indices(MARKER_PREFIX).find_map(|(start, prefix)| {
        let id = body.get(start + prefix.len()..)?.get(..uuid::fmt::Hyphenated::LENGTH)?;
        Uuid::parse_str(id).ok().map(ActionId)
    })
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::{
        Action, ActionKind, ActionSpec, CommandMessage, DealStage, PropertyChange, Task, TaskPriority, TaskType,
        WritePolicy, marker, marker_in,
    };
    use crate::{ActionId, ObjectId, ObjectType, PortalId, RecordRef, WriteCommandId};

    #[test]
    fn a_message_of_an_earlier_version_still_says_which_command_it_is_about() {
        let id = WriteCommandId::new();
        let old = serde_json::json!({"id": id, "record": {"object_id": 7}, "properties": [], "actions": []});
        assert_eq!(serde_json::from_value::<CommandMessage>(old).expect("parsed"), CommandMessage { id });
    }

    #[test]
    fn actions_are_unchanged_by_the_ledger_and_older_properties_are_still_parsed() {
        let record = RecordRef { portal_id: PortalId(1), object_type: ObjectType::Contact, object_id: ObjectId(7) };
        let task = Task {
            subject: "Call".to_owned(),
            body: String::new(),
            priority: TaskPriority::High,
            task_type: TaskType::Call,
            owner: None,
            due: OffsetDateTime::UNIX_EPOCH,
            associations: vec![record.clone()],
        };
        let actions = [
            ActionSpec::CreateTask(task),
            ActionSpec::CreateNote { body: "b".to_owned(), associations: vec![record.clone()] },
            ActionSpec::MoveDeal(DealStage { stage: "Risk".to_owned(), pipeline: None }),
            ActionSpec::Notify { channel: "sales".to_owned(), text: "t".to_owned() },
            ActionSpec::DeleteEngagement { engagement: record.clone() },
            ActionSpec::MoveDealBack { from: "b".to_owned(), to: "a".to_owned() },
        ];
        let action = |spec| Action { id: ActionId::new(), name: "a".to_owned(), cooldown_hours: 1, spec };
        let actions: Vec<_> = actions.into_iter().map(action).collect();
        for action in &actions {
            let serialized = serde_json::to_value(&action.spec).expect("serialized");
            assert_eq!(serialized["kind"], action.spec.kind().as_str());
        }
        assert_eq!(actions.len(), ActionKind::ALL.len());

        let text = serde_json::to_string(&actions).expect("serialized");
        assert_eq!(serde_json::from_str::<Vec<Action>>(&text).expect("parsed"), actions);

        let old = serde_json::json!({"property": "p", "value": "v"});
        let old: PropertyChange = serde_json::from_value(old).expect("parsed");
        assert_eq!(old.policy, WritePolicy::UnlessHuman);
    }

    #[test]
    fn a_marker_is_found_within_other_text() {
        let id = ActionId::new();
        assert_eq!(marker_in(&format!("<p>Call her</p><p>{}</p>", marker(id))), Some(id));
        assert_eq!(marker_in("Leadline action items for today"), None);
        assert_eq!(marker_in("Leadline action ü"), None);
        let quoted = format!("She wrote: {}<br><br>{}", marker(ActionId::new()), marker(id));
        assert_eq!(marker_in(&quoted), Some(id), "a text that quotes a marker hides none");
        assert_eq!(marker_in(&format!("{} Leadline action x", marker(id))), Some(id));
    }
}
