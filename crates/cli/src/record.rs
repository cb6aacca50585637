//! Records as operators name them.

use anyhow::Context;
use domain::{ObjectId, ObjectType, PortalId, RecordRef};
use settings::Settings;

/// Parses `TYPE/ID`, like `contact/123`, as a record of the portal in the settings.
pub fn parse(text: &str, settings: &Settings) -> anyhow::Result<RecordRef> {
    let (kind, id) =
        text.split_once('/').with_context(|| format!("`{text}` is not a record; write TYPE/ID, like contact/123"))?;
    let object_id = id.parse().with_context(|| format!("`{id}` is not a record id; an id is a number"))?;
    let portal_id = settings.hubspot.portal_id.context("hubspot.portal_id is not set")?;
    Ok(RecordRef {
        portal_id: PortalId(portal_id),
        object_type: ObjectType::from(kind),
        object_id: ObjectId(object_id),
    })
}
