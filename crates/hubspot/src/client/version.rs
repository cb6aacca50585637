//! The API's versions: one place that builds paths.

use std::fmt;

use domain::ObjectType;
use serde::Deserialize;

/// A version of HubSpot's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum ApiVersion {
    /// `/crm/v3/…`, associations under `/crm/v4/…`; supported until September 2027.
    #[default]
    #[serde(rename = "v3")]
    V3,
    /// The date-based form.
    #[serde(rename = "2026-09")]
    Dated202609,
}

impl ApiVersion {
    /// `…/objects/{type}` with `rest`, which begins with a slash or is empty.
    pub(super) fn objects(self, object_type: &ObjectType, rest: &str) -> String {
        match self {
            Self::V3 => format!("/crm/v3/objects/{}{rest}", object_type.path()),
            Self::Dated202609 => format!("/crm/objects/2026-09/{}{rest}", object_type.path()),
        }
    }

    /// The properties of a type.
    pub(super) fn properties(self, object_type: &ObjectType) -> String {
        match self {
            Self::V3 => format!("/crm/v3/properties/{}", object_type.path()),
            Self::Dated202609 => format!("/crm/properties/2026-09/{}", object_type.path()),
        }
    }

    /// The groups of a type's properties.
    pub(super) fn property_groups(self, object_type: &ObjectType) -> String {
        format!("{}/groups", self.properties(object_type))
    }

    /// The pipelines of a type.
    pub(super) fn pipelines(self, object_type: &ObjectType) -> String {
        match self {
            Self::V3 => format!("/crm/v3/pipelines/{}", object_type.path()),
            Self::Dated202609 => format!("/crm/pipelines/2026-09/{}", object_type.path()),
        }
    }

    /// Reading many records' associations; the one way that both versions have.
    pub(super) fn associations_batch_read(self, from: &ObjectType, to: &ObjectType) -> String {
        match self {
            Self::V3 => format!("/crm/v4/associations/{}/{}/batch/read", from.path(), to.path()),
            Self::Dated202609 => format!("/crm/associations/2026-09/{}/{}/batch/read", from.path(), to.path()),
        }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V3 => "v3",
            Self::Dated202609 => "2026-09",
        })
    }
}
