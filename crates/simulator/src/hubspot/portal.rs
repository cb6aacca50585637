//! The records of the portal, their associations and their history.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use domain::ObjectType;
use hubspot::client::MERGED_IDS;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    definitions::{PropertyDefinition, PropertyDefinitions},
    pipelines,
};
use crate::config::Config;

/// What names a record: its object type and its id.
pub(crate) type RecordKey = (ObjectType, i64);

/// A portal's content.
#[derive(Default)]
pub(crate) struct Portal {
    objects: HashMap<ObjectType, BTreeMap<i64, Record>>,
    /// Each association in both directions.
    associations: HashMap<RecordKey, BTreeSet<RecordKey>>,
    primary: HashSet<(RecordKey, RecordKey)>,
    /// From a record that was merged away to the id that survived.
    merged: HashMap<RecordKey, i64>,
    next_id: i64,
    pub(crate) definitions: PropertyDefinitions,
    /// Whether emails are shown without their bodies: HubSpot does so without the scope `sales-email-read`.
    pub(crate) redacts_emails: bool,
    pub(crate) quirks: PortalQuirks,
    /// Searches find what was written until then, however short ago that is.
    pub(crate) indexed_until: Option<OffsetDateTime>,
}

/// How the portal departs from the documented behaviour; see [`Quirks`](crate::admin::Quirks).
#[derive(Default)]
pub(crate) struct PortalQuirks {
    /// How often batch updates leave out which ids.
    pub(crate) left_out_ids: HashMap<i64, u32>,
    /// The largest value that a property's validation rule allows, by property.
    pub(crate) maxima: HashMap<String, i64>,
    /// The property that a deal's stage requires, by stage.
    pub(crate) required_with_stage: HashMap<String, String>,
    /// Whether answers about refused values name the properties in the message only.
    pub(crate) names_in_message_only: bool,
    /// Properties that HubSpot calculates, beside those that are defined so.
    pub(crate) read_only_properties: HashSet<String>,
    /// Defined properties that calls find missing.
    pub(crate) missing_properties: HashSet<String>,
    /// Whether batch reads answer an id that was merged away with the record that survived.
    pub(crate) batch_reads_follow_merges: bool,
    /// Whether a property that was cleared is shown as null.
    pub(crate) null_for_cleared: bool,
}

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) created: OffsetDateTime,
    pub(crate) updated: OffsetDateTime,
    /// Oldest first.
    pub(crate) changes: Vec<RecordedChange>,
    /// The ids of the records that were merged into this one.
    pub(crate) merged_ids: Vec<i64>,
}

impl Record {
    /// The value of a property that HubSpot derives from the record's times or stage; `None` for other properties.
    pub(crate) fn derived(&self, name: &str) -> Option<String> {
        if name == "hs_is_closed" {
            let stage = ["dealstage", "hs_pipeline_stage"].iter().find_map(|name| self.properties.get(*name))?;
            return Some(pipelines::is_closed(stage).to_string());
        }
        if name == MERGED_IDS {
            let ids: Vec<_> = self.merged_ids.iter().map(ToString::to_string).collect();
            return Some(ids.join(";")).filter(|ids| !ids.is_empty());
        }
        self.derived_time(name)?.format(&Rfc3339).ok()
    }

    /// The same as a time.
    pub(crate) fn derived_time(&self, name: &str) -> Option<OffsetDateTime> {
        match name {
            "createdate" | "hs_createdate" => Some(self.created),
            "lastmodifieddate" | "hs_lastmodifieddate" => Some(self.updated),
            _ => None,
        }
    }
}

/// One change of a property, as the history shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordedChange {
    /// The property's name.
    pub property: String,
    /// The new value.
    pub value: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The author's kind: `INTEGRATION` for a call of the API, `CRM_UI` for a person.
    pub source: String,
    /// The id of the app or the user.
    pub source_id: String,
}

/// The author of a change, as HubSpot names it.
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

    /// A change that this author makes now.
    fn change(&self, property: &str, value: &str) -> RecordedChange {
        RecordedChange {
            property: property.to_owned(),
            value: value.to_owned(),
            at_ms: now_ms(),
            source: self.source.clone(),
            source_id: self.id.clone(),
        }
    }
}

