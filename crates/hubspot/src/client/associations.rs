//! Associations between records.

use std::collections::HashMap;

use domain::{ObjectId, ObjectType};
use serde::{Deserialize, Serialize};

use super::{
    error::HubSpotError,
    objects::object_id,
    operation::Operation,
    transport::{Call, HubSpotClient},
};

/// The most inputs of one batch read of associations (HubSpot's documentation of associations v4).
pub const MAX_ASSOCIATION_INPUTS: usize = 1_000;

/// A record that another one is associated with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Associated {
    /// The record's id.
    pub id: ObjectId,
    /// Whether it is marked as the primary one.
    pub is_primary: bool,
}

/// The association of a new object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssociationTarget {
    /// The record that it is associated with.
    pub to: ObjectId,
    /// HubSpot's id of the association type; see [`engagement_type_id`].
    pub type_id: u32,
}

/// The `HUBSPOT_DEFINED` type id of the association from an engagement to a record; `None` where HubSpot defines none.
pub fn engagement_type_id(engagement: &ObjectType, record: &ObjectType) -> Option<u32> {
    let column = [ObjectType::Contact, ObjectType::Company, ObjectType::Deal, ObjectType::Ticket]
        .iter()
        .position(|kind| kind == record)?;
    let ids = match engagement {
        ObjectType::Note => [202, 190, 214, 228],
        ObjectType::Call => [194, 182, 206, 220],
        ObjectType::Email => [198, 186, 210, 224],
        ObjectType::Meeting => [200, 188, 212, 226],
        ObjectType::Task => [204, 192, 216, 230],
        _ => return None,
    };
    Some(ids[column])
}

/// The type ids of primary associations: contact to company, deal to company.
const PRIMARY_TYPE_IDS: [u32; 2] = [1, 5];

impl HubSpotClient {
    /// The `to` records that each of the records `ids` is associated with, at most `limit` for each. HubSpot returns
    /// them in pages of 500.
    ///
    /// # Errors
    /// The first call that fails.
    pub async fn associated(
        &self,
        from: &ObjectType,
        ids: &[ObjectId],
        to: &ObjectType,
        limit: usize,
    ) -> Result<HashMap<ObjectId, Vec<Associated>>, HubSpotError> {
        let path = self.version().associations_batch_read(from, to);
        let mut associated: HashMap<ObjectId, Vec<Associated>> = HashMap::new();
        let first = ids.iter().map(|id| Input { id: id.to_string(), after: None });
        let mut inputs: Vec<Input> = first.collect();
        while !inputs.is_empty() {
            let rest = inputs.split_off(inputs.len().min(MAX_ASSOCIATION_INPUTS));
            Self::count_inputs(Operation::BatchReadAssociations, from, inputs.len());
            let body = Body { inputs };
            // A record without associations makes the answer a 207 without a result for it; this is not a failure.
            let answer: Answer = self.call(&Call::post(Operation::BatchReadAssociations, &path, &body)).await?;
            inputs = rest;
            for result in answer.results {
                let found = associated.entry(result.from.id).or_default();
                found.extend(result.to.iter().map(To::associated));
                let next = result.paging.and_then(|paging| paging.next);
                if let Some(next) = next.filter(|_| found.len() < limit) {
                    inputs.push(Input { id: result.from.id.to_string(), after: Some(next.after) });
                }
                found.truncate(limit);
            }
        }
        Ok(associated)
    }
}

#[derive(Serialize)]
struct Body {
    inputs: Vec<Input>,
}

#[derive(Serialize)]
struct Input {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Association>,
}

#[derive(Deserialize)]
struct Association {
    from: From,
    to: Vec<To>,
    paging: Option<Paging>,
}

#[derive(Deserialize)]
struct From {
    #[serde(deserialize_with = "object_id_or_number")]
    id: ObjectId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct To {
    #[serde(deserialize_with = "object_id_or_number")]
    to_object_id: ObjectId,
    #[serde(default)]
    association_types: Vec<AssociationType>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AssociationType {
    category: String,
    type_id: u32,
}

impl To {
    fn associated(&self) -> Associated {
        let is_primary =
            |kind: &AssociationType| kind.category == "HUBSPOT_DEFINED" && PRIMARY_TYPE_IDS.contains(&kind.type_id);
        Associated { id: self.to_object_id, is_primary: self.association_types.iter().any(is_primary) }
    }
}

#[derive(Deserialize)]
struct Paging {
    next: Option<Next>,
}

#[derive(Deserialize)]
struct Next {
    after: String,
}

/// The OpenAPI description says that ids are strings; answers of v4 contain numbers.
fn object_id_or_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ObjectId, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(#[serde(deserialize_with = "object_id")] ObjectId),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Number(id) => ObjectId(id),
        Either::Text(id) => id,
    })
}
