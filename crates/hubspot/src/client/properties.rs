//! Property definitions.

use domain::ObjectType;
use serde::{Deserialize, Serialize};

use super::{
    error::HubSpotError,
    operation::Operation,
    transport::{Call, HubSpotClient},
};

/// The definition of a property in the portal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PropertyDefinition {
    /// Its internal name.
    pub name: String,
    /// `string`, `number`, `datetime`, `date`, `enumeration`, `bool`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The values of an enumeration.
    #[serde(default)]
    pub options: Vec<PropertyOption>,
    /// Whether it is archived: HubSpot keeps the values, and takes no new ones.
    #[serde(default)]
    pub archived: bool,
    /// What may be changed about it.
    pub modification_metadata: Option<ModificationMetadata>,
}

/// What may be changed about a property.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModificationMetadata {
    /// Whether HubSpot alone sets its values. The only safe sign: rollups, scores and stage times are `calculated: false`
    /// (answers of HubSpot's properties API).
    #[serde(default)]
    pub read_only_value: bool,
}

impl PropertyDefinition {
    /// Why HubSpot takes no value for it; `None` when it does.
    pub fn not_writable(&self) -> Option<&'static str> {
        let is_read_only = self.modification_metadata.as_ref().is_some_and(|metadata| metadata.read_only_value);
        match (self.archived, is_read_only) {
            (true, _) => Some("is archived"),
            (_, true) => Some("is read-only: HubSpot calculates it"),
            _ => None,
        }
    }
}

/// A property to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewProperty {
    /// Its internal name. HubSpot never frees a name, also not after the property was deleted.
    pub name: String,
    /// The label in HubSpot's pages.
    pub label: String,
    /// The description in HubSpot's pages.
    pub description: String,
    /// `string`, `number`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The form element that edits it: `textarea`, `number`, `date`, `select`, `booleancheckbox`.
    pub field_type: String,
    /// The internal name of its group.
    pub group_name: String,
    /// The values of an enumeration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<PropertyOption>,
}

/// A value of an enumeration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PropertyOption {
    /// The label in HubSpot's pages.
    pub label: String,
    /// The stored value.
    pub value: String,
    /// Its place in the list.
    #[serde(default)]
    pub display_order: i32,
    /// Whether forms leave it out.
    #[serde(default)]
    pub hidden: bool,
}

/// A group of properties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyGroup {
    /// Its internal name.
    pub name: String,
    /// The label in HubSpot's pages.
    pub label: String,
}

#[derive(Deserialize)]
struct Answer<T> {
    results: Vec<T>,
}

impl HubSpotClient {
    /// The property definitions of an object type.
    ///
    /// # Errors
    /// The call fails.
    pub async fn properties(&self, object_type: &ObjectType) -> Result<Vec<PropertyDefinition>, HubSpotError> {
        let path = self.version().properties(object_type);
        let answer: Answer<_> = self.call(&Call::get(Operation::ListProperties, &path, &[])).await?;
        Ok(answer.results)
    }

    /// The property groups of an object type.
    ///
    /// # Errors
    /// The call fails.
    pub async fn property_groups(&self, object_type: &ObjectType) -> Result<Vec<PropertyGroup>, HubSpotError> {
        let path = self.version().property_groups(object_type);
        let answer: Answer<_> = self.call(&Call::get(Operation::ListPropertyGroups, &path, &[])).await?;
        Ok(answer.results)
    }

    /// Creates a property.
    ///
    /// # Errors
    /// A property of this name exists (409), or the call fails.
    pub async fn create_property(&self, object_type: &ObjectType, property: &NewProperty) -> Result<(), HubSpotError> {
        let path = self.version().properties(object_type);
        let _: PropertyDefinition = self.create_call(Operation::CreateProperty, &path, property, None).await?;
        Ok(())
    }

    /// Creates a property group.
    ///
    /// # Errors
    /// A group of this name exists (409), or the call fails.
    pub async fn create_property_group(
        &self,
        object_type: &ObjectType,
        group: &PropertyGroup,
    ) -> Result<(), HubSpotError> {
        let path = self.version().property_groups(object_type);
        let _: PropertyGroup = self.create_call(Operation::CreatePropertyGroup, &path, group, None).await?;
        Ok(())
    }
}
