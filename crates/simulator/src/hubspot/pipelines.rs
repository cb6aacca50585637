//! Pipelines and owners, and the endpoints that list them.

use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use domain::ObjectType;
use serde_json::{Value, json};

use super::{
    admission::{Shared, answer, scope},
    errors,
};

/// Id, label, whether the stage is closed, probability.
type Stage = (&'static str, &'static str, bool, &'static str);

const SALES: (&str, &str, &[Stage]) = (
    "default",
    "Sales pipeline",
    &[
        ("appointmentscheduled", "Appointment scheduled", false, "0.2"),
        ("qualifiedtobuy", "Qualified to buy", false, "0.4"),
        ("contractsent", "Contract sent", false, "0.9"),
        ("991231", "Risk", false, "0.1"),
        ("closedwon", "Closed won", true, "1.0"),
        ("closedlost", "Closed lost", true, "0.0"),
    ],
);

/// A second pipeline, which has no stage for deals at risk.
const RENEWALS: (&str, &str, &[Stage]) = (
    "renewals",
    "Renewals",
    &[("880001", "Up for renewal", false, "0.5"), ("880002", "Renewed", true, "1.0"), ("880003", "Gone", true, "0.0")],
);

const SUPPORT: (&str, &str, &[Stage]) = (
    "0",
    "Support pipeline",
    &[("1", "New", false, ""), ("2", "Waiting on contact", false, ""), ("4", "Closed", true, "")],
);

const OWNERS: [(i64, &str, &str); 3] = [(70, "Sara", "Lind"), (71, "Omar", "Haddad"), (72, "Nils", "Berg")];

/// The pipelines of a type.
fn of(object_type: &ObjectType) -> &'static [(&'static str, &'static str, &'static [Stage])] {
    match object_type {
        ObjectType::Deal => &[SALES, RENEWALS],
        ObjectType::Ticket => &[SUPPORT],
        _ => &[],
    }
}

/// The values that a property for a pipeline or a stage allows; `None` for other properties.
pub(super) fn options(object_type: &ObjectType, property: &str) -> Option<Vec<&'static str>> {
    let pipelines = of(object_type);
    match property {
        "pipeline" | "hs_pipeline" => Some(pipelines.iter().map(|(id, ..)| *id).collect()),
        "dealstage" | "hs_pipeline_stage" => {
            Some(pipelines.iter().flat_map(|(_, _, stages)| stages.iter().map(|stage| stage.0)).collect())
        }
        _ => None,
    }
}

/// Whether a deal or a ticket in this stage is closed.
pub(super) fn is_closed(stage: &str) -> bool {
    let stages =
        [ObjectType::Deal, ObjectType::Ticket].into_iter().flat_map(|kind| of(&kind)).flat_map(|pipeline| pipeline.2);
    stages.into_iter().any(|(id, _, closed, _)| *id == stage && *closed)
}

/// Whether there is an owner with this id.
pub(super) fn is_owner(id: &str) -> bool {
    OWNERS.iter().any(|(owner, ..)| owner.to_string() == id)
}

/// When every pipeline and owner was created.
const SINCE: &str = "2024-01-01T00:00:00Z";

pub(super) async fn list(State(simulator): Shared, Path(object_type): Path<String>, headers: HeaderMap) -> Response {
    let object_type = ObjectType::from(object_type);
    answer(&simulator, &headers, &scope(&object_type, "read"), || {
        if of(&object_type).is_empty() {
            return Err(errors::validation(&format!("{object_type} has no pipelines")));
        }
        let stage = |(order, (id, label, closed, probability)): (usize, &Stage)| {
            let metadata = if probability.is_empty() {
                json!({"ticketState": if *closed { "CLOSED" } else { "OPEN" }})
            } else {
                json!({"isClosed": closed.to_string(), "probability": probability})
            };
            json!({"id": id, "label": label, "displayOrder": order, "metadata": metadata, "archived": false,
                "createdAt": SINCE, "updatedAt": SINCE, "writePermissions": "CRM_PERMISSIONS_ENFORCEMENT"})
        };
        let pipelines = of(&object_type).iter().enumerate().map(|(order, (id, label, stages))| {
            json!({"id": id, "label": label, "displayOrder": order, "archived": false, "createdAt": SINCE,
                "updatedAt": SINCE, "stages": stages.iter().enumerate().map(stage).collect::<Vec<_>>()})
        });
        Ok(Json(json!({"results": pipelines.collect::<Vec<_>>()})).into_response())
    })
}

pub(super) async fn owners(State(simulator): Shared, headers: HeaderMap) -> Response {
    answer(&simulator, &headers, "crm.objects.owners.read", || {
        let owner = |(id, first, last): &(i64, &str, &str)| -> Value {
            json!({"id": id.to_string(), "firstName": first, "lastName": last, "type": "PERSON", "userId": id + 1_000,
                "email": format!("{}@example.com", first.to_lowercase()), "archived": false, "createdAt": SINCE,
                "updatedAt": SINCE})
        };
        Ok(Json(json!({"results": OWNERS.iter().map(owner).collect::<Vec<_>>()})).into_response())
    })
}
