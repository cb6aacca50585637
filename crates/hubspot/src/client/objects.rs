//! CRM objects: read one, read many, write one, write many.

use std::collections::{BTreeMap, HashMap};

use domain::{ObjectId, ObjectType, write_command::PropertyChange};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{Client, Error, ErrorDetail, MAX_BATCH};

/// A record as HubSpot shows it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Object {
    /// Its id; of the record that survived, when the id asked for was merged away.
    #[serde(deserialize_with = "object_id")]
    pub id: ObjectId,
    /// The properties asked for; values are text or null. Unknown names are left out by HubSpot.
    pub properties: BTreeMap<String, Option<String>>,
}

/// A batch read's answer.
#[derive(Debug, Default)]
pub struct BatchRead {
    /// The records that were found.
    pub found: Vec<Object>,
    /// What HubSpot says about the others.
    pub errors: Vec<BatchError>,
}

/// A batch update's answer. A record that is not in `written` was not written, whatever the status code was and
/// even when no error names it.
#[derive(Debug, Default)]
pub struct BatchUpdate {
    /// The records that were written.
    pub written: Vec<ObjectId>,
    /// What HubSpot says about the others.
    pub errors: Vec<BatchError>,
}

/// An error within a 207 answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchError {
    /// `OBJECT_NOT_FOUND`, `VALIDATION_ERROR`, …
    pub category: String,
    /// The records it is about, as far as HubSpot tells.
    pub ids: Vec<ObjectId>,
}

/// One record's changes in a batch update.
#[derive(Debug, Clone)]
pub struct Update<'a> {
    /// The record.
    pub id: ObjectId,
    /// What to set.
    pub changes: &'a [PropertyChange],
}

impl Client {
    /// Reads one record with the named properties. A record that is gone is an error with [`retry::Remedy::Drop`].
    pub async fn read(&self, object_type: &ObjectType, id: ObjectId, properties: &[String]) -> Result<Object, Error> {
        let path = self.version().objects(object_type, &format!("/{id}"));
        let names = properties.join(",");
        let query = if names.is_empty() { vec![] } else { vec![("properties", names.as_str())] };
        self.call("object.read", Method::GET, &path, &query, None::<&()>).await
    }

    /// Reads up to [`MAX_BATCH`] records; missing ones are no error.
    pub async fn read_many(
        &self,
        object_type: &ObjectType,
        ids: &[ObjectId],
        properties: &[String],
    ) -> Result<BatchRead, Error> {
        debug_assert!(ids.len() <= MAX_BATCH);
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            inputs: Vec<Id>,
            properties: &'a [String],
            properties_with_history: [&'a str; 0],
        }
        let inputs = ids.iter().map(|id| Id { id: id.to_string() }).collect();
        let body = Body { inputs, properties, properties_with_history: [] };
        let path = self.version().objects(object_type, "/batch/read");
        let answer: BatchAnswer = self.call("object.batch_read", Method::POST, &path, &[], Some(&body)).await?;
        Ok(BatchRead { found: answer.results, errors: answer.errors.into_iter().map(Into::into).collect() })
    }

    /// Changes one record.
    pub async fn update(&self, object_type: &ObjectType, update: &Update<'_>) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            properties: HashMap<&'a str, &'a str>,
        }
        let path = self.version().objects(object_type, &format!("/{}", update.id));
        let body = Body { properties: values(update.changes) };
        let _: Object = self.call("object.update", Method::PATCH, &path, &[], Some(&body)).await?;
        Ok(())
    }

    /// Changes up to [`MAX_BATCH`] records, no id twice. One call of HubSpot's limit, whatever the number.
    ///
    /// # Errors
    /// One value that HubSpot does not take fails the whole batch with a 400; the caller splits it to find the one.
    pub async fn update_many(&self, object_type: &ObjectType, updates: &[Update<'_>]) -> Result<BatchUpdate, Error> {
        debug_assert!(updates.len() <= MAX_BATCH);
        #[derive(Serialize)]
        struct Body<'a> {
            inputs: Vec<Input<'a>>,
        }
        #[derive(Serialize)]
        struct Input<'a> {
            id: String,
            properties: HashMap<&'a str, &'a str>,
        }
        let inputs =
            updates.iter().map(|update| Input { id: update.id.to_string(), properties: values(update.changes) });
        let body = Body { inputs: inputs.collect() };
        let path = self.version().objects(object_type, "/batch/update");
        let answer: BatchAnswer = self.call("object.batch_update", Method::POST, &path, &[], Some(&body)).await?;
        Ok(BatchUpdate {
            written: answer.results.into_iter().map(|object| object.id).collect(),
            errors: answer.errors.into_iter().map(Into::into).collect(),
        })
    }
}

fn values(changes: &[PropertyChange]) -> HashMap<&str, &str> {
    changes.iter().map(|change| (change.property.as_str(), change.value.as_str())).collect()
}

#[derive(Serialize)]
pub(super) struct Id {
    pub(super) id: String,
}

#[derive(Deserialize)]
struct BatchAnswer {
    results: Vec<Object>,
    #[serde(default)]
    errors: Vec<WireError>,
}

#[derive(Deserialize)]
struct WireError {
    #[serde(default)]
    category: String,
    #[serde(default)]
    context: HashMap<String, Vec<String>>,
    #[serde(default)]
    errors: Vec<ErrorDetail>,
}

impl From<WireError> for BatchError {
    fn from(error: WireError) -> Self {
        let details = error.errors.iter().map(|detail| &detail.context);
        let ids = std::iter::once(&error.context).chain(details).filter_map(|context| context.get("ids"));
        let ids = ids.flatten().filter_map(|id| id.parse().ok()).map(ObjectId).collect();
        Self { category: error.category, ids }
    }
}

pub(super) fn object_id<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ObjectId, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(ObjectId).map_err(|_| serde::de::Error::custom(format!("`{text}` is no object id")))
}
