//! What our own writes caused starts nothing.

use std::collections::BTreeSet;

use domain::{AppId, Event, EventState, ObjectType, Reason, RecordRef, event::EventKind, write_command::marker_in};
use inference::{CrmReader, StepError, context};
use playbook::Playbook;

/// Knows what the fleet writes: by whom, which properties, which engagements.
pub struct LoopGuard {
    app_id: AppId,
    written: BTreeSet<(ObjectType, String)>,
    created: BTreeSet<ObjectType>,
}

impl LoopGuard {
    pub fn new(app_id: AppId, playbooks: &[Playbook]) -> Self {
        let written = playbooks.iter().flat_map(Playbook::written_properties);
        Self {
            app_id,
            written: written.map(|(kind, name)| (kind, name.to_owned())).collect(),
            created: playbooks.iter().flat_map(Playbook::created_engagements).collect(),
        }
    }

    /// The properties that any playbook writes.
    pub fn written(&self) -> &BTreeSet<(ObjectType, String)> {
        &self.written
    }

    /// Why an event starts nothing, if so. First by who made the change; second by what changed, in case another app of
    /// the portal copies our properties about.
    pub fn stops(&self, event: &Event) -> Option<(EventState, Reason)> {
        if event.is_echo_of(self.app_id) {
            return Some((EventState::Dropped, Reason::Echo));
        }
        let changed = event.property_name.clone().filter(|_| event.kind == EventKind::PropertyChange)?;
        let is_ours = self.written.contains(&(event.subject.object_type().clone(), changed));
        is_ours.then_some((EventState::Skipped, Reason::PlaybookProperty))
    }

    /// Third: a note or task of ours, whoever HubSpot says has touched it, carries our marker. Costs a call, for kinds that
    /// a playbook creates.
    pub async fn is_our_engagement(&self, crm_reader: &CrmReader, subject: &RecordRef) -> Result<bool, StepError> {
        let kind = &subject.object_type;
        let Some(body) = context::body_property(kind).filter(|_| self.created.contains(kind)) else {
            return Ok(false);
        };
        let object = crm_reader.one(kind, subject.object_id, &[body.to_owned()]).await?;
        Ok(object.properties.get(body).and_then(Option::as_deref).is_some_and(|text| marker_in(text).is_some()))
    }
}
