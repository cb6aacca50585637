//! The writes and actions of a playbook file.

use std::collections::HashSet;

use domain::{
    ObjectType,
    write_command::{ActionKind, DealStage, WritePolicy},
};
use toml::Spanned;

use super::{
    checker::Checker,
    declared::Declared,
    tables::{ActionTable, WriteTable},
};
use crate::{
    effects::{ActionPlan, ActionTemplate, PropertyWrite, WriteValue},
    fields::{FieldKind, MAX_LIST_ITEMS},
    path::RecordPath,
    templates::{Templates, TextTemplate},
    variables::Scope,
};

/// The default of `due_in_hours`.
const DEFAULT_DUE_IN_HOURS: u32 = 24;

pub(super) fn writes(
    checker: &mut Checker,
    tables: &[WriteTable],
    declared: &Declared,
    templates: &mut Templates,
) -> Vec<PropertyWrite> {
    let mut written = HashSet::new();
    let mut writes = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let property = table.property.get_ref();
        let to = declared.paths(checker, table.to.as_ref());
        check_property(checker, &mut written, &table.property, &to);
        if let Some(explain) = &table.explain {
            check_property(checker, &mut written, explain, &to);
            if table.field.is_none() {
                checker.add(explain.span(), "`explain` belongs to a write with `field`");
            }
        }
        let value = match (&table.field, &table.text, table.metadata) {
            (Some(name), None, None) => declared.field(checker, name).and_then(|field| {
                if matches!(field.kind, FieldKind::List { .. }) {
                    checker.add(name.span(), format!("`{}` is a list; write it with `text`", field.name));
                    return None;
                }
                Some(WriteValue::Field(field.name.clone()))
            }),
            (None, Some(text), None) => {
                let template = format!("writes[{index}]");
                declared.text(checker, templates, (&template, "text"), text, Scope::Answer).map(WriteValue::Text)
            }
            (None, None, Some(metadata)) => Some(WriteValue::Metadata(metadata)),
            _ => {
                checker.add(table.property.span(), "give the value as exactly one of `field`, `text` and `metadata`");
                None
            }
        };
        let Some(value) = value else { continue };
        let (policy, mode) = (table.policy, table.mode);
        if let (Some(explain), WriteValue::Field(field)) = (&table.explain, &value) {
            writes.push(PropertyWrite {
                property: explain.get_ref().clone(),
                to: to.clone(),
                value: WriteValue::Explanation { property: property.clone(), field: field.clone() },
                // Nobody else has a reason to write it.
                policy: WritePolicy::Always,
                mode,
            });
        }
        writes.push(PropertyWrite { property: property.clone(), to, value, policy, mode });
    }
    writes
}

/// Checks a property that is written to the records at the end of `to`.
fn check_property<'a>(
    checker: &mut Checker,
    written: &mut HashSet<(ObjectType, ObjectType, &'a str)>,
    property: &'a Spanned<String>,
    to: &[RecordPath],
) {
    checker.internal_name(property);
    let name = property.get_ref();
    if checker.protected.contains(name) {
        let message = format!("`{name}` is protected by the setting inference.protected_properties and not writable");
        checker.add(property.span(), message);
    }
    for path in to {
        // With two writes of one property, their order would decide about its value.
        if !written.insert((path.end().clone(), path.start().clone(), name)) {
            checker.add(property.span(), format!("property `{name}` of {} is written twice", path.end()));
        }
    }
}

pub(super) fn actions(
    checker: &mut Checker,
    tables: &[ActionTable],
    declared: &Declared,
    templates: &mut Templates,
) -> Vec<ActionPlan> {
    let mut names = HashSet::new();
    let mut actions = Vec::new();
    for table in tables {
        let name = table.name.get_ref();
        if !names.insert(name) {
            checker.add(table.name.span(), format!("there are two actions `{name}`"));
        }
        let list = table.for_each.as_ref().and_then(|list| declared.field(checker, list).zip(Some(list)));
        if let Some((field, list)) = list
            && !matches!(field.kind, FieldKind::List { .. })
        {
            checker.add(list.span(), format!("`{}` is no list", field.name));
        }
        match (&table.for_each, &table.max_items) {
            (Some(list), None) => checker.add(list.span(), "`for_each` needs `max_items`"),
            (None, Some(most)) => checker.add(most.span(), "`max_items` belongs to `for_each`"),
            (Some(_), Some(most)) => checker.within(most, 1..=MAX_LIST_ITEMS, "max_items"),
            (None, None) => {}
        }
        let Some(kind) = ActionKind::parse(table.kind.get_ref()).filter(|kind| !kind.is_undo()) else {
            let kinds: Vec<_> =
                ActionKind::ALL.iter().filter(|kind| !kind.is_undo()).map(|kind| kind.as_str()).collect();
            checker.add(table.kind.span(), format!("`{}` is none of {}", table.kind.get_ref(), kinds.join(", ")));
            continue;
        };
        let scope = list.map_or(Scope::Answer, |(field, _)| Scope::Item(&field.name));
        let when = declared.condition(checker, templates, &format!("{name}.when"), table.when.as_ref(), scope);
        let mut on = declared.paths(checker, table.on.as_ref());
        if table.on.is_none() && kind == ActionKind::MoveDeal {
            on.retain(|path| *path.end() == ObjectType::Deal);
        }
        let spec = template(checker, table, kind, &on, &mut |checker, key, text| {
            let names = (&*format!("{name}.{key}"), key);
            match kind {
                ActionKind::Notify => declared.channel_text(checker, templates, names, text, scope),
                _ => declared.text(checker, templates, names, text, scope),
            }
        });
        if let Some(spec) = spec {
            actions.push(ActionPlan {
                name: name.clone(),
                when,
                for_each: table.for_each.as_ref().map(|list| list.get_ref().clone()),
                max_items: table.max_items.as_ref().map_or(usize::MAX, |most| *most.get_ref()),
                on,
                cooldown_hours: table.cooldown_hours,
                mode: table.mode,
                spec,
            });
        }
    }
    actions
}

