//! What playbooks need in a portal: properties, scopes, deal stages and notification channels.

use std::collections::BTreeSet;

use domain::{ObjectType, write_command::DealStage};
use hubspot::client::PropertyOption;
use playbook::{ActionTemplate, FieldKind, InferenceMetadata, Playbook, PropertyWrite, WriteValue};

/// A property that a playbook writes.
#[derive(Debug, Clone, PartialEq)]
pub struct NeededProperty {
    /// The type of the records that have it.
    pub object_type: ObjectType,
    /// Its internal name.
    pub name: String,
    /// HubSpot's `type`.
    pub kind: &'static str,
    /// HubSpot's form element for it (`fieldType`).
    pub field_type: &'static str,
    /// The options of an enumeration; empty for other types.
    pub options: Vec<PropertyOption>,
    /// The field whose values are written; `None` for other values.
    pub field: Option<FieldKind>,
    /// The playbook's description of the field.
    pub description: String,
    /// The first playbook that writes it.
    pub playbook: String,
}

/// The properties that playbooks write, each once.
pub fn properties(playbooks: &[Playbook]) -> Vec<NeededProperty> {
    let mut needed: Vec<NeededProperty> = Vec::new();
    for playbook in playbooks {
        for write in &playbook.effects.writes {
            let kinds: BTreeSet<_> = write.to.iter().map(|path| path.end().clone()).collect();
            for object_type in kinds {
                let property = needed_property(playbook, write, object_type);
                let is_new = !needed
                    .iter()
                    .any(|other| (&other.object_type, &other.name) == (&property.object_type, &property.name));
                if is_new {
                    needed.push(property);
                }
            }
        }
    }
    needed
}

fn needed_property(playbook: &Playbook, write: &PropertyWrite, object_type: ObjectType) -> NeededProperty {
    let field = match &write.value {
        WriteValue::Field(name) => playbook.answer.fields.get(name),
        WriteValue::Text(_) | WriteValue::Metadata(_) | WriteValue::Explanation { .. } => None,
    };
    let (kind, field_type) = match (&write.value, field.map(|field| &field.kind)) {
        (_, Some(FieldKind::Integer { .. } | FieldKind::Number { .. })) => ("number", "number"),
        (_, Some(FieldKind::Date)) => ("date", "date"),
        (_, Some(FieldKind::Boolean)) => ("bool", "booleancheckbox"),
        (_, Some(FieldKind::Choice { .. })) => ("enumeration", "select"),
        (WriteValue::Metadata(InferenceMetadata::ProcessedAt), _) => ("datetime", "date"),
        (WriteValue::Metadata(InferenceMetadata::Model | InferenceMetadata::Playbook), _) => ("string", "text"),
        _ => ("string", "textarea"),
    };
    let options = match field.map(|field| &field.kind) {
        Some(FieldKind::Choice { options }) => options.clone(),
        _ => Vec::new(),
    };
    let option = |(value, display_order): (String, i32)| PropertyOption {
        label: value.clone(),
        value,
        display_order,
        hidden: false,
    };
    NeededProperty {
        object_type,
        name: write.property.clone(),
        kind,
        field_type,
        options: options.into_iter().zip(0..).map(option).collect(),
        field: field.map(|field| field.kind.clone()),
        description: match (&write.value, field) {
            (WriteValue::Explanation { property, .. }, _) => format!("Where the value of {property} comes from."),
            (_, Some(field)) => field.description.clone(),
            (_, None) => playbook.description.clone(),
        },
        playbook: playbook.name.clone(),
    }
}

/// The scopes that a token needs for reads, writes and actions.
pub fn scopes(playbooks: &[Playbook]) -> BTreeSet<String> {
    let mut scopes = BTreeSet::new();
    for playbook in playbooks {
        for read in &playbook.context.reads {
            scopes.insert(object_scope(read.path.end(), "read"));
            scopes.extend(read.engagements.iter().map(|kind| object_scope(kind, "read")));
            if read.engagements.contains(&ObjectType::Email) {
                scopes.insert("sales-email-read".to_owned());
            }
        }
        for (kind, _) in playbook.written_properties() {
            scopes.insert(object_scope(&kind, "write"));
            scopes.insert(schema_scope(&kind, "read"));
        }
        scopes.extend(playbook.created_engagements().iter().map(|kind| object_scope(kind, "write")));
    }
    scopes
}

fn object_scope(kind: &ObjectType, access: &str) -> String {
    match kind {
        ObjectType::Ticket => "tickets".to_owned(),
        ObjectType::Company | ObjectType::Deal => format!("crm.objects.{}.{access}", kind.path()),
        custom if custom.is_custom() => format!("crm.objects.custom.{access}"),
        // HubSpot has no scopes for engagements: those of contacts apply.
        _ => format!("crm.objects.contacts.{access}"),
    }
}

/// The scope for the definitions of a type's properties.
fn schema_scope(kind: &ObjectType, access: &str) -> String {
    match kind {
        ObjectType::Ticket => "tickets".to_owned(),
        ObjectType::Company | ObjectType::Deal => format!("crm.schemas.{}.{access}", kind.path()),
        custom if custom.is_custom() => format!("crm.schemas.custom.{access}"),
        _ => format!("crm.schemas.contacts.{access}"),
    }
}

/// The stages that deals are moved to.
pub fn stages(playbooks: &[Playbook]) -> BTreeSet<&DealStage> {
    let actions = playbooks.iter().flat_map(|playbook| &playbook.effects.actions).map(|action| &action.spec);
    actions.filter_map(|spec| if let ActionTemplate::MoveDeal(stage) = spec { Some(stage) } else { None }).collect()
}

/// The notification channels that actions name.
pub fn channels(playbooks: &[Playbook]) -> BTreeSet<&str> {
    let actions = playbooks.iter().flat_map(|playbook| &playbook.effects.actions).map(|action| &action.spec);
    actions
        .filter_map(
            |spec| if let ActionTemplate::Notify { channel, .. } = spec { Some(channel.as_str()) } else { None },
        )
        .collect()
}
