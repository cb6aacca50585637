//! Property definitions.

use domain::ObjectType;
use reqwest::Method;
use serde::Deserialize;

use super::{Client, Error};

/// A property as the portal defines it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PropertyDefinition {
    /// Its internal name.
    pub name: String,
    /// `string`, `number`, `datetime`, `date`, `enumeration`, `bool`.
    #[serde(rename = "type")]
    pub kind: String,
}

impl Client {
    /// Every property of a type.
    pub async fn properties(&self, object_type: &ObjectType) -> Result<Vec<PropertyDefinition>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            results: Vec<PropertyDefinition>,
        }
        let path = self.version().properties(object_type);
        let answer: Answer = self.call("properties.list", Method::GET, &path, &[], None::<&()>).await?;
        Ok(answer.results)
    }
}
