//! What a portal holds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use domain::ObjectType;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::properties::{Definition, Definitions};
use crate::Config;

/// An object of the portal.
pub(crate) type Key = (ObjectType, i64);

/// The records of a portal and how they are associated.
#[derive(Default)]
pub(crate) struct Portal {
    objects: HashMap<ObjectType, BTreeMap<i64, Object>>,
    /// Both ways.
    associations: HashMap<Key, BTreeSet<Key>>,
    primary: HashSet<(Key, Key)>,
    /// From an id that was merged away to the one that survived.
    merged: HashMap<i64, i64>,
    next_id: i64,
    pub(crate) definitions: Definitions,
    /// Without the scope `sales-email-read` the bodies of emails come back empty.
    pub(crate) redacts_emails: bool,
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
    /// Oldest first.
    pub(crate) changes: Vec<Change>,
}

impl Object {
    /// What HubSpot itself knows of every object, whoever asks.
    pub(crate) fn derived(&self, name: &str) -> Option<String> {
        let at = match name {
            "createdate" | "hs_createdate" => self.created,
            "lastmodifieddate" | "hs_lastmodifieddate" => self.updated,
            _ => return None,
        };
        at.format(&Rfc3339).ok()
    }
}

/// One change of a property.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Change {
    /// Its name.
    pub property: String,
    /// What it was set to.
    pub value: String,
    /// In ms since 1970.
    pub at_ms: i64,
    /// Who did it: `INTEGRATION` through the API.
    pub source: String,
    /// The app's id, or the user's.
    pub source_id: String,
}

/// Who changes something.
#[derive(Debug, Clone)]
pub(crate) struct Author {
    pub(crate) source: String,
    pub(crate) id: String,
}

impl Author {
    pub(crate) fn person() -> Self {
        Self { source: "CRM_UI".to_owned(), id: "userId:42".to_owned() }
    }

    pub(crate) fn app(id: i64) -> Self {
        Self { source: "INTEGRATION".to_owned(), id: id.to_string() }
    }
}

/// Ids that the portal gives out are far from those that tests choose.
const FIRST_ID: i64 = 40_000_000_000;

fn now_ms() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

impl Portal {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            definitions: Definitions::of(config.ai_properties),
            redacts_emails: !config.scopes.iter().any(|scope| scope == "sales-email-read"),
            ..Self::default()
        }
    }

    /// Puts an object there as `author` made it; one that is there already is replaced, and its associations are cut.
    pub(crate) fn put(&mut self, key: &Key, properties: BTreeMap<String, String>, author: &Author) {
        let now = OffsetDateTime::now_utc();
        let change = |(property, value): (&String, &String)| Change {
            property: property.clone(),
            value: value.clone(),
            at_ms: now_ms(),
            source: author.source.clone(),
            source_id: author.id.clone(),
        };
        let changes = properties.iter().map(change).collect();
        let object = Object { properties, created: now, updated: now, changes };
        self.objects.entry(key.0.clone()).or_default().insert(key.1, object);
        for other in self.associations.remove(key).unwrap_or_default() {
            if let Some(back) = self.associations.get_mut(&other) {
                back.remove(key);
            }
        }
    }

    pub(crate) fn fresh_id(&mut self) -> i64 {
        self.next_id += 1;
        FIRST_ID + self.next_id
    }

    /// Makes a note on a contact, as a person would.
    pub(crate) fn add_note(&mut self, contact: i64, body: String) {
        let at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let note = (ObjectType::Note, self.fresh_id());
        let properties = [("hs_note_body".to_owned(), body), ("hs_timestamp".to_owned(), at)];
        self.put(&note, properties.into(), &Author::person());
        self.associate(&note, &(ObjectType::Contact, contact), false);
    }

    pub(crate) fn associate(&mut self, one: &Key, other: &Key, primary: bool) {
        let (one, other) = (self.survivor(one), self.survivor(other));
        self.associations.entry(one.clone()).or_default().insert(other.clone());
        self.associations.entry(other.clone()).or_default().insert(one.clone());
        if primary {
            self.primary.insert((one.clone(), other.clone()));
            self.primary.insert((other, one));
        }
    }

    /// The `to` objects that `key` is associated to, each with whether it is the primary one.
    pub(crate) fn associated(&self, key: &Key, to: &ObjectType) -> Vec<(i64, bool)> {
        let key = self.survivor(key);
        let others = self.associations.get(&key).into_iter().flatten().filter(|(kind, _)| kind == to);
        others.map(|other| (other.1, self.primary.contains(&(key.clone(), other.clone())))).collect()
    }

    pub(crate) fn merge(&mut self, old: i64, survivor: i64) {
        self.merged.insert(old, survivor);
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        if let Some(objects) = self.objects.get_mut(&key.0) {
            objects.remove(&key.1);
        }
    }

    /// The id that a record answers under.
    pub(crate) fn surviving(&self, id: i64) -> i64 {
        self.merged.get(&id).copied().unwrap_or(id)
    }

    fn survivor(&self, key: &Key) -> Key {
        (key.0.clone(), self.surviving(key.1))
    }

    pub(crate) fn get(&self, object_type: &ObjectType, id: i64) -> Option<&Object> {
        self.objects.get(object_type)?.get(&self.surviving(id))
    }

    /// Every object of a type.
    pub(crate) fn all(&self, object_type: &ObjectType) -> impl Iterator<Item = (i64, &Object)> {
        self.objects.get(object_type).into_iter().flatten().map(|(id, object)| (*id, object))
    }

    /// The definition of a property, unless somebody has deleted it.
    pub(crate) fn definition(&self, object_type: &ObjectType, name: &str) -> Option<&Definition> {
        self.definitions.get(object_type, name).filter(|_| !self.missing_properties.contains(name))
    }

    /// Sets properties and gives back those whose value is another one now.
    pub(crate) fn update(
        &mut self,
        object_type: &ObjectType,
        id: i64,
        values: &BTreeMap<String, String>,
        author: &Author,
    ) -> Vec<(String, String)> {
        let id = self.surviving(id);
        let Some(object) = self.objects.get_mut(object_type).and_then(|objects| objects.get_mut(&id)) else {
            return Vec::new();
        };
        let mut changed = Vec::new();
        for (property, value) in values {
            object.changes.push(Change {
                property: property.clone(),
                value: value.clone(),
                at_ms: now_ms(),
                source: author.source.clone(),
                source_id: author.id.clone(),
            });
            if object.properties.get(property) != Some(value) {
                object.properties.insert(property.clone(), value.clone());
                changed.push((property.clone(), value.clone()));
            }
        }
        object.updated = OffsetDateTime::now_utc();
        changed
    }
}
