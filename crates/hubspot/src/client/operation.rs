//! The calls that the client makes.

use std::fmt;

/// A call of HubSpot's API, as errors and the label `operation` of metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reads one record.
    ReadObject,
    /// Reads many records.
    BatchReadObjects,
    /// Reads many records with the histories of their properties.
    BatchReadHistories,
    /// Updates records, many or one.
    BatchUpdateObjects,
    /// Creates many records.
    BatchCreateObjects,
    /// Moves many records to the recycling bin.
    BatchArchiveObjects,
    /// Searches records.
    SearchObjects,
    /// Reads the associations of many records.
    BatchReadAssociations,
    /// Lists the types of associations between two object types.
    ListAssociationLabels,
    /// Lists the property definitions of an object type.
    ListProperties,
    /// Creates a property definition.
    CreateProperty,
    /// Lists the property groups of an object type.
    ListPropertyGroups,
    /// Creates a property group.
    CreatePropertyGroup,
    /// Lists the rules on the values of an object type's properties.
    ListPropertyRules,
    /// Lists the pipelines of an object type.
    ListPipelines,
    /// Describes the access token.
    DescribeToken,
    /// Describes the portal.
    DescribeAccount,
}

impl Operation {
    /// The name in errors and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadObject => "object.read",
            Self::BatchReadObjects => "object.batch_read",
            Self::BatchReadHistories => "object.batch_read_histories",
            Self::BatchUpdateObjects => "object.batch_update",
            Self::BatchCreateObjects => "object.batch_create",
            Self::BatchArchiveObjects => "object.batch_archive",
            Self::SearchObjects => "object.search",
            Self::BatchReadAssociations => "associations.batch_read",
            Self::ListAssociationLabels => "association_labels.list",
            Self::ListProperties => "properties.list",
            Self::CreateProperty => "property.create",
            Self::ListPropertyGroups => "property_groups.list",
            Self::CreatePropertyGroup => "property_group.create",
            Self::ListPropertyRules => "property_rules.list",
            Self::ListPipelines => "pipelines.list",
            Self::DescribeToken => "token.info",
            Self::DescribeAccount => "account.details",
        }
    }

    /// The limit that the call counts against beside the one of all calls; empty for calls without another. The association
    /// endpoints have a lower one of their own (HubSpot's guide to associations).
    pub(super) fn limit(self) -> &'static str {
        match self {
            Self::BatchReadAssociations | Self::ListAssociationLabels => retry::HUBSPOT_ASSOCIATIONS,
            _ => "",
        }
    }

    /// Whether the call waits for a permit of the rate limiter. The description of the token does not: HubSpot
    /// documents no limit for it, and `leadline check` must work when the daily limit is used up.
    pub(super) fn needs_permit(self) -> bool {
        self != Self::DescribeToken
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
