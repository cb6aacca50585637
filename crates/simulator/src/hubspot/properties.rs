//! Property definitions: HubSpot's own, those that the guide has people create, and those that are created here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use domain::ObjectType;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, answer, errors, objects::parse};
use crate::lock;

/// A property of the simulator's portal.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    pub(crate) name: String,
    label: String,
    description: String,
    pub(crate) kind: String,
    field_type: String,
    group: String,
    pub(crate) options: Vec<String>,
    /// Calculated by HubSpot: a write is refused.
    pub(crate) read_only: bool,
}

/// The definitions and groups of every type.
pub(crate) struct Definitions {
    by_type: HashMap<ObjectType, BTreeMap<String, Definition>>,
    groups: HashMap<ObjectType, BTreeSet<String>>,
}

/// HubSpot's own, by type: `TYPE FIELD_TYPE: NAMES`, with `= OPTIONS` for enumerations and `!` for read-only ones.
const OWN: &[(ObjectType, &[&str])] = &[
    (
        ObjectType::Contact,
        &[
            "string text: firstname lastname email company jobtitle phone hubspot_owner_id",
            "enumeration radio: lifecyclestage = subscriber lead marketingqualifiedlead salesqualifiedlead opportunity customer",
            "enumeration radio: hs_lead_status = NEW OPEN IN_PROGRESS UNQUALIFIED CONNECTED",
            "bool booleancheckbox: hs_email_optout",
            "datetime date!: notes_last_updated notes_last_contacted",
        ],
    ),
    (
        ObjectType::Company,
        &["string text: name domain industry hubspot_owner_id", "datetime date!: notes_last_updated"],
    ),
    (
        ObjectType::Deal,
        &[
            "string text: dealname hubspot_owner_id",
            "enumeration select: pipeline dealstage",
            "number number: amount",
            "datetime date: closedate",
            "datetime date!: notes_last_updated",
        ],
    ),
    (
        ObjectType::Ticket,
        &[
            "string text: subject hubspot_owner_id",
            "string textarea: content",
            "enumeration select: hs_pipeline hs_pipeline_stage",
            "enumeration select: hs_ticket_priority = LOW MEDIUM HIGH URGENT",
            "enumeration select: hs_ticket_category = PRODUCT_ISSUE BILLING_ISSUE FEATURE_REQUEST GENERAL_INQUIRY SPAM",
        ],
    ),
    (ObjectType::Note, &["datetime date: hs_timestamp", "string html: hs_note_body", "string text: hubspot_owner_id"]),
    (
        ObjectType::Call,
        &[
            "datetime date: hs_timestamp",
            "string text: hs_call_title hubspot_owner_id hs_call_disposition hs_call_recording_url",
            "string html: hs_call_body",
            "string html!: hs_call_summary",
            "number number: hs_call_duration",
            "enumeration select: hs_call_direction = INBOUND OUTBOUND",
            "enumeration select: hs_call_status = BUSY CALLING_CRM_USER CANCELED COMPLETED CONNECTING FAILED IN_PROGRESS NO_ANSWER QUEUED RINGING",
        ],
    ),
    (
        ObjectType::Email,
        &[
            "datetime date: hs_timestamp",
            "string text: hs_email_subject hubspot_owner_id hs_email_headers",
            "string textarea: hs_email_text",
            "string html: hs_email_html",
            "enumeration select: hs_email_direction = EMAIL INCOMING_EMAIL FORWARDED_EMAIL",
            "enumeration select: hs_email_status = BOUNCED FAILED SCHEDULED SENDING SENT",
        ],
    ),
    (
        ObjectType::Meeting,
        &[
            "datetime date: hs_timestamp hs_meeting_start_time hs_meeting_end_time",
            "string text: hs_meeting_title hubspot_owner_id",
            "string html: hs_meeting_body hs_internal_meeting_notes",
            "enumeration select: hs_meeting_outcome = SCHEDULED COMPLETED RESCHEDULED NO_SHOW CANCELED",
        ],
    ),
    (
        ObjectType::Task,
        &[
            "datetime date: hs_timestamp",
            "string text: hs_task_subject hubspot_owner_id",
            "string html: hs_task_body",
            "enumeration select: hs_task_status = NOT_STARTED IN_PROGRESS WAITING DEFERRED COMPLETED",
            "enumeration select: hs_task_priority = NONE LOW MEDIUM HIGH",
            "enumeration select: hs_task_type = TODO CALL EMAIL",
        ],
    ),
];

