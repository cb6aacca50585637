//! How long an event waits before it is processed, and for what.

use std::time::Duration;

use domain::{Event, event::EventKind};
use ledger::Claimed;
use time::OffsetDateTime;

/// How long an event waits, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub struct EventTiming {
    /// How long an event waits for newer events of its record, which then replace it.
    pub debounce: Duration,
    /// How long an event may take from its claim to its decision. Shorter than the lease, so that the decision can be
    /// committed under it.
    pub time_limit: Duration,
    /// How long after its creation a record may still be without the associations that it is about to get.
    pub association_wait: Duration,
}

impl EventTiming {
    /// How long to wait for newer events: a person who fills in a form causes ten events within moments, and the newest of them is
    /// enough. An event waits at its first claim only, and has waited already for as long as its message was in the queue. The
    /// creation of an engagement is one event.
    pub(super) fn debounce_of(&self, event: &Event, attempt: i32, in_queue: Duration) -> Duration {
        let is_single = event.kind == EventKind::Creation && event.record().object_type.is_engagement();
        if attempt > 1 || is_single {
            return Duration::ZERO;
        }
        self.debounce.saturating_sub(in_queue)
    }

    /// Whether a record of this age may still get its associations: HubSpot's clients create a call, an email or a ticket
    /// first, and associate it with its contact seconds later. An event does not wait longer than a record has for that,
    /// whatever the clocks say.
    pub(super) fn may_be_incomplete(&self, claimed: &Claimed, created_at: Option<OffsetDateTime>) -> bool {
        let is_young = |at: OffsetDateTime| OffsetDateTime::now_utc() - at < self.association_wait;
        claimed.age < self.association_wait && created_at.is_some_and(is_young)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::EventTiming;

    #[test]
    fn an_event_waits_once_from_its_arrival_in_the_queue_and_a_new_note_not_at_all() {
        let event = |type_id: &str, subscription: &str| {
            let element = json!([{"eventId": 1, "portalId": 1, "subscriptionType": subscription, "objectTypeId": type_id,
                "objectId": 7, "occurredAt": 1_795_000_000_000_i64, "propertyName": "notes_last_updated"}]);
            let body = serde_json::to_vec(&element).expect("JSON");
            let parsed = hubspot::webhook::parse(&body).expect("a webhook").pop().expect("an element");
            parsed.event.expect("an event")
        };
        let second = Duration::from_secs(1);
        let timing = EventTiming { debounce: second, time_limit: second, association_wait: second };
        let change = event("0-1", "object.propertyChange");
        assert_eq!(timing.debounce_of(&change, 1, Duration::ZERO), second);
        assert_eq!(
            timing.debounce_of(&change, 1, second.mul_f64(0.75)),
            second.mul_f64(0.25),
            "it waited in the queue"
        );
        assert_eq!(timing.debounce_of(&change, 1, 5 * second), Duration::ZERO);
        assert_eq!(timing.debounce_of(&change, 2, Duration::ZERO), Duration::ZERO);
        assert_eq!(timing.debounce_of(&event("0-46", "object.creation"), 1, Duration::ZERO), Duration::ZERO);
        assert_eq!(timing.debounce_of(&event("0-1", "object.creation"), 1, Duration::ZERO), second);
    }
}
