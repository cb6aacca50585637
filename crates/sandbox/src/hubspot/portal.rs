//! What a portal holds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use domain::ObjectType;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The records of a portal and how they are tied.
#[derive(Default)]
pub(crate) struct Portal {
    objects: HashMap<ObjectType, BTreeMap<i64, Object>>,
    /// From a contact to its notes.
    notes: HashMap<i64, BTreeSet<i64>>,
    /// From an id that was merged away to the one that survived.
    merged: HashMap<i64, i64>,
    next_note: i64,
    pub(crate) left_out_ids: HashSet<i64>,
    pub(crate) rules: HashMap<String, PropertyRule>,
    pub(crate) missing_properties: HashSet<String>,
}

/// A validation rule that somebody set on a property in HubSpot.
pub(crate) struct PropertyRule {
    pub(crate) maximum: i64,
}

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) created: OffsetDateTime,
    pub(crate) updated: OffsetDateTime,
    pub(crate) changes: Vec<Change>,
}

/// One change of a property through the API.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Change {
    /// Its name.
    pub property: String,
    /// What it was set to.
    pub value: String,
    /// In ms since 1970.
    pub at_ms: i64,
}

/// Notes have ids far from those of contacts, as in a real portal.
const FIRST_NOTE: i64 = 40_000_000_000;

impl Portal {
    pub(crate) fn put(&mut self, object_type: &ObjectType, id: i64, properties: BTreeMap<String, String>) {
        let now = OffsetDateTime::now_utc();
        let object = Object { properties, created: now, updated: now, changes: Vec::new() };
        self.objects.entry(object_type.clone()).or_default().insert(id, object);
        self.notes.remove(&id);
    }

    pub(crate) fn add_note(&mut self, contact: i64, body: String) {
        self.next_note += 1;
        let id = FIRST_NOTE + self.next_note;
        let at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let properties = [("hs_note_body".to_owned(), body), ("hs_timestamp".to_owned(), at)];
        self.put(&ObjectType::Note, id, properties.into());
        self.notes.entry(contact).or_default().insert(id);
    }

    pub(crate) fn merge(&mut self, old: i64, survivor: i64) {
        self.merged.insert(old, survivor);
    }

    pub(crate) fn remove(&mut self, object_type: &ObjectType, id: i64) {
        if let Some(objects) = self.objects.get_mut(object_type) {
            objects.remove(&id);
        }
    }

    /// The id that a record answers under.
    pub(crate) fn surviving(&self, id: i64) -> i64 {
        self.merged.get(&id).copied().unwrap_or(id)
    }

    pub(crate) fn get(&self, object_type: &ObjectType, id: i64) -> Option<&Object> {
        self.objects.get(object_type)?.get(&self.surviving(id))
    }

    /// Sets properties and gives back those whose value is another one now.
    pub(crate) fn update(
        &mut self,
        object_type: &ObjectType,
        id: i64,
        values: &BTreeMap<String, String>,
    ) -> Vec<(String, String)> {
        let id = self.surviving(id);
        let Some(object) = self.objects.get_mut(object_type).and_then(|objects| objects.get_mut(&id)) else {
            return Vec::new();
        };
        let now = OffsetDateTime::now_utc();
        let at_ms = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
        let mut changed = Vec::new();
        for (property, value) in values {
            object.changes.push(Change { property: property.clone(), value: value.clone(), at_ms });
            if object.properties.get(property) != Some(value) {
                object.properties.insert(property.clone(), value.clone());
                changed.push((property.clone(), value.clone()));
            }
        }
        object.updated = now;
        changed
    }

    /// The notes of a contact.
    pub(crate) fn notes_of(&self, contact: i64) -> Vec<i64> {
        self.notes.get(&self.surviving(contact)).map(|notes| notes.iter().copied().collect()).unwrap_or_default()
    }
}
