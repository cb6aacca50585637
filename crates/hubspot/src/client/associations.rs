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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationTarget {
    /// The record that it is associated with.
    pub to: ObjectId,
    /// The type of the association.
    pub association_type: AssociationType,
}

/// A type of associations between two types of objects.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssociationType {
    /// Who has defined it: `HUBSPOT_DEFINED`, `USER_DEFINED` or `INTEGRATOR_DEFINED`.
    pub category: String,
    /// Its id, unique within the category.
    pub type_id: u32,
}

/// The category of the types that exist in every portal.
const HUBSPOT_DEFINED: &str = "HUBSPOT_DEFINED";

impl AssociationType {
    /// The type of the association from an engagement to a record that every portal has; `None` where HubSpot defines none.
    pub fn of_engagement(engagement: &ObjectType, record: &ObjectType) -> Option<Self> {
        let type_id = engagement_type_id(engagement, record)?;
        Some(Self { category: HUBSPOT_DEFINED.to_owned(), type_id })
    }
}

/// The `HUBSPOT_DEFINED` type id of the association from an engagement to a record; `None` where HubSpot defines none.
/// Source: HubSpot's guide to associations.
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
        ObjectType::Communication => [81, 87, 85, 83],
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
        let path = self.versions().associations.batch_read(from, to);
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

    /// The type of the plain associations between two types of objects, the one without a label; `None` when the portal has
    /// none. Custom objects have types of their own in every portal, and for every direction (HubSpot's guide to
    /// associations).
    ///
    /// # Errors
    /// The call fails.
    pub async fn plain_association_type(
        &self,
        from: &ObjectType,
        to: &ObjectType,
    ) -> Result<Option<AssociationType>, HubSpotError> {
        #[derive(Deserialize)]
        struct Labels {
            results: Vec<Label>,
        }
        #[derive(Deserialize)]
        struct Label {
            #[serde(flatten)]
            association_type: AssociationType,
            label: Option<String>,
        }
        let path = self.versions().associations.labels(from, to);
        let answer: Labels = self.call(&Call::get(Operation::ListAssociationLabels, &path, &[])).await?;
        let plain = answer.results.into_iter().find(|label| label.label.as_deref().is_none_or(str::is_empty));
        Ok(plain.map(|label| label.association_type))
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
    #[serde(deserialize_with = "object_id")]
    id: ObjectId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct To {
    #[serde(deserialize_with = "object_id")]
    to_object_id: ObjectId,
    #[serde(default)]
    association_types: Vec<AssociationType>,
}

impl To {
    fn associated(&self) -> Associated {
        let is_primary =
            |kind: &AssociationType| kind.category == HUBSPOT_DEFINED && PRIMARY_TYPE_IDS.contains(&kind.type_id);
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