/// What the guide and the shipped playbooks have people create.
const AI: &[(ObjectType, &[&str])] = &[
    (
        ObjectType::Contact,
        &[
            "number number: lead_score ai_sentiment_score ai_budget_estimate",
            "string textarea: ai_lead_summary ai_qualification_summary ai_call_summary ai_next_steps",
            "datetime date: ai_last_processed_timestamp",
        ],
    ),
    (
        ObjectType::Deal,
        &[
            "number number: ai_sentiment_score",
            "string textarea: ai_churn_reasons ai_call_summary ai_next_steps",
            "enumeration select: ai_churn_urgency = low medium high",
        ],
    ),
    (
        ObjectType::Ticket,
        &[
            "number number: ai_sentiment_score",
            "string textarea: ai_churn_reasons",
            "enumeration select: ai_churn_urgency = low medium high",
        ],
    ),
];

impl Default for Definitions {
    fn default() -> Self {
        Self::of(true)
    }
}

impl Definitions {
    /// HubSpot's own, and `with_ai` those that people create for Leadline.
    pub(crate) fn of(with_ai: bool) -> Self {
        let mut definitions = Self { by_type: HashMap::new(), groups: HashMap::new() };
        let ai = if with_ai { AI } else { &[] };
        for (object_type, lines) in OWN.iter().chain(ai) {
            let group = format!("{}information", object_type.name());
            definitions.groups.entry(object_type.clone()).or_default().insert(group.clone());
            for line in *lines {
                for definition in read(line, &group) {
                    definitions.add(object_type, definition);
                }
            }
        }
        definitions
    }

    fn add(&mut self, object_type: &ObjectType, definition: Definition) {
        self.by_type.entry(object_type.clone()).or_default().insert(definition.name.clone(), definition);
    }

    pub(crate) fn get(&self, object_type: &ObjectType, name: &str) -> Option<&Definition> {
        self.by_type.get(object_type)?.get(name)
    }
}

fn read(line: &str, group: &str) -> Vec<Definition> {
    let (form, rest) = line.split_once(": ").unwrap_or((line, ""));
    let (kind, field_type) = form.split_once(' ').unwrap_or((form, "text"));
    let (names, options) = rest.split_once(" = ").unwrap_or((rest, ""));
    let definition = |name: &str| Definition {
        name: name.to_owned(),
        label: name.to_owned(),
        description: String::new(),
        kind: kind.to_owned(),
        field_type: field_type.trim_end_matches('!').to_owned(),
        group: group.to_owned(),
        options: options.split_whitespace().map(ToOwned::to_owned).collect(),
        read_only: field_type.ends_with('!'),
    };
    names.split_whitespace().map(definition).collect()
}

impl Definition {
    fn shown(&self) -> Value {
        let option = |value: &String| json!({"label": value, "value": value, "hidden": false, "displayOrder": -1});
        json!({"name": self.name, "label": self.label, "type": self.kind, "description": self.description,
            "fieldType": self.field_type, "groupName": self.group, "archived": false,
            "options": self.options.iter().map(option).collect::<Vec<_>>()})
    }
}

fn scope(object_type: &ObjectType, access: &str) -> String {
    match object_type {
        ObjectType::Ticket => "tickets".to_owned(),
        ObjectType::Company | ObjectType::Deal => format!("crm.schemas.{}.{access}", object_type.path()),
        _ => format!("crm.schemas.contacts.{access}"),
    }
}