/// Compiles the text with this key.
type AddText<'a> = &'a mut dyn FnMut(&mut Checker, &'static str, &Spanned<String>) -> Option<TextTemplate>;

fn template(
    checker: &mut Checker,
    table: &ActionTable,
    kind: ActionKind,
    on: &[RecordPath],
    add: AddText,
) -> Option<ActionTemplate> {
    check_keys(checker, table, kind);
    let required = |checker: &mut Checker, key: &str, text: &Option<Spanned<String>>| {
        if text.is_none() {
            checker.add(table.kind.span(), format!("{kind} needs `{key}`"));
        }
        text.clone()
    };
    if matches!(kind, ActionKind::CreateTask | ActionKind::CreateNote) {
        for path in on.iter().filter(|path| path.end().is_engagement()) {
            checker.add(
                table.kind.span(),
                format!("HubSpot associates tasks and notes with records; `{path}` leads to none"),
            );
        }
    }
    match kind {
        ActionKind::CreateTask => {
            let subject = required(checker, "subject", &table.subject)?;
            Some(ActionTemplate::CreateTask {
                subject: add(checker, "subject", &subject)?,
                body: table.body.as_ref().and_then(|text| add(checker, "body", text)),
                owner: table.owner.as_ref().and_then(|text| add(checker, "owner", text)),
                due: table.due.as_ref().and_then(|text| add(checker, "due", text)),
                due_in_hours: table.due_in_hours.unwrap_or(DEFAULT_DUE_IN_HOURS),
                priority: table.priority.unwrap_or_default(),
                task_type: table.task_type.unwrap_or_default(),
            })
        }
        ActionKind::CreateNote => {
            let body = required(checker, "body", &table.body)?;
            Some(ActionTemplate::CreateNote { body: add(checker, "body", &body)? })
        }
        ActionKind::MoveDeal => {
            for path in on.iter().filter(|path| *path.end() != ObjectType::Deal) {
                checker.add(table.kind.span(), format!("`{path}` does not lead to a deal"));
            }
            if on.is_empty() {
                checker.add(table.kind.span(), "move_deal needs `on`, the path to the deals");
            }
            let stage = required(checker, "stage", &table.stage)?.into_inner();
            let pipeline = table.pipeline.clone().map(Spanned::into_inner);
            Some(ActionTemplate::MoveDeal(DealStage { stage, pipeline }))
        }
        ActionKind::Notify => {
            let channel = required(checker, "channel", &table.channel)?.into_inner();
            let text = required(checker, "text", &table.text)?;
            Some(ActionTemplate::Notify { channel, text: add(checker, "text", &text)? })
        }
        ActionKind::DeleteEngagement | ActionKind::MoveDealBack => None,
    }
}

/// Rejects the keys that belong to other kinds of actions.
fn check_keys(checker: &mut Checker, table: &ActionTable, kind: ActionKind) {
    let allowed: &[&str] = match kind {
        ActionKind::CreateTask => &["subject", "body", "owner", "due", "due_in_hours", "priority", "task_type"],
        ActionKind::CreateNote => &["body"],
        ActionKind::MoveDeal => &["stage", "pipeline"],
        ActionKind::Notify => &["channel", "text"],
        ActionKind::DeleteEngagement | ActionKind::MoveDealBack => &[],
    };
    let keys = [
        ("subject", table.subject.is_some()),
        ("body", table.body.is_some()),
        ("owner", table.owner.is_some()),
        ("due", table.due.is_some()),
        ("due_in_hours", table.due_in_hours.is_some()),
        ("priority", table.priority.is_some()),
        ("task_type", table.task_type.is_some()),
        ("stage", table.stage.is_some()),
        ("pipeline", table.pipeline.is_some()),
        ("channel", table.channel.is_some()),
        ("text", table.text.is_some()),
    ];
    for (key, _) in keys.iter().filter(|(key, is_given)| *is_given && !allowed.contains(key)) {
        checker.add(table.kind.span(), format!("`{key}` is not a key of {kind}"));
    }
}
