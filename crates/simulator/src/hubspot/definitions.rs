//! Property definitions of the portal: HubSpot's own, those that the guide has people create, and those that are
//! created by calls.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::ObjectType;
use serde_json::{Value, json};

/// The definition of a property.
#[derive(Debug, Clone)]
pub(crate) struct PropertyDefinition {
    pub(crate) name: String,
    pub(super) label: String,
    pub(super) description: String,
    pub(crate) kind: String,
    pub(super) field_type: String,
    pub(super) group: String,
    pub(crate) options: Vec<String>,
    /// Calculated by HubSpot; a write is refused.
    pub(crate) read_only: bool,
}

/// The property definitions and property groups of every object type.
pub(crate) struct PropertyDefinitions {
    by_type: HashMap<ObjectType, BTreeMap<String, PropertyDefinition>>,
    pub(super) groups: HashMap<ObjectType, BTreeSet<String>>,
}

/// HubSpot's own properties by object type. A line reads `TYPE FIELD_TYPE: NAMES`, with ` = OPTIONS` for an enumeration
/// and `!` after the field type for read-only properties.
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
            "bool booleancheckbox!: hs_is_closed",
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
            "bool booleancheckbox!: hs_is_closed",
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
        ObjectType::Communication,
        &[
            "datetime date: hs_timestamp",
            "string text: hubspot_owner_id",
            "string textarea: hs_communication_body",
            "enumeration select: hs_communication_channel_type = WHATS_APP LINKEDIN_MESSAGE SMS",
            "enumeration select: hs_communication_logged_from = CRM",
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

/// The type id of the portal's custom object, a rented machine.
const CUSTOM_OBJECT: &str = "2-1001";

/// Its properties.
const OF_CUSTOM_OBJECT: &[&str] = &[
    "string text: serial_number hubspot_owner_id",
    "string textarea: ai_condition",
    "number number: ai_sentiment_score",
];

/// The properties that the guide and the shipped playbooks ask operators to create.
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

impl Default for PropertyDefinitions {
    fn default() -> Self {
        Self::of(true)
    }
}

impl PropertyDefinitions {
    /// HubSpot's own definitions and, if `with_ai`, those that operators create for Leadline.
    pub(crate) fn of(with_ai: bool) -> Self {
        let mut definitions = Self { by_type: HashMap::new(), groups: HashMap::new() };
        let ai = if with_ai { AI } else { &[] };
        let custom = [(ObjectType::from(CUSTOM_OBJECT), OF_CUSTOM_OBJECT)];
        for (object_type, lines) in OWN.iter().chain(ai).chain(&custom) {
            let group = format!("{}information", object_type.name());
            definitions.groups.entry(object_type.clone()).or_default().insert(group.clone());
            for line in *lines {
                for definition in parse_line(line, &group) {
                    definitions.add(object_type, definition);
                }
            }
        }
        definitions
    }

    /// Adds a definition, or replaces the one of the same name.
    pub(super) fn add(&mut self, object_type: &ObjectType, definition: PropertyDefinition) {
        self.by_type.entry(object_type.clone()).or_default().insert(definition.name.clone(), definition);
    }

    /// The object types of the portal.
    pub(super) fn object_types(&self) -> impl Iterator<Item = &ObjectType> {
        self.by_type.keys()
    }

    /// The definitions of a type, by name.
    pub(super) fn all(&self, object_type: &ObjectType) -> impl Iterator<Item = (&String, &PropertyDefinition)> {
        self.by_type.get(object_type).into_iter().flatten()
    }

    /// The definition of one property.
    pub(crate) fn get(&self, object_type: &ObjectType, name: &str) -> Option<&PropertyDefinition> {
        self.by_type.get(object_type)?.get(name)
    }
}

/// The definitions that one line of the tables above stands for.
fn parse_line(line: &str, group: &str) -> Vec<PropertyDefinition> {
    let (form, rest) = line.split_once(": ").unwrap_or((line, ""));
    let (kind, field_type) = form.split_once(' ').unwrap_or((form, "text"));
    let (names, options) = rest.split_once(" = ").unwrap_or((rest, ""));
    let definition = |name: &str| PropertyDefinition {
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

impl PropertyDefinition {
    /// The definition as HubSpot's API shows it.
    pub(super) fn to_json(&self, is_read_only: bool) -> Value {
        let option = |value: &String| json!({"label": value, "value": value, "hidden": false, "displayOrder": -1});
        json!({"name": self.name, "label": self.label, "type": self.kind, "description": self.description,
            "fieldType": self.field_type, "groupName": self.group, "archived": false, "calculated": false,
            "modificationMetadata": {"archivable": true, "readOnlyDefinition": false, "readOnlyOptions": false,
                "readOnlyValue": is_read_only},
            "options": self.options.iter().map(option).collect::<Vec<_>>()})
    }
}
