//! Associations: which records belong to which.

use std::collections::HashMap;

use domain::{ObjectId, ObjectType};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{error::HubSpotError, objects::object_id, transport::HubSpotClient};

/// HubSpot takes at most this many inputs in one batch read of associations.
const MAX_INPUTS: usize = 1_000;

/// One end of an association, seen from the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Associated {
    /// The other end.
    pub id: ObjectId,
    /// Whether people called it the primary one.
    pub is_primary: bool,
}

/// What a new object is associated to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssociationTarget {
    /// The other end.
    pub to: ObjectId,
    /// HubSpot's number of the kind of associate; see [`engagement_type_id`].
    pub type_id: u32,
}

/// The `HUBSPOT_DEFINED` type id of the associate from an engagement to a record.
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

/// Contact→company, deal→company: HubSpot's own "primary" types.
const PRIMARY: [u32; 2] = [1, 5];

impl HubSpotClient {
    /// The `to` records that each of `from` is associated to, at most `limit` for each (HubSpot pages them by 500).
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
        let mut asked: Vec<Input> = first.collect();
        while !asked.is_empty() {
            let rest = asked.split_off(asked.len().min(MAX_INPUTS));
            Self::count_inputs("associations.batch_read", from, asked.len());
            let body = Body { inputs: asked };
            // A record without associations is a 207 with no result; that is an answer, not a failure.
            let answer: Answer = self.call("associations.batch_read", Method::POST, &path, &[], Some(&body)).await?;
            asked = rest;
            for result in answer.results {
                let known = associated.entry(result.from.id).or_default();
                known.extend(result.to.iter().map(To::associated));
                let next = result.paging.and_then(|paging| paging.next);
                if let Some(next) = next.filter(|_| known.len() < limit) {
                    asked.push(Input { id: result.from.id.to_string(), after: Some(next.after) });
                }
                known.truncate(limit);
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
        let is_primary = |kind: &AssociationType| kind.category == "HUBSPOT_DEFINED" && PRIMARY.contains(&kind.type_id);
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

/// The OpenAPI file says string, v4 answers in the field hold numbers.
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
