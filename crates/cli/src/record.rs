//! Records as operators name them.

use anyhow::Context;
use domain::{ObjectId, ObjectType, PortalId, RecordRef};
use settings::Settings;

/// `contact/123`, of the portal in the settings.
pub fn parse(text: &str, settings: &Settings) -> anyhow::Result<RecordRef> {
    let (kind, id) = text.split_once('/').with_context(|| format!("`{text}` is not KIND/ID, like contact/123"))?;
    let object_id = id.parse().with_context(|| format!("`{id}` is no record id"))?;
    let portal_id = settings.hubspot.portal_id.context("hubspot.portal_id is not set")?;
    Ok(RecordRef {
        portal_id: PortalId(portal_id),
        object_type: ObjectType::from(kind),
        object_id: ObjectId(object_id),
    })
}
