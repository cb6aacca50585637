//! CRM objects: reading and updating, one or many at once.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use domain::{AppId, ObjectId, ObjectType, write_command::PropertyChange};
use serde::{Deserialize, Serialize, de::Visitor};
use time::OffsetDateTime;

use super::{
    change_source::ChangeAuthor,
    error::{HubSpotApiError, HubSpotError, VALIDATION_ERROR},
    error_body::ErrorBody,
    operation::Operation,
    transport::{Call, HubSpotClient},
};

/// The most inputs of one batch call on objects (HubSpot's documentation of batch endpoints).
pub const MAX_BATCH: usize = 100;

/// The most inputs of a batch read with property histories (HubSpot's documentation: 50).
pub const MAX_HISTORY_BATCH: usize = MAX_BATCH / 2;

/// The property that holds the ids of the records that were merged into this one, joined with `;` (HubSpot's guide "Using object
/// APIs").
pub const MERGED_IDS: &str = "hs_merged_object_ids";

/// A record as HubSpot returns it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct CrmObject {
    /// Its id. When the requested id was merged into another record, the id of that record.
    #[serde(deserialize_with = "object_id")]
    pub id: ObjectId,
    /// The requested properties; values are text or null. HubSpot leaves out names that it does not know.
    #[serde(default)]
    pub properties: BTreeMap<String, Option<String>>,
    /// The values of the properties whose history was requested, newest first, the current value included.
    #[serde(default, rename = "propertiesWithHistory")]
    pub history: BTreeMap<String, Vec<PastValue>>,
    /// Whether it is archived.
    #[serde(default)]
    pub archived: bool,
    /// When it was created.
    #[serde(default, rename = "createdAt", with = "time::serde::rfc3339::option")]
    pub created_at: Option<OffsetDateTime>,
}

impl CrmObject {
    /// The ids of the records that were merged into this one, if [`MERGED_IDS`] was requested.
    pub fn merged_ids(&self) -> Vec<ObjectId> {
        let listed = self.properties.get(MERGED_IDS).and_then(Option::as_deref).unwrap_or_default();
        listed.split(';').filter_map(|id| id.trim().parse().ok()).map(ObjectId).collect()
    }
}

/// A value that a property has or had.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PastValue {
    /// The value; empty when the property was cleared.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub value: String,
    /// When it was set.
    #[serde(with = "time::serde::rfc3339")]
    pub timestamp: OffsetDateTime,
    /// The kind of its author: `CRM_UI`, `INTEGRATION`, …
    pub source_type: String,
    /// The author's id; for `INTEGRATION` the app id.
    #[serde(default)]
    pub source_id: Option<String>,
}

impl PastValue {
    /// Who set it, as far as HubSpot says.
    pub fn author(&self) -> ChangeAuthor {
        ChangeAuthor::of(&self.source_type)
    }

    /// Whether `app` set it with its own token.
    pub fn is_by_app(&self, app: AppId) -> bool {
        app.is_source(Some(&self.source_type), self.source_id.as_deref())
    }
}

/// The changes of one record.
#[derive(Debug, Clone)]
pub struct ObjectUpdate<'a> {
    /// The record.
    pub id: ObjectId,
    /// The properties to set.
    pub changes: &'a [PropertyChange],
}

impl HubSpotClient {
    /// Reads one record with the named properties.
    ///
    /// # Errors
    /// A record that does not exist (404) is an error with [`retry::RetryAction::Discard`].
    pub async fn read(
        &self,
        object_type: &ObjectType,
        id: ObjectId,
        properties: &[String],
    ) -> Result<CrmObject, HubSpotError> {
        self.read_with_history(object_type, id, properties, &[]).await
    }

    /// Reads one record with the named properties, and with the histories of some. Unlike a batch call it also finds the record
    /// that this one was merged into.
    ///
    /// # Errors
    /// As [`HubSpotClient::read`].
    pub async fn read_with_history(
        &self,
        object_type: &ObjectType,
        id: ObjectId,
        properties: &[String],
        with_history: &[String],
    ) -> Result<CrmObject, HubSpotError> {
        let path = self.version().objects(object_type, &format!("/{id}"));
        let lists = [("properties", properties.join(",")), ("propertiesWithHistory", with_history.join(","))];
        let query: Vec<_> =
            lists.iter().filter(|(_, names)| !names.is_empty()).map(|(name, names)| (*name, names.as_str())).collect();
        self.call(&Call::get(Operation::ReadObject, &path, &query)).await
    }

