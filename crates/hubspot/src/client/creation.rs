//! Creating objects, many at a time.

use std::{collections::HashMap, time::Instant};

use domain::ObjectType;
use serde::Serialize;

use super::{
    associations::AssociationTarget,
    error::HubSpotError,
    objects::{BatchAnswer, CrmObject, Id, MAX_BATCH},
    transport::HubSpotClient,
};

/// An object to be made.
#[derive(Debug, Clone)]
pub struct NewObject {
    /// Its properties.
    pub properties: Vec<(&'static str, String)>,
    /// What it is associated to.
    pub associations: Vec<AssociationTarget>,
}

#[derive(Serialize)]
struct Body<'a> {
    inputs: Vec<Input<'a>>,
}

#[derive(Serialize)]
struct Input<'a> {
    properties: HashMap<&'a str, &'a str>,
    associations: Vec<Association>,
}

#[derive(Serialize)]
struct Association {
    to: Id,
    types: [AssociationType; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AssociationType {
    association_category: &'static str,
    association_type_id: u32,
}

impl HubSpotClient {
    /// Creates up to [`MAX_BATCH`] objects and gives those that were made, with the properties that were set, in an order
    /// of HubSpot's own. HubSpot has no idempotency key: when the answer is lost, the error is [`HubSpotError::InDoubt`], and the
    /// objects have to be looked for before they are created again. Nothing is sent after `not_after`.
    ///
    /// # Errors
    /// One value that HubSpot does not take fails the whole batch with a 400, and nothing is made.
    pub async fn create_many(
        &self,
        object_type: &ObjectType,
        objects: &[&NewObject],
        not_after: Instant,
    ) -> Result<Vec<CrmObject>, HubSpotError> {
        debug_assert!(objects.len() <= MAX_BATCH);
        let association = |associate: &AssociationTarget| Association {
            to: Id { id: associate.to.to_string() },
            types: [AssociationType {
                association_category: "HUBSPOT_DEFINED",
                association_type_id: associate.type_id,
            }],
        };
        let inputs = objects.iter().map(|object| Input {
            properties: object.properties.iter().map(|(name, value)| (*name, value.as_str())).collect(),
            associations: object.associations.iter().map(association).collect(),
        });
        let inputs = inputs.collect();
        let path = self.version().objects(object_type, "/batch/create");
        Self::count_inputs("object.batch_create", object_type, objects.len());
        let answer: BatchAnswer =
            self.create_call("object.batch_create", &path, &Body { inputs }, Some(not_after)).await?;
        Ok(answer.results)
    }
}