/// The ids of created records begin here, far from the ids that tests choose.
const FIRST_ID: i64 = 40_000_000_000;

fn now_ms() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

impl Portal {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            definitions: PropertyDefinitions::of(config.ai_properties),
            redacts_emails: !config.scopes.iter().any(|scope| scope == "sales-email-read"),
            ..Self::default()
        }
    }

    /// Adds a record as `author` set it. An existing record with this key is replaced, and its associations are
    /// removed.
    pub(crate) fn put(&mut self, key: &RecordKey, properties: BTreeMap<String, String>, author: &Author) {
        let now = OffsetDateTime::now_utc();
        let changes = properties.iter().map(|(property, value)| author.change(property, value)).collect();
        let record = Record { properties, created: now, updated: now, changes, merged_ids: Vec::new() };
        self.objects.entry(key.0.clone()).or_default().insert(key.1, record);
        for other in self.associations.remove(key).unwrap_or_default() {
            if let Some(back) = self.associations.get_mut(&other) {
                back.remove(key);
            }
        }
    }

    /// An id that no record has.
    pub(crate) fn fresh_id(&mut self) -> i64 {
        self.next_id += 1;
        FIRST_ID + self.next_id
    }

    /// Adds a note to a contact, as a person would.
    pub(crate) fn add_note(&mut self, contact: i64, body: String) {
        let at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let note = (ObjectType::Note, self.fresh_id());
        let properties = [("hs_note_body".to_owned(), body), ("hs_timestamp".to_owned(), at)];
        self.put(&note, properties.into(), &Author::person());
        self.associate(&note, &(ObjectType::Contact, contact), false);
    }

    /// Associates two records.
    pub(crate) fn associate(&mut self, one: &RecordKey, other: &RecordKey, primary: bool) {
        let (one, other) = (self.survivor(one), self.survivor(other));
        self.associations.entry(one.clone()).or_default().insert(other.clone());
        self.associations.entry(other.clone()).or_default().insert(one.clone());
        if primary {
            self.primary.insert((one.clone(), other.clone()));
            self.primary.insert((other, one));
        }
    }

    /// The ids of the `to` records that `key` is associated with, each with whether the association is the primary one.
    pub(crate) fn associated(&self, key: &RecordKey, to: &ObjectType) -> Vec<(i64, bool)> {
        let key = self.survivor(key);
        let others = self.associations.get(&key).into_iter().flatten().filter(|(kind, _)| kind == to);
        others.map(|other| (other.1, self.primary.contains(&(key.clone(), other.clone())))).collect()
    }

    /// Says that `old` was merged into the record `survivor`: calls about `old` find `survivor`.
    pub(crate) fn redirect(&mut self, old: RecordKey, survivor: i64) {
        self.merged.insert(old, survivor);
    }

    /// Merges records into one with a new id, and returns that id and how many values came from other records than the primary
    /// one; `None` when one of them does not exist.
    ///
    /// The primary record's values become current even where those of the others are newer, and the old ids answer with the new
    /// record (HubSpot's changelog "Updated merge functionality for contacts and companies"). Unverified: that the histories of
    /// all records stay, that the values that were taken over get an entry of their own, and that the record has the age of the
    /// oldest.
    pub(crate) fn merge(&mut self, object_type: &ObjectType, primary: i64, merged: &[i64]) -> Option<(i64, usize)> {
        let ids: Vec<_> = std::iter::once(primary).chain(merged.iter().copied()).collect();
        let of_type = self.objects.get_mut(object_type)?;
        if ids.iter().any(|id| !of_type.contains_key(id)) {
            return None;
        }
        let mut records = ids.iter().filter_map(|id| of_type.remove(id));
        let mut survivor = records.next()?;
        let mut moved = 0;
        for other in records {
            survivor.created = survivor.created.min(other.created);
            survivor.changes.extend(other.changes);
            survivor.merged_ids.extend(other.merged_ids);
            for (name, value) in other.properties {
                let held = survivor.properties.entry(name).or_default();
                if held.is_empty() && !value.is_empty() {
                    *held = value;
                    moved += 1;
                }
            }
        }
        survivor.changes.sort_by_key(|change| change.at_ms);
        let author = Author { source: "MERGE_OBJECTS".to_owned(), id: String::new() };
        let carried_over: Vec<_> =
            survivor.properties.iter().map(|(property, value)| author.change(property, value)).collect();
        survivor.changes.extend(carried_over);
        survivor.updated = OffsetDateTime::now_utc();
        survivor.merged_ids.extend(&ids);
        let new = self.fresh_id();
        self.objects.entry(object_type.clone()).or_default().insert(new, survivor);
        for id in ids {
            let old = (object_type.clone(), id);
            for other in self.associations.remove(&old).unwrap_or_default() {
                if let Some(back) = self.associations.get_mut(&other) {
                    back.remove(&old);
                }
                let is_primary = self.primary.contains(&(old.clone(), other.clone()));
                self.associate(&(object_type.clone(), new), &other, is_primary);
            }
            self.redirect(old, new);
        }
        Some((new, moved))
    }

    /// Deletes a record.
    pub(crate) fn remove(&mut self, key: &RecordKey) {
        if let Some(objects) = self.objects.get_mut(&key.0) {
            objects.remove(&key.1);
        }
    }

    /// The id of the record that a call about `id` finds: another one after a merge, or several.
    pub(crate) fn surviving(&self, object_type: &ObjectType, id: i64) -> i64 {
        let mut id = id;
        while let Some(survivor) = self.merged.get(&(object_type.clone(), id)) {
            id = *survivor;
        }
        id
    }

    /// The record that a batch call finds. HubSpot's guide "Using object APIs" says that batch updates take no id that was merged
    /// away. Whether batch reads answer one is unverified: they do with a quirk.
    pub(crate) fn get_in_batch(&self, object_type: &ObjectType, id: i64, follows_merges: bool) -> Option<&Record> {
        let is_merged = self.surviving(object_type, id) != id;
        self.get(object_type, id).filter(|_| follows_merges || !is_merged)
    }

    fn survivor(&self, key: &RecordKey) -> RecordKey {
        (key.0.clone(), self.surviving(&key.0, key.1))
    }

    /// The record with this id, also after a merge.
    pub(crate) fn get(&self, object_type: &ObjectType, id: i64) -> Option<&Record> {
        self.objects.get(object_type)?.get(&self.surviving(object_type, id))
    }

    /// Every record of a type.
    pub(crate) fn all(&self, object_type: &ObjectType) -> impl Iterator<Item = (i64, &Record)> {
        self.objects.get(object_type).into_iter().flatten().map(|(id, record)| (*id, record))
    }

    /// The definition of a property, unless the quirks say that it is missing.
    pub(crate) fn definition(&self, object_type: &ObjectType, name: &str) -> Option<&PropertyDefinition> {
        self.definitions.get(object_type, name).filter(|_| !self.quirks.missing_properties.contains(name))
    }

    /// Whether HubSpot alone sets a property's values.
    pub(crate) fn is_read_only(&self, definition: &PropertyDefinition) -> bool {
        definition.read_only || self.quirks.read_only_properties.contains(&definition.name)
    }

    /// Sets properties and returns those whose value changed. Every set is part of the history, also of the same value.
    pub(crate) fn update(
        &mut self,
        object_type: &ObjectType,
        id: i64,
        values: &BTreeMap<String, String>,
        author: &Author,
    ) -> Vec<(String, String)> {
        let id = self.surviving(object_type, id);
        let Some(record) = self.objects.get_mut(object_type).and_then(|objects| objects.get_mut(&id)) else {
            return Vec::new();
        };
        let mut changed = Vec::new();
        for (property, value) in values {
            record.changes.push(author.change(property, value));
            if record.properties.get(property) != Some(value) {
                record.properties.insert(property.clone(), value.clone());
                changed.push((property.clone(), value.clone()));
            }
        }
        record.updated = OffsetDateTime::now_utc();
        changed
    }
}
