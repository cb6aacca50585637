//! What an action's id says.
//!
//! The id is made of the event, the playbook, the record and the action, and of nothing random: a worker that carries out the same
//! action again, with a ledger that has forgotten the first time, finds what it did by the same id. Its form is that of a
//! UUIDv7 whose time is that of the event, and whose other bits are
//!
//! | bits | |
//! |---|---|
//! | 12 | the action's position in the playbook and in its list, so that ids sort in the order in which actions are carried out |
//! | 40 | a digest of what is done to whom: record, playbook, action |
//! | 22 | a digest of the event's other parts |

use uuid::Uuid;

use crate::{
    event::{Event, RecordRef, Subject},
    hash::sha256_hex_of_list,
    ids::ActionId,
};

/// The most by which the times of one change differ, in milliseconds: that of its webhook, and that of the property's history,
/// from which a backfill makes an event.
const TOLERANCE: u64 = 1_000;

const TIME_SHIFT: u32 = 80;
const VERSION: u128 = 7 << 76;
const POSITION_SHIFT: u32 = 64;
const VARIANT: u128 = 0b10 << 62;
const EVENT_BITS: u32 = 22;
const REPEATED_BITS: u32 = 40;

/// The place of an action within what an answer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionPosition {
    /// The action's index in the playbook.
    pub action: usize,
    /// The index of the list's item that it is about; 0 without a list.
    pub item: usize,
}

impl ActionPosition {
    /// Twelve bits. A playbook with more than 32 actions has other digests for those that share a number.
    fn bits(self) -> u128 {
        ((self.action % 32) * 128 + self.item % 128) as u128
    }
}

