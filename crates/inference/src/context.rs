//! Reading the context of an event from HubSpot: the record, what it is tied to, what people wrote.

use std::collections::BTreeMap;

use domain::{
    Context, ObjectType, RecordRef,
    context::{Engagement, plain_text},
    playbook::ContextPlan,
};
use hubspot::{
    Client, Error,
    client::{MAX_BATCH, Object},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// No record's ties are followed beyond this many; who has more notes is no longer one lead.
const MAX_TIES: usize = 2_000;

/// Reads what `plan` names about `record`.
pub async fn read(hubspot: &Client, record: &RecordRef, plan: &ContextPlan) -> Result<Context, Error> {
    let object = hubspot.read(&record.object_type, record.object_id, &plan.properties).await?;
    // A merged record's old id answers with the one that survived; that is the one to enrich.
    let record = RecordRef { object_id: object.id, ..record.clone() };
    let mut engagements = Vec::new();
    for kind in &plan.engagements {
        engagements.extend(newest(hubspot, &record, kind, plan.newest).await?);
    }
    let mut context = Context { record, properties: object.properties, engagements };
    context.tidy();
    Ok(context)
}

/// The newest `count` engagements of one kind.
async fn newest(
    hubspot: &Client,
    record: &RecordRef,
    kind: &ObjectType,
    count: usize,
) -> Result<Vec<Engagement>, Error> {
    let mut ids = hubspot.associated(&record.object_type, record.object_id, kind, MAX_TIES).await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    // Ids grow with time, dates can be set back: of the newest hundred by id, the newest by date.
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids.truncate(MAX_BATCH);
    let names = properties_of(kind);
    let read = hubspot.read_many(kind, &ids, &names).await?;
    let mut engagements: Vec<_> = read.found.iter().map(|object| engagement(kind, object)).collect();
    engagements.sort_by_key(|engagement| std::cmp::Reverse((engagement.at, engagement.id)));
    engagements.truncate(count);
    Ok(engagements)
}

/// The properties that hold an engagement's text; the first is its time.
fn properties_of(kind: &ObjectType) -> Vec<String> {
    let names: &[&str] = match kind {
        ObjectType::Note => &["hs_timestamp", "hs_note_body"],
        _ => &["hs_timestamp"],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn engagement(kind: &ObjectType, object: &Object) -> Engagement {
    let value = |properties: &BTreeMap<String, Option<String>>, name: &str| properties.get(name).cloned().flatten();
    let at = value(&object.properties, "hs_timestamp").and_then(|text| instant(&text));
    let texts = properties_of(kind).into_iter().skip(1).filter_map(|name| value(&object.properties, &name));
    Engagement {
        kind: kind.clone(),
        id: object.id,
        at: at.unwrap_or(OffsetDateTime::UNIX_EPOCH),
        text: texts.map(|text| plain_text(&text)).collect::<Vec<_>>().join("\n"),
    }
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
