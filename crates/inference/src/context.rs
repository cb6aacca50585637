//! Reads the context of a record from HubSpot: the record, the records and engagements associated with it, and their texts.

use std::collections::{BTreeMap, BTreeSet};

use domain::{ObjectId, ObjectType, RecordRef};
use futures_util::future::{join, try_join, try_join_all};
use hubspot::client::{CrmObject, MAX_BATCH};
use playbook::{
    Context, ContextPlan, ContextRead, RecordPath, TextFormat,
    context::{ContextEntry, ContextRecord},
    is_forwarded, plain_text, without_quoted_history,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{CrmReader, StepError, TextPool};

/// A context, and what else is known about its first record.
#[derive(Debug)]
pub struct ReadContext {
    /// The context.
    pub context: Context,
    /// When the record that the playbook is about was created.
    pub created_at: Option<OffsetDateTime>,
    /// The properties whose values HubSpot did not show, as `contact.name`.
    pub redacted: BTreeSet<String>,
}

/// What HubSpot shows instead of a sensitive value when the token lacks its scope (HubSpot's guide to sensitive data).
const REDACTED: &str = "REDACTED";

/// Reads the records, properties and engagements that `plan` names, beginning at `record`. Some of the entries may be the
/// fleet's own ([`Context::marked_actions`]).
pub async fn read(
    crm_reader: &CrmReader,
    text_pool: &TextPool,
    record: &RecordRef,
    plan: &ContextPlan,
) -> Result<ReadContext, StepError> {
    let mut created_at = None;
    let mut redacted = BTreeSet::new();
    let reads = plan.reads_for(&record.object_type);
    let mut records = Vec::with_capacity(reads.len());
    let mut written: Vec<Written> = Vec::new();
    for (read, found) in reads.iter().zip(find(crm_reader, record.object_id, &reads).await?) {
        written.extend(found.engagements);
        if read.path.parent().is_none() {
            created_at = found.objects.first().and_then(|object| object.created_at);
        }
        for mut object in found.objects {
            redacted.extend(take_redacted(read.path.end(), &mut object));
            written.extend(own_texts(read, &object));
            records.push(context_record(record, read, object));
        }
    }
    let size = written.iter().map(Written::size).sum();
    let context = move || {
        let entries = written.iter().map(Written::entry).collect();
        let mut context = Context { records, entries };
        context.clean_entries();
        context
    };
    Ok(ReadContext { context: text_pool.run(size, context).await, created_at, redacted })
}

/// What one read of a plan finds.
struct Found {
    objects: Vec<CrmObject>,
    engagements: Vec<Written>,
}

impl Found {
    fn ids(&self) -> Vec<ObjectId> {
        self.objects.iter().map(|object| object.id).collect()
    }
}

/// What each of `reads` finds, in their order. The record is read at the same time as what is associated with it.
async fn find(crm_reader: &CrmReader, id: ObjectId, reads: &[&ContextRead]) -> Result<Vec<Found>, StepError> {
    let Some((own, others)) = reads.split_first() else { return Ok(Vec::new()) };
    let names = property_names(own);
    let around =
        |id| async move { try_join(engagements(crm_reader, own, &[id]), find_others(crm_reader, id, others)).await };
    let (record, first) = join(crm_reader.one(own.path.end(), id, &names), around(id)).await;
    let record = record?;
    // A merged record's old id has no associations, and HubSpot may reject it.
    let (engagements, others) = if record.id == id { first? } else { around(record.id).await? };
    let mut found = vec![Found { objects: vec![record], engagements }];
    found.extend(others);
    Ok(found)
}

/// What each of `reads`, which are about other records than the one with this id, finds. The paths of one length are read at once.
async fn find_others(crm_reader: &CrmReader, id: ObjectId, reads: &[&ContextRead]) -> Result<Vec<Found>, StepError> {
    let mut found: Vec<Found> = Vec::with_capacity(reads.len());
    for level in reads.chunk_by(|one, next| one.path.steps() == next.path.steps()) {
        let of_level = level.iter().filter_map(|read| {
            let parent = read.path.parent()?;
            let known = reads.iter().zip(&found).find(|(read, _)| read.path == parent);
            let from = known.map_or_else(|| vec![id], |(_, found)| found.ids());
            Some(find_associated(crm_reader, parent, from, read))
        });
        found.extend(try_join_all(of_level).await?);
    }
    Ok(found)
}

/// The records at the end of a read's path that any of `from`, which are at its `parent`, is associated with.
async fn find_associated(
    crm_reader: &CrmReader,
    parent: RecordPath,
    from: Vec<ObjectId>,
    read: &ContextRead,
) -> Result<Found, StepError> {
    let ids = associated(crm_reader, parent.end(), &from, read.path.end(), read.max_records).await?;
    let objects = crm_reader.many(read.path.end(), ids, &property_names(read)).await?;
    let mut found = Found { objects, engagements: Vec::new() };
    found.engagements = engagements(crm_reader, read, &found.ids()).await?;
    Ok(found)
}

/// The engagements of the records `of` that a read names.
async fn engagements(crm_reader: &CrmReader, read: &ContextRead, of: &[ObjectId]) -> Result<Vec<Written>, StepError> {
    let kinds = read.engagements.iter().map(|kind| newest(crm_reader, read, of, kind));
    Ok(try_join_all(kinds).await?.into_iter().flatten().collect())
}

/// Clears the values that HubSpot did not show, and returns their properties' names.
fn take_redacted(object_type: &ObjectType, object: &mut CrmObject) -> Vec<String> {
    let hidden = object.properties.iter_mut().filter(|(_, value)| value.as_deref() == Some(REDACTED));
    let clear = |(name, value): (&String, &mut Option<String>)| {
        *value = None;
        let labels = [("object", object_type.name().to_owned()), ("property", name.clone())];
        metrics::counter!("leadline_redacted_values_total", &labels).increment(1);
        format!("{object_type}.{name}")
    };
    hidden.map(clear).collect()
}

/// What people wrote, as HubSpot has it.
struct Written {
    kind: ObjectType,
    id: ObjectId,
    at: OffsetDateTime,
    /// The properties with text, in the order in which they are read.
    texts: Vec<(String, String)>,
    /// Whether it was read as an e-mail, with subject and direction.
    is_mail: bool,
    /// Whether it is an engagement of the record that is enriched, and not of one associated with it.
    is_own: bool,
}

impl Written {
    fn size(&self) -> usize {
        self.texts.iter().map(|(_, text)| text.len()).sum()
    }

    fn entry(&self) -> ContextEntry {
        let text = if self.is_mail { self.mail() } else { self.all() };
        ContextEntry { kind: self.kind.clone(), id: self.id, is_own: self.is_own, at: self.at, text }
    }

    fn all(&self) -> String {
        let texts = self.texts.iter().map(|(name, text)| plain_text(text, TextFormat::of_property(name)));
        texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
    }

    fn mail(&self) -> String {
        let text = |name: &str| {
            let (_, text) = self.texts.iter().find(|(property, _)| property == name)?;
            Some(plain_text(text, TextFormat::of_property(name))).filter(|text| !text.is_empty())
        };
        let direction = match text("hs_email_direction").as_deref() {
            Some("INCOMING_EMAIL") => "received",
            Some("FORWARDED_EMAIL") => "forwarded",
            _ => "sent by us",
        };
        let subject = text("hs_email_subject").unwrap_or_default();
        // HubSpot has both forms of most emails. The plain one was made by the sender's mail program and is preferred.
        let body = text("hs_email_text").or_else(|| text("hs_email_html")).unwrap_or_default();
        let is_forward = direction == "forwarded" || is_forwarded(&subject);
        let body = if is_forward { body } else { without_quoted_history(&body) };
        if body.is_empty() { subject } else { format!("({direction}) {subject}\n{body}") }
    }
}

/// The properties to read, with the time of an engagement.
fn property_names(read: &ContextRead) -> Vec<String> {
    let mut names: Vec<_> = read.properties.iter().chain(&read.texts).cloned().collect();
    if read.path.end().is_engagement() {
        names.push("hs_timestamp".to_owned());
    }
    names
}

/// HubSpot answers a read of a merged record's old id with the record that survived. That one is enriched.
fn context_record(requested: &RecordRef, read: &ContextRead, object: CrmObject) -> ContextRecord {
    let object_type = read.path.end().clone();
    let mut properties = object.properties;
    // Texts become entries, and HubSpot returns some properties that were not requested.
    properties.retain(|name, _| read.properties.contains(name));
    ContextRecord {
        path: read.path.clone(),
        merged: read.path.parent().is_none() && object.id != requested.object_id,
        record: RecordRef { portal_id: requested.portal_id, object_type, object_id: object.id },
        properties,
        archived: object.archived,
        is_text: false,
    }
}

/// At most `max_records` ids of the `kind` records that any of `from` is associated with, each once: primary associations
/// first, then by descending id, which is newest first.
pub async fn associated(
    crm_reader: &CrmReader,
    from_kind: &ObjectType,
    from: &[ObjectId],
    kind: &ObjectType,
    max_records: usize,
) -> Result<Vec<ObjectId>, StepError> {
    let mut all = crm_reader.associated(from_kind, from.to_vec(), kind).await?;
    all.sort_by_key(|association| (!association.is_primary, std::cmp::Reverse(association.id)));
    let mut ids: Vec<ObjectId> = Vec::new();
    for association in all {
        if ids.len() < max_records && !ids.contains(&association.id) {
            ids.push(association.id);
        }
    }
    Ok(ids)
}

/// The newest engagements of one kind that any of `from` is associated with, as many as `read` says. `from` are the records
/// at its path.
async fn newest(
    crm_reader: &CrmReader,
    read: &ContextRead,
    from: &[ObjectId],
    kind: &ObjectType,
) -> Result<Vec<Written>, StepError> {
    let is_own = read.path.parent().is_none();
    // HubSpot's ids grow with time, but people can backdate an engagement: of the hundred highest ids, the newest by date.
    let ids = associated(crm_reader, read.path.end(), from, kind, MAX_BATCH).await?;
    let names: Vec<_> = engagement_properties(kind).iter().map(|name| (*name).to_owned()).collect();
    let found = crm_reader.many(kind, ids, &names).await?;
    let mut newest: Vec<_> = found.iter().map(|object| Written { is_own, ..engagement(kind, object) }).collect();
    newest.sort_by_key(|written| std::cmp::Reverse((written.at, written.id)));
    newest.truncate(read.newest);
    Ok(newest)
}

/// The properties of an engagement to read: its time first, then its texts.
fn engagement_properties(kind: &ObjectType) -> &'static [&'static str] {
    match kind {
        ObjectType::Note => &["hs_timestamp", "hs_note_body"],
        ObjectType::Call => &["hs_timestamp", "hs_call_title", "hs_call_body"],
        ObjectType::Email => {
            &["hs_timestamp", "hs_email_direction", "hs_email_subject", "hs_email_text", "hs_email_html"]
        }
        ObjectType::Meeting => &["hs_timestamp", "hs_meeting_title", "hs_meeting_body", "hs_internal_meeting_notes"],
        ObjectType::Task => &["hs_timestamp", "hs_task_subject", "hs_task_body"],
        ObjectType::Communication => &["hs_timestamp", "hs_communication_body"],
        _ => &["hs_timestamp"],
    }
}