    /// Reads up to [`MAX_BATCH`] records and returns those that exist.
    ///
    /// # Errors
    /// The call fails as a whole.
    pub async fn read_many(
        &self,
        object_type: &ObjectType,
        ids: &[ObjectId],
        properties: &[String],
    ) -> Result<Vec<CrmObject>, HubSpotError> {
        self.batch_read(object_type, ids, properties, &[]).await
    }

    /// Reads records with the named properties and their histories, in calls of at most 50 records, and returns those
    /// that exist.
    ///
    /// # Errors
    /// The first call that fails.
    pub async fn read_history(
        &self,
        object_type: &ObjectType,
        ids: &[ObjectId],
        properties: &[String],
    ) -> Result<Vec<CrmObject>, HubSpotError> {
        let mut all = Vec::new();
        for ids in ids.chunks(MAX_HISTORY_BATCH) {
            all.extend(self.batch_read(object_type, ids, properties, properties).await?);
        }
        Ok(all)
    }

    async fn batch_read(
        &self,
        object_type: &ObjectType,
        ids: &[ObjectId],
        properties: &[String],
        properties_with_history: &[String],
    ) -> Result<Vec<CrmObject>, HubSpotError> {
        debug_assert!(ids.len() <= MAX_BATCH);
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            inputs: Vec<Id>,
            properties: &'a [String],
            properties_with_history: &'a [String],
        }
        let inputs = ids.iter().map(|id| Id { id: id.to_string() }).collect();
        let body = Body { inputs, properties, properties_with_history };
        let path = self.version().objects(object_type, "/batch/read");
        let operation = if properties_with_history.is_empty() {
            Operation::BatchReadObjects
        } else {
            Operation::BatchReadHistories
        };
        Self::count_inputs(operation, object_type, ids.len());
        let answer: BatchAnswer<CrmObject> = self.call(&Call::post(operation, &path, &body)).await?;
        Ok(answer.results)
    }

    /// Updates one record, as a batch of one. Returns whether it was written: a record that is gone was not, and one that was merged
    /// into another one was not either. The update of a single object takes the old id and changes the record that survived, over
    /// values that no policy has looked at; a batch update does not take it, and costs one call as well (HubSpot's guide "Using
    /// object APIs").
    ///
    /// # Errors
    /// An invalid value is a 400, also where the answer is a 207 whose error says so.
    pub async fn update(&self, object_type: &ObjectType, update: &ObjectUpdate<'_>) -> Result<bool, HubSpotError> {
        let answer = self.batch_update(object_type, std::slice::from_ref(update)).await?;
        if answer.results.iter().any(|written| written.id == update.id) {
            return Ok(true);
        }
        answer.refusal().map_or(Ok(false), Err)
    }

    /// Updates up to [`MAX_BATCH`] records; no id may occur twice. The rate limit counts one call, however many
    /// records. Returns the ids of the records that were written: one that is missing was not written, whatever the
    /// status code, and also when no error names it.
    ///
    /// # Errors
    /// One invalid value fails the whole batch with a 400; the caller splits the batch to find it.
    pub async fn update_many(
        &self,
        object_type: &ObjectType,
        updates: &[ObjectUpdate<'_>],
    ) -> Result<Vec<ObjectId>, HubSpotError> {
        let answer = self.batch_update(object_type, updates).await?;
        Ok(answer.results.into_iter().map(|object| object.id).collect())
    }

    /// Moves up to [`MAX_BATCH`] records to the recycling bin, from where a person can restore them. HubSpot does not say which of
    /// them were there, so that a second call does no harm.
    ///
    /// # Errors
    /// The call fails as a whole.
    pub async fn archive_many(&self, object_type: &ObjectType, ids: &[ObjectId]) -> Result<(), HubSpotError> {
        debug_assert!(ids.len() <= MAX_BATCH);
        #[derive(Serialize)]
        struct Body {
            inputs: Vec<Id>,
        }
        let body = Body { inputs: ids.iter().map(|id| Id { id: id.to_string() }).collect() };
        let path = self.version().objects(object_type, "/batch/archive");
        Self::count_inputs(Operation::BatchArchiveObjects, object_type, ids.len());
        self.call(&Call::post(Operation::BatchArchiveObjects, &path, &body)).await
    }

    async fn batch_update(
        &self,
        object_type: &ObjectType,
        updates: &[ObjectUpdate<'_>],
    ) -> Result<UpdateAnswer, HubSpotError> {
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
        Self::count_inputs(Operation::BatchUpdateObjects, object_type, updates.len());
        self.call(&Call::post(Operation::BatchUpdateObjects, &path, &body)).await
    }
}

fn values(changes: &[PropertyChange]) -> HashMap<&str, &str> {
    changes.iter().map(|change| (change.property.as_str(), change.value.as_str())).collect()
}

fn null_as_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Serialize)]
pub(super) struct Id {
    pub(super) id: String,
}

