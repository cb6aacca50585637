//! Keeps the fleet's own writes from starting the fleet again.

use std::{collections::BTreeSet, sync::Arc};

use domain::{AppId, Event, ObjectType, Reason, RecordRef, event::EventKind, write_command::marker_in};
use playbook::Playbook;

use crate::{BatchedLedger, CrmReader, NothingToDo, StepError, context};

/// Knows what the fleet writes: as which app, which properties, and which types of engagement.
pub struct LoopGuard {
    app_id: AppId,
    written_properties: Arc<BTreeSet<(ObjectType, String)>>,
    created_engagements: BTreeSet<ObjectType>,
}

impl LoopGuard {
    /// A guard over everything that `playbooks` write as the HubSpot app `app_id`.
    pub fn new<'a>(app_id: AppId, playbooks: impl IntoIterator<Item = &'a Playbook>) -> Self {
        let (mut written_properties, mut created_engagements) = (BTreeSet::new(), BTreeSet::new());
        for playbook in playbooks {
            let properties = playbook.written_properties().into_iter();
            written_properties.extend(properties.map(|(object_type, name)| (object_type, name.to_owned())));
            created_engagements.extend(playbook.created_engagements());
        }
        Self { app_id, written_properties: Arc::new(written_properties), created_engagements }
    }

    /// The properties that any playbook writes.
    pub fn written_properties(&self) -> &Arc<BTreeSet<(ObjectType, String)>> {
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

    /// Whether `subject` is a note or task that the fleet created. Its text then contains the marker of an action that the
    /// ledger knows, even when HubSpot names another source for the change. Costs one read, and only for types that a playbook
    /// creates.
    pub async fn is_our_engagement(
        &self,
        crm_reader: &CrmReader,
        ledger: &BatchedLedger,
        subject: &RecordRef,
    ) -> Result<bool, StepError> {
        let object_type = &subject.object_type;
        let is_created = self.created_engagements.contains(object_type);
        let Some(body) = context::body_property(object_type).filter(|_| is_created) else {
            return Ok(false);
        };
        let object = crm_reader.one(object_type, subject.object_id, &[body.to_owned()]).await?;
        let marked = object.properties.get(body).and_then(Option::as_deref).and_then(marker_in);
        Ok(!ledger.known_actions(marked.into_iter().collect()).await?.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use domain::EventState;
    use serde_json::json;

    use super::*;

    const LEADS: &str = include_str!("../../../deploy/playbooks/lead-qualification.toml");
    const OURS: AppId = AppId(1_234_567);

    /// What the guard of the shipped lead qualification says about a change of a contact's property.
    fn stops(property: &str, source: &str, source_id: &str) -> Option<(EventState, Reason)> {
        let body = json!([{"eventId": 1, "subscriptionId": 1, "portalId": 1, "appId": OURS.0, "attemptNumber": 0,
            "occurredAt": 1_764_000_000_000_i64, "objectId": 1, "objectTypeId": "0-1",
            "subscriptionType": "contact.propertyChange", "propertyName": property, "propertyValue": "1",
            "changeSource": source, "sourceId": source_id}])
        .to_string();
        let element = hubspot::webhook::parse(body.as_bytes()).expect("an array").pop().expect("one element");
        let playbook = Playbook::parse("lead-qualification.toml", LEADS, &[]).expect("the shipped playbook is valid");
        let guard = LoopGuard::new(OURS, [&playbook]);
        guard.stops(&element.event.expect("an event")).map(|nothing| (nothing.state, nothing.reason))
    }

    #[test]
    fn a_change_by_our_own_app_is_dropped_as_an_echo() {
        let echo = Some((EventState::Dropped, Reason::Echo));
        assert_eq!(stops("notes_last_updated", "INTEGRATION", "1234567"), echo);
        assert_eq!(stops("notes_last_updated", "INTEGRATION", "7654321"), None, "another app of the portal");
        assert_eq!(stops("notes_last_updated", "CRM_UI", "userId:42"), None, "a person");
    }

    #[test]
    fn a_change_of_a_property_that_a_playbook_writes_is_skipped_for_every_source() {
        let skipped = Some((EventState::Skipped, Reason::PlaybookProperty));
        assert_eq!(stops("lead_score", "INTEGRATION", "7654321"), skipped);
        assert_eq!(stops("lead_score", "CRM_UI", "userId:42"), skipped);
    }
}
