//! Reading the context of a record from HubSpot: the record, what it is associated to, what people wrote.

use std::collections::{BTreeMap, HashMap};

use domain::{ObjectId, ObjectType, RecordRef};
use futures_util::future::try_join_all;
use hubspot::client::{CrmObject, MAX_BATCH};
use playbook::{
    Context, ContextPlan, ContextRead, RecordPath,
    context::{ContextEntry, ContextRecord},
    plain_text, without_quoted_history,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{CrmReader, StepError};

/// Reads what `plan` names about `record`.
pub async fn read(crm_reader: &CrmReader, record: &RecordRef, plan: &ContextPlan) -> Result<Context, StepError> {
    let mut context = Context { records: Vec::new(), entries: Vec::new() };
    let mut found: HashMap<RecordPath, Vec<ObjectId>> = HashMap::new();
    for read in plan.reads_for(&record.object_type) {
        let kind = read.path.end();
        let names = names_of(read);
        let objects = match read.path.parent() {
            None => vec![crm_reader.one(kind, record.object_id, &names).await?],
            Some(parent) => {
                let from = found.get(&parent).map_or(&[][..], Vec::as_slice);
                let ids = associated(crm_reader, parent.end(), from, kind, read.max_records).await?;
                crm_reader.many(kind, ids, &names).await?
            }
        };
        let ids: Vec<_> = objects.iter().map(|object| object.id).collect();
        let engagements =
            read.engagements.iter().map(|kind| newest(crm_reader, read.path.end(), &ids, kind, read.newest));
        context.entries.extend(try_join_all(engagements).await?.into_iter().flatten());
        for object in objects {
            context.entries.extend(own_words(read, &object));
            context.records.push(known(record, read, object));
        }
        found.insert(read.path.clone(), ids);
    }
    context.clean_entries();
    Ok(context)
}

fn names_of(read: &ContextRead) -> Vec<String> {
    let mut names: Vec<_> = read.properties.iter().chain(&read.texts).cloned().collect();
    if read.path.end().is_engagement() {
        names.push("hs_timestamp".to_owned());
    }
    names
}

/// A merged record's old id answers with the one that survived; that is the one to enrich.
fn known(asked: &RecordRef, read: &ContextRead, object: CrmObject) -> ContextRecord {
    let object_type = read.path.end().clone();
    let mut properties = object.properties;
    // Texts are entries; HubSpot adds properties that nobody asked for.
    properties.retain(|name, _| read.properties.contains(name));
    ContextRecord {
        path: read.path.clone(),
        merged: read.path.parent().is_none() && object.id != asked.object_id,
        record: RecordRef { portal_id: asked.portal_id, object_type, object_id: object.id },
        properties,
        archived: object.archived,
    }
}

/// The `kind` records that any of `from` is associated to: primary ones first, then the newest, each once.
pub async fn associated(
    crm_reader: &CrmReader,
    from_kind: &ObjectType,
    from: &[ObjectId],
    kind: &ObjectType,
    max_records: usize,
) -> Result<Vec<ObjectId>, StepError> {
    let mut all = crm_reader.associated(from_kind, from.to_vec(), kind).await?;
    all.sort_by_key(|associate| (!associate.is_primary, std::cmp::Reverse(associate.id)));
    let mut ids: Vec<ObjectId> = Vec::new();
    for associate in all {
        if ids.len() < max_records && !ids.contains(&associate.id) {
            ids.push(associate.id);
        }
    }
    Ok(ids)
}

/// The newest `count` engagements of one kind that any of `from` is associated to.
async fn newest(
    crm_reader: &CrmReader,
    from_kind: &ObjectType,
    from: &[ObjectId],
    kind: &ObjectType,
    count: usize,
) -> Result<Vec<ContextEntry>, StepError> {
    // Ids grow with time, dates can be set back: of the newest hundred by id, the newest by date.
    let ids = associated(crm_reader, from_kind, from, kind, MAX_BATCH).await?;
    let names: Vec<_> = engagement_properties(kind).iter().map(|name| (*name).to_owned()).collect();
    let found = crm_reader.many(kind, ids, &names).await?;
    let mut entries: Vec<_> = found.iter().map(|object| engagement(kind, object)).collect();
    entries.sort_by_key(|entry| std::cmp::Reverse((entry.at, entry.id)));
    entries.truncate(count);
    Ok(entries)
}

/// The properties that hold an engagement's text; the first is its time.
fn engagement_properties(kind: &ObjectType) -> &'static [&'static str] {
    match kind {
        ObjectType::Note => &["hs_timestamp", "hs_note_body"],
        ObjectType::Call => &["hs_timestamp", "hs_call_title", "hs_call_body"],
        ObjectType::Email => {
            &["hs_timestamp", "hs_email_direction", "hs_email_subject", "hs_email_text", "hs_email_html"]
        }
        ObjectType::Meeting => &["hs_timestamp", "hs_meeting_title", "hs_meeting_body", "hs_internal_meeting_notes"],
        ObjectType::Task => &["hs_timestamp", "hs_task_subject", "hs_task_body"],
        _ => &["hs_timestamp"],
    }
}