#[derive(Deserialize)]
pub(super) struct BatchAnswer<T> {
    pub(super) results: Vec<T>,
}

/// The answer to a batch update.
#[derive(Deserialize)]
struct UpdateAnswer {
    results: Vec<Written>,
    /// Why records are not among the results (207). Each has the form of an error's body, and is read as leniently.
    #[serde(default)]
    errors: serde_json::Value,
}

impl UpdateAnswer {
    /// The error that says that a value of a batch of one is invalid. HubSpot answers that with a 400 for the whole call; that it never
    /// does in a 207, as it does for new objects, no document says.
    fn refusal(&self) -> Option<HubSpotError> {
        let errors = self.errors.as_array().into_iter().flatten();
        let body = errors.map(ErrorBody::from_value).find(|body| body.category == VALIDATION_ERROR)?;
        let operation = Operation::BatchUpdateObjects;
        Some(HubSpotError::Api(Box::new(HubSpotApiError { http_status: 400, operation, retry_after: None, body })))
    }
}

/// What an update needs of the record that it is answered with. Nothing else in it can make the answer unreadable.
#[derive(Deserialize)]
struct Written {
    #[serde(deserialize_with = "object_id")]
    id: ObjectId,
}

/// The OpenAPI description says that ids are strings; answers of v4 contain numbers.
pub(super) fn object_id<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ObjectId, D::Error> {
    struct TextOrNumber;

    impl Visitor<'_> for TextOrNumber {
        type Value = ObjectId;

        fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            formatter.write_str("an object id")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ObjectId, E> {
            text.parse().map(ObjectId).map_err(|_| E::custom(format!("`{text}` is not an object id")))
        }

        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<ObjectId, E> {
            Ok(ObjectId(number))
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<ObjectId, E> {
            i64::try_from(number).map(ObjectId).map_err(|_| E::custom(format!("{number} is not an object id")))
        }
    }

    deserializer.deserialize_any(TextOrNumber)
}

#[cfg(test)]
mod tests {
    use retry::{Failure, Reason};
    use serde_json::json;

    use super::{CrmObject, UpdateAnswer};

    #[test]
    fn an_id_is_a_text_or_a_number_and_nothing_else() {
        let id = |id: serde_json::Value| {
            serde_json::from_value::<CrmObject>(json!({"id": id}))
                .map(|object| object.id.0)
                .map_err(|error| error.to_string())
        };
        assert_eq!((id(json!("51")), id(json!(51))), (Ok(51), Ok(51)));
        assert_eq!(id(json!("x")), Err("`x` is not an object id".to_owned()));
        for other in [json!(u64::MAX), json!(1.5), json!(null), json!({}), json!(true)] {
            assert!(id(other).is_err());
        }
    }

    #[test]
    fn a_value_that_is_refused_in_a_multi_status_answer_is_a_validation_error_that_names_it() {
        let answer = |error: serde_json::Value| -> UpdateAnswer {
            let answer = json!({"status": "COMPLETE", "results": [], "numErrors": 1, "errors": [error]});
            serde_json::from_value(answer).expect("the documented form")
        };
        let refused = answer(json!({"status": "error", "category": "VALIDATION_ERROR", "context": {"ids": ["1"]},
            "message": "Property values were not valid: [{\"isValid\":false,\"error\":\"INVALID_LONG\",\"name\":\"score\"}]"}));
        let error = refused.refusal().expect("refused");
        assert_eq!(error.reason(), Reason::ValidationError);
        assert!(error.api().is_some_and(|error| error.is_about("score")), "{error}");
        let missing =
            json!({"status": "error", "category": "OBJECT_NOT_FOUND", "message": "", "context": {"ids": ["1"]}});
        for other in [missing, json!("odd"), json!(null)] {
            assert!(answer(other.clone()).refusal().is_none(), "{other}");
        }
        let without_errors: UpdateAnswer = serde_json::from_value(json!({"results": []})).expect("read");
        assert!(without_errors.refusal().is_none());
    }
}
