//! What a playbook writes and does with an answer, as its file says it.

use domain::{
    review::{ApprovalRule, WriteMode},
    write_command::{ActionKind, DealStage, TaskPriority, TaskType, WritePolicy},
};

use crate::{
    path::RecordPath,
    templates::{Condition, TextTemplate},
};

/// What of a playbook's writes and actions is reviewed first, and what needs no person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReviewPlan {
    /// The mode of all writes and actions that have no more careful one of their own.
    pub mode: WriteMode,
    /// So many percent of the records are live and the others in shadow; `None`: all have the playbook's mode.
    pub canary: Option<usize>,
    /// The rules that approve a proposal without a person.
    pub approve_if: Vec<ApprovalPlan>,
}

/// A rule that approves a proposal without a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalPlan {
    /// The rule.
    pub rule: ApprovalRule,
    /// The variables that the condition uses.
    pub(crate) uses: Vec<String>,
}

/// A property that a playbook writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyWrite {
    /// The property's internal name.
    pub property: String,
    /// The records whose property is written.
    pub to: Vec<RecordPath>,
    /// Where the value comes from.
    pub value: WriteValue,
    /// When the value may replace the current one.
    pub policy: WritePolicy,
    /// Whether it is written, or first reviewed. The playbook's mode may be more careful.
    pub mode: WriteMode,
}

/// Where a written value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteValue {
    /// A field of the answer, by its name.
    Field(String),
    /// A text with variables.
    Text(TextTemplate),
    /// Data about the inference itself.
    Metadata(InferenceMetadata),
    /// A sentence about where the value of another property comes from.
    Explanation {
        /// The property that is explained.
        property: String,
        /// The field whose values it has.
        field: String,
    },
}

/// Data about an inference that a playbook may write to a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InferenceMetadata {
    /// When the answer was accepted, as ISO 8601 UTC.
    ProcessedAt,
    /// The model snapshot that answered.
    Model,
    /// The playbook as `name@version`.
    Playbook,
}

/// An action that a playbook may request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionPlan {
    /// The action's name.
    pub name: String,
    /// The action is requested only if this condition holds; `None` requests it for every answer.
    pub when: Option<Condition>,
    /// The name of a list field: the action is requested once for each item.
    pub for_each: Option<String>,
    /// The maximum number of items; further items of the list are ignored.
    pub max_items: usize,
    /// The records with which the task or note is associated, or the deals that are moved.
    pub on: Vec<RecordPath>,
    /// For so many hours the action is not performed again for the same record; 0 for no limit.
    pub cooldown_hours: u32,
    /// Whether it is performed, or first reviewed. The playbook's mode may be more careful.
    pub mode: WriteMode,
    /// What the action does.
    pub spec: ActionTemplate,
}

/// What an action does, as texts with variables; the counterpart of `ActionSpec`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of `ActionSpec`")]
pub enum ActionTemplate {
    CreateTask {
        subject: TextTemplate,
        body: Option<TextTemplate>,
        owner: Option<TextTemplate>,
        /// A day or a time. `due_in_hours` applies if it is absent, empty or no date.
        due: Option<TextTemplate>,
        due_in_hours: u32,
        priority: TaskPriority,
        task_type: TaskType,
    },
    CreateNote {
        body: TextTemplate,
    },
    MoveDeal(DealStage),
    Notify {
        channel: String,
        text: TextTemplate,
    },
}

impl ActionTemplate {
    /// The kind of the action.
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::CreateTask { .. } => ActionKind::CreateTask,
            Self::CreateNote { .. } => ActionKind::CreateNote,
            Self::MoveDeal(_) => ActionKind::MoveDeal,
            Self::Notify { .. } => ActionKind::Notify,
        }
    }
}
