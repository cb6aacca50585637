//! A write command: the property changes and actions that an inference asks for.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    closed_set::closed_set,
    event::{EventKey, RecordRef},
    ids::{ActionId, EventId, InferenceId, WriteCommandId},
};

/// The property changes and actions that an inference asks for; the body of a message in `leadline.writes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteCommand {
    /// Its id in the ledger.
    pub id: WriteCommandId,
    /// The event it follows from.
    pub event_id: EventId,
    /// That event's key.
    pub event_key: EventKey,
    /// The inference it follows from.
    pub inference_id: InferenceId,
    /// When the event happened; with the key, the order of writes to one record.
    #[serde(with = "time::serde::timestamp::milliseconds")]
    pub occurred_at: OffsetDateTime,
    /// The record to change.
    pub record: RecordRef,
    /// What to set. A value is text, as HubSpot takes it.
    pub properties: Vec<PropertyChange>,
    /// What to do beyond properties, once these are written.
    #[serde(default)]
    pub actions: Vec<Action>,
}

impl WriteCommand {
    /// When it was decided, by the clock of whoever did: the time is in the id.
    pub fn recorded_at(&self) -> OffsetDateTime {
        let (seconds, nanoseconds) = self.id.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
        let at = OffsetDateTime::UNIX_EPOCH + std::time::Duration::new(seconds, nanoseconds);
        at.to_offset(time::UtcOffset::UTC)
    }

    /// Later events win; the key breaks associations, the same way on every replica.
    pub fn order(&self) -> (OffsetDateTime, &EventKey) {
        (self.occurred_at, &self.event_key)
    }
}

/// One property and the value it is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyChange {
    /// The property's internal name.
    pub property: String,
    /// The new value as HubSpot takes it: numbers as decimal text, times as ISO 8601 UTC.
    pub value: String,
    /// When it may replace what is there.
    #[serde(default)]
    pub policy: WritePolicy,
}

/// When a value may replace what a property holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WritePolicy {
    /// Whatever is there.
    Always,
    /// Only where nothing is.
    IfEmpty,
    /// Unless a person set or changed it since the fleet's last write.
    #[default]
    UnlessHuman,
    /// Only a larger number.
    IfHigher,
    /// Only if the event happened after the property was last set, by whomever.
    IfNewer,
}

/// A side effect beyond properties. Its id is the marker by which it is found again when in doubt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Its id in the ledger, and its marker in HubSpot.
    pub id: ActionId,
    /// Its name in the playbook.
    pub name: String,
    /// Within this many hours, the same action of the playbook is not done again for the same record; 0 for always.
    pub cooldown_hours: u32,
    /// What is to be done.
    pub spec: ActionSpec,
}

/// What an action does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ActionSpec {
    /// A task for a person.
    CreateTask(Task),
    /// A note on a record.
    CreateNote {
        /// What it says.
        body: String,
        /// The records it is associated to.
        associations: Vec<RecordRef>,
    },
    /// Moves the command's record, a deal, to another stage of its pipeline.
    MoveDeal {
        /// The stage's label or id.
        stage: String,
    },
    /// A message to a webhook URL that the settings name.
    Notify {
        /// The setting `notify.CHANNEL`.
        channel: String,
        /// What it says.
        text: String,
    },
}

closed_set! {
    /// The kind of an action. The names are those of `kind` in playbooks.
    pub enum ActionKind {
        CreateTask = "create_task", "A task for a person.";
        CreateNote = "create_note", "A note on a record.";
        MoveDeal = "move_deal", "Moves a deal to another stage of its pipeline.";
        Notify = "notify", "A message to a notification channel.";
    }
}

impl ActionSpec {
    /// The kind of this action.
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::CreateTask(_) => ActionKind::CreateTask,
            Self::CreateNote { .. } => ActionKind::CreateNote,
            Self::MoveDeal { .. } => ActionKind::MoveDeal,
            Self::Notify { .. } => ActionKind::Notify,
        }
    }
}

/// A task in HubSpot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its title.
    pub subject: String,
    /// Its text.
    pub body: String,
    /// How urgent it is.
    pub priority: TaskPriority,
    /// `TODO`, `CALL` or `EMAIL`.
    pub task_type: TaskType,
    /// The owner's id; nobody's without.
    pub owner: Option<String>,
    /// When it is due.
    #[serde(with = "time::serde::rfc3339")]
    pub due: OffsetDateTime,
    /// The records it is associated to.
    pub associations: Vec<RecordRef>,
}

/// `hs_task_priority`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "HubSpot's own words")]
pub enum TaskPriority {
    Low,
    #[default]
    Medium,
    High,
}

impl TaskPriority {
    /// HubSpot's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
        }
    }
}

/// `hs_task_type`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "HubSpot's own words")]
pub enum TaskType {
    #[default]
    Todo,
    Call,
    Email,
}

impl TaskType {
    /// HubSpot's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Todo => "TODO",
            Self::Call => "CALL",
            Self::Email => "EMAIL",
        }
    }
}

const MARK: &str = "Leadline action ";

/// The line by which a task or note of ours is known: as ours, and as which one.
pub fn marker(id: ActionId) -> impl fmt::Display {
    format!("{MARK}{id}")
}

/// Whose marker a body holds, if any.
pub fn marker_in(body: &str) -> Option<ActionId> {
    let start = body.find(MARK)? + MARK.len();
    let id = body.get(start..start + uuid::fmt::Hyphenated::LENGTH)?;
    Uuid::parse_str(id).ok().map(ActionId)
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::{Action, ActionSpec, Task, TaskPriority, TaskType, WriteCommand, marker, marker_in};
    use crate::{ActionId, EventId, EventKey, InferenceId, ObjectId, ObjectType, PortalId, RecordRef, WriteCommandId};

    #[test]
    fn a_command_survives_the_queue_and_old_ones_are_still_understood() {
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
            ActionSpec::MoveDeal { stage: "Risk".to_owned() },
            ActionSpec::Notify { channel: "sales".to_owned(), text: "t".to_owned() },
        ];
        for spec in &actions {
            assert_eq!(serde_json::json!(spec)["kind"], spec.kind().as_str());
        }
        let action = |spec| Action { id: ActionId::new(), name: "a".to_owned(), cooldown_hours: 1, spec };
        let command = WriteCommand {
            id: WriteCommandId::new(),
            event_id: EventId::new(),
            event_key: EventKey::from_text("k"),
            inference_id: InferenceId::new(),
            occurred_at: OffsetDateTime::UNIX_EPOCH,
            record,
            properties: vec![],
            actions: actions.into_iter().map(action).collect(),
        };
        let text = serde_json::to_string(&command).expect("written");
        assert_eq!(serde_json::from_str::<WriteCommand>(&text).expect("read"), command);

        let mut old = serde_json::to_value(&command).expect("written");
        old.as_object_mut().expect("an object").remove("actions");
        old["properties"] = serde_json::json!([{"property": "p", "value": "v"}]);
        let old: WriteCommand = serde_json::from_value(old).expect("read");
        assert!(old.actions.is_empty() && old.properties.len() == 1);
    }

    #[test]
    fn a_marker_is_found_in_whatever_surrounds_it() {
        let id = ActionId::new();
        assert_eq!(marker_in(&format!("<p>Call her</p><p>{}</p>", marker(id))), Some(id));
        assert_eq!(marker_in("Leadline action items for today"), None);
        assert_eq!(marker_in("Leadline action ü"), None);
    }
}
