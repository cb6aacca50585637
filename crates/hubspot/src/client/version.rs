//! The versions of the API: the one place that builds paths.

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
    /// The date-based version, `/crm/…/2026-09/…`.
    #[serde(rename = "2026-09")]
    Dated202609,
}

impl ApiVersion {
    /// The path of an object type's records, followed by `rest`, which is empty or begins with a slash.
    pub(super) fn objects(self, object_type: &ObjectType, rest: &str) -> String {
        match self {
            Self::V3 => format!("/crm/v3/objects/{}{rest}", object_type.path()),
            Self::Dated202609 => format!("/crm/objects/2026-09/{}{rest}", object_type.path()),
        }
    }

    /// The path of an object type's properties.
    pub(super) fn properties(self, object_type: &ObjectType) -> String {
        match self {
            Self::V3 => format!("/crm/v3/properties/{}", object_type.path()),
            Self::Dated202609 => format!("/crm/properties/2026-09/{}", object_type.path()),
        }
    }

    /// The path of an object type's property groups.
    pub(super) fn property_groups(self, object_type: &ObjectType) -> String {
        format!("{}/groups", self.properties(object_type))
    }

    /// The path of an object type's pipelines.
    pub(super) fn pipelines(self, object_type: &ObjectType) -> String {
        match self {
            Self::V3 => format!("/crm/v3/pipelines/{}", object_type.path()),
            Self::Dated202609 => format!("/crm/pipelines/2026-09/{}", object_type.path()),
        }
    }

    /// The path of the batch read of associations, the only read of associations that both versions have.
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
