//! Creating objects in batches.

use std::{collections::HashMap, time::Instant};

use domain::ObjectType;
use serde::Serialize;

use super::{
    associations::{AssociationTarget, AssociationType},
    error::HubSpotError,
    objects::{BatchAnswer, CrmObject, Id, MAX_BATCH},
    operation::Operation,
    transport::HubSpotClient,
};

/// An object to create.
#[derive(Debug, Clone)]
pub struct NewObject {
    /// Its properties.
    pub properties: Vec<(&'static str, String)>,
    /// The records it is associated with.
    pub associations: Vec<AssociationTarget>,
}

#[derive(Serialize)]
struct Body<'a> {
    inputs: Vec<Input<'a>>,
}

#[derive(Serialize)]
struct Input<'a> {
    properties: HashMap<&'a str, &'a str>,
    associations: Vec<Association<'a>>,
}

#[derive(Serialize)]
struct Association<'a> {
    to: Id,
    types: [AssociationSpec<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AssociationSpec<'a> {
    association_category: &'a str,
    association_type_id: u32,
}

impl<'a> Association<'a> {
    fn to(target: &'a AssociationTarget) -> Self {
        let AssociationType { category, type_id } = &target.association_type;
        let spec = AssociationSpec { association_category: category, association_type_id: *type_id };
        Self { to: Id { id: target.to.to_string() }, types: [spec] }
    }
}

impl HubSpotClient {
    /// Creates up to [`MAX_BATCH`] objects and returns those that were created, with the properties that were set;
    /// their order is not that of `objects`. No attempt is sent after `not_after`.
    ///
    /// # Errors
    /// HubSpot has no idempotency key: when the answer is lost, the error is [`HubSpotError::InDoubt`], and the caller
    /// has to search for the objects before it creates them again. One invalid value fails the whole batch with a 400,
    /// and no object is created.
    pub async fn create_many(
        &self,
        object_type: &ObjectType,
        objects: &[&NewObject],
        not_after: Instant,
    ) -> Result<Vec<CrmObject>, HubSpotError> {
        debug_assert!(objects.len() <= MAX_BATCH);
        let inputs = objects.iter().map(|object| Input {
            properties: object.properties.iter().map(|(name, value)| (*name, value.as_str())).collect(),
            associations: object.associations.iter().map(Association::to).collect(),
        });
        let inputs = inputs.collect();
        let path = self.version().objects(object_type, "/batch/create");
        Self::count_inputs(Operation::BatchCreateObjects, object_type, objects.len());
        let answer: BatchAnswer<CrmObject> =
            self.create_call(Operation::BatchCreateObjects, &path, &Body { inputs }, Some(not_after)).await?;
        Ok(answer.results)
    }
}