/// The property in which a fleet's own marker would stand.
pub fn body_property(kind: &ObjectType) -> Option<&'static str> {
    match kind {
        ObjectType::Note => Some("hs_note_body"),
        ObjectType::Task => Some("hs_task_body"),
        _ => None,
    }
}

fn engagement(kind: &ObjectType, object: &CrmObject) -> ContextEntry {
    let value = |name: &str| property(&object.properties, name);
    let text = if *kind == ObjectType::Email {
        let direction = match value("hs_email_direction").as_deref() {
            Some("INCOMING_EMAIL") => "received",
            Some("FORWARDED_EMAIL") => "forwarded",
            _ => "sent by us",
        };
        let subject = value("hs_email_subject").unwrap_or_default();
        // HubSpot keeps both forms; the plain one is what the sender's program made of it.
        let body = value("hs_email_text").or_else(|| value("hs_email_html")).unwrap_or_default();
        let body = without_quoted_history(&plain_text(&body));
        if body.is_empty() { subject } else { format!("({direction}) {subject}\n{body}") }
    } else {
        let texts = engagement_properties(kind).iter().skip(1).filter_map(|name| value(name));
        texts.map(|text| plain_text(&text)).collect::<Vec<_>>().join("\n")
    };
    ContextEntry { kind: kind.clone(), id: object.id, at: time_of(object), text }
}

/// The texts that a record itself holds, as one entry.
fn own_words(read: &ContextRead, object: &CrmObject) -> Option<ContextEntry> {
    let texts = read.texts.iter().filter_map(|name| property(&object.properties, name));
    let text = texts.map(|text| plain_text(&text)).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
    (!text.is_empty()).then(|| ContextEntry { kind: read.path.end().clone(), id: object.id, at: time_of(object), text })
}

fn property(properties: &BTreeMap<String, Option<String>>, name: &str) -> Option<String> {
    properties.get(name).cloned().flatten().filter(|value| !value.trim().is_empty())
}

fn time_of(object: &CrmObject) -> OffsetDateTime {
    let said = property(&object.properties, "hs_timestamp").and_then(|text| instant(&text));
    said.or(object.created_at).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// HubSpot writes times as ISO 8601 and, in older data, as milliseconds.
fn instant(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().or_else(|| {
        let milliseconds: i64 = text.parse().ok()?;
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::instant;

    #[test]
    fn both_forms_of_a_time_are_read() {
        let iso = instant("2023-10-27T10:00:00.000Z");
        assert!(iso.is_some());
        assert_eq!(iso, instant("1698400800000"));
        assert_eq!(instant("yesterday"), None);
        assert_eq!(instant("9223372036854775807"), None);
    }
}