impl ActionId {
    /// The id of the action `name` of a playbook on `record`, because of `event`.
    pub fn of(event: &Event, playbook: &str, record: &RecordRef, name: &str, position: ActionPosition) -> Self {
        let portal = record.portal_id.to_string();
        let repeated = digest([&portal, record.object_type.type_id(), &record.object_id.to_string(), playbook, name]);
        let property = event.property_name.as_deref().unwrap_or_default();
        let of_event =
            digest([event.subject.object_type().type_id(), &object(&event.subject), event.kind.as_str(), property]);
        let milliseconds = u64::try_from(event.occurred_at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        let time = u128::from(milliseconds) << TIME_SHIFT;
        let repeated = (repeated & low_bits(REPEATED_BITS)) << EVENT_BITS;
        let of_event = of_event & low_bits(EVENT_BITS);
        Self(Uuid::from_u128(time | VERSION | position.bits() << POSITION_SHIFT | VARIANT | repeated | of_event))
    }

    /// Whether both ids are of one action for one change, which a webhook and a backfill may have told with slightly different
    /// times.
    pub fn is_same_as(self, other: Self) -> bool {
        self.agrees_with(other, low_bits(TIME_SHIFT)) && self.is_of_same_time_as(other)
    }

    /// Whether both are for one change, be they different actions, or the same one for other items of a list.
    pub fn is_of_same_event_as(self, other: Self) -> bool {
        self.agrees_with(other, low_bits(EVENT_BITS)) && self.is_of_same_time_as(other)
    }

    /// Whether both are the same action of the same playbook on the same record, be it for different events.
    pub fn is_repetition_of(self, other: Self) -> bool {
        self.agrees_with(other, low_bits(REPEATED_BITS) << EVENT_BITS)
    }

    /// Whether its event is another and newer one.
    pub fn is_newer_than(self, other: Self) -> bool {
        !self.is_of_same_event_as(other) && self.milliseconds() > other.milliseconds()
    }

    fn agrees_with(self, other: Self, bits: u128) -> bool {
        self.0.as_u128() & bits == other.0.as_u128() & bits
    }

    fn is_of_same_time_as(self, other: Self) -> bool {
        self.milliseconds().abs_diff(other.milliseconds()) <= TOLERANCE
    }

    /// When its event happened, in milliseconds since 1970.
    pub fn milliseconds(self) -> u64 {
        u64::try_from(self.0.as_u128() >> TIME_SHIFT).unwrap_or(0)
    }
}

const fn low_bits(count: u32) -> u128 {
    (1 << count) - 1
}

/// The first 64 bits of the texts' SHA-256.
fn digest<const N: usize>(texts: [&str; N]) -> u128 {
    let hex = sha256_hex_of_list(texts);
    hex.get(..16).and_then(|digits| u128::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// What the event happened to, as in its key.
fn object(subject: &Subject) -> String {
    match subject {
        Subject::Record { object_id, .. } => object_id.to_string(),
        Subject::Association { from, to, association, .. } => format!("{from}>{to}/{association}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::{Duration, OffsetDateTime};

    use super::*;
    use crate::{
        event::{EventKey, EventKind},
        ids::{ObjectId, ObjectType, PortalId},
    };

    const FIRST: ActionPosition = ActionPosition { action: 0, item: 0 };

    fn record(id: i64) -> RecordRef {
        RecordRef { portal_id: PortalId(1), object_type: ObjectType::Contact, object_id: ObjectId(id) }
    }

    /// A change of a property of a contact, told by the event with this number.
    fn event(number: i64, property: &str, milliseconds: i64) -> Event {
        let subject = Subject::Record { object_type: ObjectType::Contact, object_id: ObjectId(7) };
        let occurred_at = OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(1_764_000_000_000 + milliseconds);
        Event {
            key: EventKey::from_text(number.to_string()),
            portal_id: PortalId(1),
            kind: EventKind::PropertyChange,
            subject,
            property_name: Some(property.to_owned()),
            occurred_at,
            change_source: None,
            source_id: None,
            payload: json!({}).into(),
        }
    }

    fn id(event: &Event, name: &str, position: ActionPosition) -> ActionId {
        ActionId::of(event, "leads", &record(7), name, position)
    }

    #[test]
    fn the_same_action_for_the_same_change_has_the_same_id_whoever_tells_of_it() {
        let (webhook, backfilled) = (event(4_711, "notes", 0), event(0, "notes", 0));
        assert_eq!(id(&webhook, "call", FIRST), id(&backfilled, "call", FIRST));
        let late = event(0, "notes", 900);
        assert_ne!(id(&webhook, "call", FIRST), id(&late, "call", FIRST));
        assert!(id(&webhook, "call", FIRST).is_same_as(id(&late, "call", FIRST)));
        assert!(!id(&webhook, "call", FIRST).is_same_as(id(&event(0, "notes", 1_100), "call", FIRST)));
    }

    #[test]
    fn another_action_record_property_or_item_has_another_id() {
        let one = id(&event(1, "notes", 0), "call", FIRST);
        let second_item = ActionPosition { action: 0, item: 1 };
        let others = [
            id(&event(1, "notes", 0), "write", FIRST),
            id(&event(1, "phone", 0), "call", FIRST),
            id(&event(1, "notes", 0), "call", second_item),
            ActionId::of(&event(1, "notes", 0), "leads", &record(8), "call", FIRST),
            ActionId::of(&event(1, "notes", 0), "tickets", &record(7), "call", FIRST),
            ActionId::new(),
        ];
        assert!(others.iter().all(|other| *other != one && !other.is_same_as(one)), "{others:?}");
    }

    #[test]
    fn a_later_event_repeats_an_action_and_ids_sort_as_actions_are_carried_out() {
        let (earlier, later) =
            (id(&event(1, "notes", 0), "call", FIRST), id(&event(2, "phone", 60_000), "call", FIRST));
        assert!(later.is_repetition_of(earlier) && !later.is_same_as(earlier));
        assert!(later.is_newer_than(earlier) && !earlier.is_newer_than(later));
        assert!(!id(&event(2, "phone", 60_000), "write", FIRST).is_repetition_of(earlier));
        let item = |item| id(&event(1, "notes", 0), "call", ActionPosition { action: 3, item });
        let ids: Vec<_> = (0..100).map(item).collect();
        assert!(ids.is_sorted() && ids[0] > earlier && ids[99] < later, "{ids:?}");
        assert_eq!((earlier.0.get_version_num(), earlier.milliseconds()), (7, 1_764_000_000_000));
    }

    /// Only the times of one change differ between those who tell of it.
    #[test]
    fn another_event_is_newer_by_a_millisecond_and_another_item_of_the_same_event_never() {
        let one = id(&event(1, "notes", 500), "call", FIRST);
        let of_phone = |milliseconds| id(&event(2, "phone", milliseconds), "call", FIRST);
        assert!(of_phone(501).is_newer_than(one) && !of_phone(500).is_newer_than(one));
        assert!(!of_phone(499).is_newer_than(one), "it is older");
        let second_item = id(&event(1, "notes", 900), "call", ActionPosition { action: 0, item: 1 });
        assert!(second_item.is_repetition_of(one) && second_item.is_of_same_event_as(one));
        assert!(!second_item.is_newer_than(one) && !second_item.is_same_as(one));
    }
}
