//! Associations: which records belong to which.

use domain::{ObjectId, ObjectType};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{Client, Error, objects::object_id};

impl Client {
    /// The ids of the `to` records that `from` is tied to, at most `limit` (HubSpot pages them by 500).
    pub async fn associated(
        &self,
        from: &ObjectType,
        id: ObjectId,
        to: &ObjectType,
        limit: usize,
    ) -> Result<Vec<ObjectId>, Error> {
        let path = self.version().associations_batch_read(from, to);
        let mut ids = Vec::new();
        let mut after = None;
        loop {
            let body = Body { inputs: [Input { id: id.to_string(), after }] };
            let answer: Answer = self.call("associations.batch_read", Method::POST, &path, &[], Some(&body)).await?;
            // A record without associations is a 207 with no result; that is an answer, not a failure.
            let Some(result) = answer.results.into_iter().next() else {
                return Ok(ids);
            };
            ids.extend(result.to.into_iter().map(|to| to.to_object_id));
            after = result.paging.and_then(|paging| paging.next).map(|next| next.after);
            if after.is_none() || ids.len() >= limit {
                ids.truncate(limit);
                return Ok(ids);
            }
        }
    }
}

#[derive(Serialize)]
struct Body {
    inputs: [Input; 1],
}

#[derive(Serialize)]
struct Input {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Tied>,
}

#[derive(Deserialize)]
struct Tied {
    to: Vec<To>,
    paging: Option<Paging>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct To {
    #[serde(deserialize_with = "object_id_or_number")]
    to_object_id: ObjectId,
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
