//! Property definitions.

use domain::ObjectType;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{error::HubSpotError, transport::HubSpotClient};

/// A property as the portal defines it.
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
}

/// A property to be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewProperty {
    /// Its internal name; never free again, even after it was deleted.
    pub name: String,
    /// What people see.
    pub label: String,
    /// What people see beside it.
    pub description: String,
    /// `string`, `number`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// How it is edited: `textarea`, `number`, `date`, `select`, `booleancheckbox`.
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
    /// What people see.
    pub label: String,
    /// What is stored.
    pub value: String,
    /// Its place in the list.
    #[serde(default)]
    pub display_order: i32,
    /// Whether people are not offered it.
    #[serde(default)]
    pub hidden: bool,
}

/// A group of properties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyGroup {
    /// Its internal name.
    pub name: String,
    /// What people see.
    pub label: String,
}

#[derive(Deserialize)]
struct Answer<T> {
    results: Vec<T>,
}

impl HubSpotClient {
    /// Every property of a type.
    pub async fn properties(&self, object_type: &ObjectType) -> Result<Vec<PropertyDefinition>, HubSpotError> {
        let path = self.version().properties(object_type);
        let answer: Answer<_> = self.call("properties.list", Method::GET, &path, &[], None::<&()>).await?;
        Ok(answer.results)
    }

    /// Every group of a type's properties.
    pub async fn property_groups(&self, object_type: &ObjectType) -> Result<Vec<PropertyGroup>, HubSpotError> {
        let path = self.version().property_groups(object_type);
        let answer: Answer<_> = self.call("property_groups.list", Method::GET, &path, &[], None::<&()>).await?;
        Ok(answer.results)
    }

    /// Creates a property. One of that name that exists already is a 409.
    pub async fn create_property(&self, object_type: &ObjectType, property: &NewProperty) -> Result<(), HubSpotError> {
        let path = self.version().properties(object_type);
        let _: PropertyDefinition = self.create_call("property.create", &path, property, None).await?;
        Ok(())
    }

    /// Creates a group of properties.
    pub async fn create_property_group(
        &self,
        object_type: &ObjectType,
        group: &PropertyGroup,
    ) -> Result<(), HubSpotError> {
        let path = self.version().property_groups(object_type);
        let _: PropertyGroup = self.create_call("property_group.create", &path, group, None).await?;
        Ok(())
    }
}