pub(super) async fn list(State(simulator): Shared, Path(object_type): Path<String>, headers: HeaderMap) -> Response {
    let object_type = ObjectType::from(object_type);
    answer(&simulator, &headers, &scope(&object_type, "read"), || {
        let portal = lock(&simulator.portal);
        let all = portal.definitions.by_type.get(&object_type).into_iter().flatten();
        let present = all.filter(|(name, _)| !portal.missing_properties.contains(*name));
        Ok(Json(json!({"results": present.map(|(_, definition)| definition.shown()).collect::<Vec<_>>()}))
            .into_response())
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NewProperty {
    name: String,
    label: String,
    #[serde(default)]
    description: String,
    #[serde(rename = "type")]
    kind: String,
    field_type: String,
    group_name: String,
    #[serde(default)]
    options: Vec<NewOption>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NewOption {
    #[serde(rename = "label")]
    _label: String,
    value: String,
    #[serde(default, rename = "description")]
    _description: String,
    #[serde(rename = "hidden")]
    _hidden: bool,
    #[serde(rename = "displayOrder")]
    _display_order: i32,
}

/// Which field types go with which types.
const PAIRS: [(&str, &[&str]); 6] = [
    ("string", &["text", "textarea", "html"]),
    ("number", &["number"]),
    ("datetime", &["date"]),
    ("date", &["date"]),
    ("enumeration", &["select", "radio", "checkbox"]),
    ("bool", &["booleancheckbox"]),
];

pub(super) async fn create(
    State(simulator): Shared,
    Path(object_type): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let object_type = ObjectType::from(object_type);
    answer(&simulator, &headers, &scope(&object_type, "write"), || {
        let new = parse::<NewProperty>(&body)?;
        let mut portal = lock(&simulator.portal);
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !new.name.starts_with(|c: char| c.is_ascii_lowercase()) || !new.name.chars().all(valid) {
            return Err(errors::validation(&format!("{} is not a valid property name", new.name)));
        }
        if !PAIRS.iter().any(|(kind, fields)| *kind == new.kind && fields.contains(&new.field_type.as_str())) {
            return Err(errors::validation(&format!("{} does not go with {}", new.field_type, new.kind)));
        }
        if (new.kind == "enumeration") == new.options.is_empty() {
            return Err(errors::validation("options are for enumerations, and these need some"));
        }
        if !portal.definitions.groups.get(&object_type).is_some_and(|groups| groups.contains(&new.group_name)) {
            return Err(errors::validation(&format!("group {} does not exist", new.group_name)));
        }
        if portal.definition(&object_type, &new.name).is_some() {
            return Err(errors::already_exists(&format!("A property named '{}' already exists.", new.name)));
        }
        let definition = Definition {
            options: new.options.into_iter().map(|option| option.value).collect(),
            name: new.name,
            label: new.label,
            description: new.description,
            kind: new.kind,
            field_type: new.field_type,
            group: new.group_name,
            read_only: false,
        };
        let shown = definition.shown();
        portal.missing_properties.remove(&definition.name);
        portal.definitions.add(&object_type, definition);
        Ok((StatusCode::CREATED, Json(shown)).into_response())
    })
}

pub(super) async fn list_groups(
    State(simulator): Shared,
    Path(object_type): Path<String>,
    headers: HeaderMap,
) -> Response {
    let object_type = ObjectType::from(object_type);
    answer(&simulator, &headers, &scope(&object_type, "read"), || {
        let portal = lock(&simulator.portal);
        let groups = portal.definitions.groups.get(&object_type).into_iter().flatten().map(|name| group(name, name));
        Ok(Json(json!({"results": groups.collect::<Vec<_>>()})).into_response())
    })
}

fn group(name: &str, label: &str) -> Value {
    json!({"name": name, "label": label, "displayOrder": -1, "archived": false})
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewGroup {
    name: String,
    label: String,
}

pub(super) async fn create_group(
    State(simulator): Shared,
    Path(object_type): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let object_type = ObjectType::from(object_type);
    answer(&simulator, &headers, &scope(&object_type, "write"), || {
        let new = parse::<NewGroup>(&body)?;
        let mut portal = lock(&simulator.portal);
        if !portal.definitions.groups.entry(object_type).or_default().insert(new.name.clone()) {
            return Err(errors::already_exists(&format!("A group named '{}' already exists.", new.name)));
        }
        Ok((StatusCode::CREATED, Json(group(&new.name, &new.label))).into_response())
    })
}
