//! Creates tasks and notes, and finds one again whose creation is in doubt.

use std::time::Instant;

use domain::{
    ActionId, ObjectId, ObjectType, RecordRef,
    write_command::{Action, ActionSpec, Task, marker},
};
use hubspot::{
    HubSpotClient,
    client::{AssociationTarget, NewObject},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    association_types::AssociationTypes,
    batch_creator::BatchCreator,
    failure::ActionError,
    marker_reader::{Marked, MarkerReader},
};

/// The properties that hold the text, and in it the action's marker.
const TASK_BODY: &str = "hs_task_body";
const NOTE_BODY: &str = "hs_note_body";

const TIMESTAMP: &str = "hs_timestamp";
const OWNER: &str = "hubspot_owner_id";

/// Creates and finds tasks and notes.
pub struct Engagements {
    hubspot: HubSpotClient,
    tasks: BatchCreator,
    notes: BatchCreator,
    markers: MarkerReader,
    association_types: AssociationTypes,
}

impl Engagements {
    /// Starts the batches in which `hubspot` creates tasks and notes.
    pub fn new(hubspot: &HubSpotClient) -> Self {
        Self {
            tasks: BatchCreator::start(hubspot, ObjectType::Task, TASK_BODY),
            notes: BatchCreator::start(hubspot, ObjectType::Note, NOTE_BODY),
            markers: MarkerReader::start(hubspot),
            association_types: AssociationTypes::default(),
            hubspot: hubspot.clone(),
        }
    }

    /// Creates a task; the call is not sent after `not_after`. Returns `None` when HubSpot associates a task with none of
    /// the records.
    ///
    /// A task whose owner HubSpot does not know (any more) is created without one: people see it sooner than one that
    /// does not exist.
    pub async fn create_task(
        &self,
        id: ActionId,
        task: &Task,
        not_after: Instant,
    ) -> Result<Option<ObjectId>, ActionError> {
        let mut properties = vec![
            (TIMESTAMP, task.due.format(&Rfc3339).unwrap_or_default()),
            ("hs_task_subject", task.subject.clone()),
            (TASK_BODY, html(&task.body, id)),
            ("hs_task_status", "NOT_STARTED".to_owned()),
            ("hs_task_priority", task.priority.as_str().to_owned()),
            ("hs_task_type", task.task_type.as_str().to_owned()),
        ];
        if let Some(owner) = &task.owner {
            properties.push((OWNER, owner.clone()));
        }
        match self.create(&ObjectType::Task, id, properties.clone(), &task.associations, not_after).await {
            Err(ActionError::HubSpot(error))
                if task.owner.is_some() && error.api().is_some_and(|error| error.is_about(OWNER)) =>
            {
                tracing::warn!(action = %id, "HubSpot rejected the task's owner; creating the task without an owner");
                properties.retain(|(name, _)| *name != OWNER);
                self.create(&ObjectType::Task, id, properties, &task.associations, not_after).await
            }
            created => created,
        }
    }

    /// Creates a note; the call is not sent after `not_after`. Returns `None` when HubSpot associates a note with none of
    /// the records.
    pub async fn create_note(
        &self,
        id: ActionId,
        body: &str,
        associations: &[RecordRef],
        not_after: Instant,
    ) -> Result<Option<ObjectId>, ActionError> {
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let properties = vec![(TIMESTAMP, now), (NOTE_BODY, html(body, id))];
        self.create(&ObjectType::Note, id, properties, associations, not_after).await
    }

    async fn create(
        &self,
        kind: &ObjectType,
        id: ActionId,
        properties: Vec<(&'static str, String)>,
        records: &[RecordRef],
        not_after: Instant,
    ) -> Result<Option<ObjectId>, ActionError> {
        let mut associations = Vec::new();
        for record in records {
            if let Some(association_type) = self.association_types.get(&self.hubspot, kind, &record.object_type).await?
            {
                associations.push(AssociationTarget { to: record.object_id, association_type });
            }
        }
        if associations.is_empty() {
            return Ok(None);
        }
        let creator = if *kind == ObjectType::Task { &self.tasks } else { &self.notes };
        let created = creator.create(id, NewObject { properties, associations }, not_after).await?;
        created.map(Some).ok_or(ActionError::ResultUnknown)
    }

    /// Finds the task or note that an earlier attempt of `action` created, by its marker.
    ///
    /// Returns `None` for other actions: moving a deal may be repeated, and a notification channel cannot be read.
    pub async fn find(&self, action: &Action) -> Result<Option<ObjectId>, ActionError> {
        let marked = self.marked(action, |marker| marker == action.id).await?;
        Ok(marked.first().map(|marked| marked.id))
    }

    /// Finds the tasks or notes of an action's records whose markers are wanted, the newest first.
    pub async fn marked(
        &self,
        action: &Action,
        is_wanted: impl Fn(ActionId) -> bool,
    ) -> Result<Vec<Marked>, ActionError> {
        let (kind, records) = match &action.spec {
            ActionSpec::CreateTask(task) => (ObjectType::Task, &task.associations),
            ActionSpec::CreateNote { associations, .. } => (ObjectType::Note, associations),
            ActionSpec::MoveDeal(_)
            | ActionSpec::Notify { .. }
            | ActionSpec::DeleteEngagement { .. }
            | ActionSpec::MoveDealBack { .. } => return Ok(Vec::new()),
        };
        let mut found = Vec::new();
        for record in records.iter().filter(|record| !record.object_type.is_engagement()) {
            found = self.markers.of(record, &kind).await?;
            found.retain(|marked| is_wanted(marked.action));
            if !found.is_empty() {
                break;
            }
        }
        found.sort_by_key(|marked: &Marked| std::cmp::Reverse(marked.id));
        Ok(found)
    }
}

/// The property that holds the text of a task or note, and in it the action's marker.
pub fn body_of(kind: &ObjectType) -> &'static str {
    if *kind == ObjectType::Task { TASK_BODY } else { NOTE_BODY }
}

/// The text as HTML, with the action's marker. HubSpot renders bodies as HTML, and the text may come from strangers, so
/// every character that could be markup is escaped.
fn html(text: &str, id: ActionId) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    format!("{}<br><br>{}", escaped.lines().collect::<Vec<_>>().join("<br>"), marker(id))
}

#[cfg(test)]
mod tests {
    use domain::{ActionId, write_command::marker_in};

    use super::html;

    #[test]
    fn a_body_contains_no_markup_but_line_breaks() {
        let id = ActionId::new();
        let body = html("Call <b>her</b>\n<script>alert(\"x\")</script>", id);
        assert!(body.starts_with("Call &lt;b&gt;her&lt;/b&gt;<br>&lt;script&gt;"), "{body}");
        assert_eq!(marker_in(&body), Some(id));
    }
}