/// The property that contains the fleet's marker when the fleet has created the engagement; `None` for types that it never
/// creates.
pub fn body_property(kind: &ObjectType) -> Option<&'static str> {
    match kind {
        ObjectType::Note => Some("hs_note_body"),
        ObjectType::Task => Some("hs_task_body"),
        _ => None,
    }
}

fn engagement(kind: &ObjectType, object: &CrmObject) -> Written {
    let names = engagement_properties(kind).iter().skip(1).copied();
    let is_mail = *kind == ObjectType::Email;
    let texts = texts(object, names);
    Written { kind: kind.clone(), id: object.id, at: time_of(object), texts, is_mail, is_own: false }
}

/// The texts in a record's own properties, as one entry.
fn own_texts(read: &ContextRead, object: &CrmObject) -> Option<Written> {
    let texts = texts(object, read.texts.iter().map(String::as_str));
    let kind = read.path.end().clone();
    let at = time_of(object);
    (!texts.is_empty()).then_some(Written { kind, id: object.id, at, texts, is_mail: false, is_own: false })
}

fn texts<'a>(object: &CrmObject, names: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    names.filter_map(|name| Some((name.to_owned(), property(&object.properties, name)?))).collect()
}

/// The value of a property that is neither missing nor blank.
fn property(properties: &BTreeMap<String, Option<String>>, name: &str) -> Option<String> {
    properties.get(name).cloned().flatten().filter(|value| !value.trim().is_empty())
}

fn time_of(object: &CrmObject) -> OffsetDateTime {
    let given = property(&object.properties, "hs_timestamp").and_then(|text| parse_time(&text));
    given.or(object.created_at).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// HubSpot writes times as ISO 8601 and, in older data, as milliseconds since 1970.
fn parse_time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().or_else(|| {
        let milliseconds: i64 = text.parse().ok()?;
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::parse_time;

    #[test]
    fn both_forms_of_a_time_are_read() {
        let iso = parse_time("2023-10-27T10:00:00.000Z");
        assert!(iso.is_some());
        assert_eq!(iso, parse_time("1698400800000"));
        assert_eq!(parse_time("yesterday"), None);
        assert_eq!(parse_time("9223372036854775807"), None);
    }
}
