//! The versions of the API: the one place that builds paths, and the one that knows when HubSpot ends their support.

use std::fmt;

use domain::ObjectType;
use serde::Deserialize;
use time::{Date, macros::date};

/// A version of HubSpot's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum ApiVersion {
    /// `/crm/v3/…`.
    #[default]
    #[serde(rename = "v3")]
    V3,
    /// The date-based version, `/crm/…/2026-09/…`.
    #[serde(rename = "2026-09")]
    Dated202609,
}

/// A version of the endpoints for associations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum AssociationsVersion {
    /// `/crm/v4/associations/…`.
    #[serde(rename = "v4")]
    V4,
    /// The date-based version, `/crm/associations/2026-09/…`.
    #[default]
    #[serde(rename = "2026-09")]
    Dated202609,
}

/// The versions that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ApiVersions {
    /// Of everything but associations.
    pub api: ApiVersion,
    /// Of associations.
    pub associations: AssociationsVersion,
}

/// A version in use whose support ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndOfSupport {
    /// The version, as people call it.
    pub version: &'static str,
    /// The first day without support.
    pub day: Date,
    /// The setting that chooses another version.
    pub setting: &'static str,
}

/// From how many days before its end a version is warned about: half a year.
const WARNING_DAYS: i64 = 183;

impl ApiVersions {
    /// The versions in use for whose end HubSpot has named a day. A dated version is supported for at least 18 months
    /// (HubSpot's changelog, "Legacy APIs and Apps").
    pub fn ends(self) -> Vec<EndOfSupport> {
        let api = (self.api == ApiVersion::V3).then_some(EndOfSupport {
            version: "v3 of the CRM API",
            // "September 2027", without a day.
            day: date!(2027 - 09 - 01),
            setting: "hubspot.api_version",
        });
        let associations = (self.associations == AssociationsVersion::V4).then_some(EndOfSupport {
            version: "v4 of the associations API",
            day: date!(2027 - 03 - 30),
            setting: "hubspot.associations_version",
        });
        api.into_iter().chain(associations).collect()
    }
}

impl EndOfSupport {
    /// Whether the end is less than half a year away.
    pub fn is_near(&self, today: Date) -> bool {
        (self.day - today).whole_days() < WARNING_DAYS
    }
}

impl fmt::Display for EndOfSupport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubSpot ends its support of {} on {}; set {} = \"2026-09\"", self.version, self.day, self.setting)
    }
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

    /// The path of the rules on the values of an object type's properties.
    pub(super) fn property_rules(self, object_type: &ObjectType) -> String {
        match self {
            Self::V3 => format!("/crm/property-validations/v3/{}", object_type.type_id()),
            Self::Dated202609 => format!("/crm/property-validations/2026-09/{}", object_type.type_id()),
        }
    }

    /// The path of an object type's pipelines.
    pub(super) fn pipelines(self, object_type: &ObjectType) -> String {
        match self {
            Self::V3 => format!("/crm/v3/pipelines/{}", object_type.path()),
            Self::Dated202609 => format!("/crm/pipelines/2026-09/{}", object_type.path()),
        }
    }

    /// The path of the portal's description.
    pub(super) fn account_details(self) -> &'static str {
        match self {
            Self::V3 => "/account-info/v3/details",
            Self::Dated202609 => "/account-info/2026-09/details",
        }
    }
}

impl AssociationsVersion {
    /// The path of the associations between two object types.
    fn between(self, from: &ObjectType, to: &ObjectType) -> String {
        match self {
            Self::V4 => format!("/crm/v4/associations/{}/{}", from.path(), to.path()),
            Self::Dated202609 => format!("/crm/associations/2026-09/{}/{}", from.path(), to.path()),
        }
    }

    /// The path of the batch read, the only read of associations that both versions have.
    pub(super) fn batch_read(self, from: &ObjectType, to: &ObjectType) -> String {
        format!("{}/batch/read", self.between(from, to))
    }

    /// The path of the types of associations between two object types.
    pub(super) fn labels(self, from: &ObjectType, to: &ObjectType) -> String {
        format!("{}/labels", self.between(from, to))
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

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::{ApiVersion, ApiVersions, AssociationsVersion};

    #[test]
    fn the_end_of_a_version_is_near_half_a_year_before_it() {
        let old = ApiVersions { api: ApiVersion::V3, associations: AssociationsVersion::V4 };
        let near =
            |today| old.ends().into_iter().filter(|end| end.is_near(today)).map(|end| end.setting).collect::<Vec<_>>();
        assert!(near(date!(2026 - 09 - 01)).is_empty());
        assert_eq!(near(date!(2026 - 10 - 01)), ["hubspot.associations_version"]);
        assert_eq!(near(date!(2027 - 03 - 15)), ["hubspot.api_version", "hubspot.associations_version"]);
        let dated = ApiVersions { api: ApiVersion::Dated202609, associations: AssociationsVersion::Dated202609 };
        assert!(dated.ends().is_empty());
        assert_eq!(ApiVersions::default().ends().len(), 1, "associations are dated by default");
    }
}
