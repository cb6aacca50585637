//! Keeps the fleet's own writes from starting the fleet again.

use std::collections::BTreeSet;

use domain::{AppId, Event, ObjectType, Reason, RecordRef, event::EventKind, write_command::marker_in};
use playbook::Playbook;

use crate::{CrmReader, NothingToDo, StepError, context};

/// Knows what the fleet writes: as which app, which properties, and which types of engagement.
pub struct LoopGuard {
    app_id: AppId,
    written_properties: BTreeSet<(ObjectType, String)>,
    created_engagements: BTreeSet<ObjectType>,
}

impl LoopGuard {
    /// A guard over everything that `playbooks` write as the HubSpot app `app_id`.
    pub fn new<'a>(app_id: AppId, playbooks: impl IntoIterator<Item = &'a Playbook>) -> Self {
        let mut guard = Self { app_id, written_properties: BTreeSet::new(), created_engagements: BTreeSet::new() };
        for playbook in playbooks {
            let properties = playbook.written_properties().into_iter();
            guard.written_properties.extend(properties.map(|(object_type, name)| (object_type, name.to_owned())));
            guard.created_engagements.extend(playbook.created_engagements());
        }
        guard
    }

    /// The properties that any playbook writes.
    pub fn written_properties(&self) -> &BTreeSet<(ObjectType, String)> {
        &self.written_properties
    }

    /// Why `event` starts nothing, as far as the event alone shows: our app made the change, or the changed property is one
    /// that a playbook writes. The second check covers other apps of the portal that copy our properties.
    pub fn stops(&self, event: &Event) -> Option<NothingToDo> {
        if event.is_echo_of(self.app_id) {
            return Some(NothingToDo::dropped(Reason::Echo));
        }
        let changed = event.property_name.clone().filter(|_| event.kind == EventKind::PropertyChange)?;
        let is_ours = self.written_properties.contains(&(event.subject.object_type().clone(), changed));
        is_ours.then(|| NothingToDo::skipped(Reason::PlaybookProperty))
    }

    /// Whether `subject` is a note or task that the fleet created. Its text then contains our marker, even when HubSpot names
    /// another source for the change. Costs one read, and only for types that a playbook creates.
    pub async fn is_our_engagement(&self, crm_reader: &CrmReader, subject: &RecordRef) -> Result<bool, StepError> {
        let object_type = &subject.object_type;
        let is_created = self.created_engagements.contains(object_type);
        let Some(body) = context::body_property(object_type).filter(|_| is_created) else {
            return Ok(false);
        };
        let object = crm_reader.one(object_type, subject.object_id, &[body.to_owned()]).await?;
        Ok(object.properties.get(body).and_then(Option::as_deref).is_some_and(|text| marker_in(text).is_some()))
    }
}
