//! Property definitions: HubSpot's own of the contacts, and those that the guide has people create.

use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use domain::ObjectType;
use serde_json::json;

use super::{Shared, answer};
use crate::lock;

/// A property of the sandbox's portal: name, type, field type, options.
pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    field_type: &'static str,
    pub(super) options: &'static [&'static str],
}

const fn text(name: &'static str) -> Definition {
    Definition { name, kind: "string", field_type: "text", options: &[] }
}

const fn typed(name: &'static str, kind: &'static str, field_type: &'static str) -> Definition {
    Definition { name, kind, field_type, options: &[] }
}

const CONTACT: [Definition; 16] = [
    text("firstname"),
    text("lastname"),
    text("email"),
    text("company"),
    text("jobtitle"),
    text("hubspot_owner_id"),
    Definition {
        name: "lifecyclestage",
        kind: "enumeration",
        field_type: "radio",
        options: &["subscriber", "lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity", "customer"],
    },
    Definition {
        name: "hs_lead_status",
        kind: "enumeration",
        field_type: "radio",
        options: &["NEW", "OPEN", "IN_PROGRESS", "UNQUALIFIED", "CONNECTED"],
    },
    typed("notes_last_updated", "datetime", "date"),
    typed("notes_last_contacted", "datetime", "date"),
    typed("lead_score", "number", "number"),
    typed("ai_sentiment_score", "number", "number"),
    typed("ai_budget_estimate", "number", "number"),
    typed("ai_lead_summary", "string", "textarea"),
    typed("ai_qualification_summary", "string", "textarea"),
    typed("ai_last_processed_timestamp", "datetime", "date"),
];

const NOTE: [Definition; 3] =
    [typed("hs_timestamp", "datetime", "date"), typed("hs_note_body", "string", "html"), text("hubspot_owner_id")];

/// The definitions of a type; none for types the sandbox does not hold.
pub(super) fn of(object_type: &ObjectType) -> &'static [Definition] {
    match object_type {
        ObjectType::Contact => &CONTACT,
        ObjectType::Note => &NOTE,
        _ => &[],
    }
}

pub(super) async fn list(State(sandbox): Shared, Path(object_type): Path<String>, headers: HeaderMap) -> Response {
    let object_type = ObjectType::from(object_type);
    answer(&sandbox, &headers, "crm.schemas.contacts.read", || {
        let portal = lock(&sandbox.portal);
        let definition = |definition: &Definition| {
            let options: Vec<_> = definition
                .options
                .iter()
                .map(|option| json!({"label": option, "value": option, "hidden": false, "displayOrder": -1}))
                .collect();
            json!({"name": definition.name, "label": definition.name, "type": definition.kind, "description": "",
            "fieldType": definition.field_type, "groupName": "contactinformation", "options": options, "archived": false})
        };
        let present = of(&object_type).iter().filter(|definition| !portal.missing_properties.contains(definition.name));
        Ok(Json(json!({"results": present.map(definition).collect::<Vec<_>>()})).into_response())
    })
}
