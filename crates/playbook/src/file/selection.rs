//! The records, triggers and guards of a playbook file.

use domain::ObjectType;
use toml::Spanned;

use super::{
    checker::Checker,
    declared::Declared,
    tables::{GuardTable, TriggerTable},
};
use crate::{
    path::RecordPath,
    playbook::Guard,
    templates::Templates,
    trigger::{self, Trigger},
    variables::Scope,
};

pub(super) fn records(checker: &mut Checker, kinds: &[Spanned<String>]) -> Vec<ObjectType> {
    if kinds.is_empty() {
        checker.add_line(1, "records is empty; name the types of records that the playbook is about");
    }
    let mut records = Vec::new();
    for kind in kinds {
        match RecordPath::parse(kind.get_ref()) {
            Ok(path) if path.steps() == 0 => records.push(path.end().clone()),
            Ok(_) => checker.add(kind.span(), "records are object types, not paths"),
            Err(error) => checker.add(kind.span(), error.to_string()),
        }
    }
    records
}

pub(super) fn triggers(
    checker: &mut Checker,
    tables: &[TriggerTable],
    declared: &Declared,
    templates: &mut Templates,
) -> Vec<Trigger> {
    if tables.is_empty() {
        checker.add_line(1, "no triggers; nothing would ever start this playbook");
    }
    let mut triggers = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        table.properties.iter().for_each(|name| checker.internal_name(name));
        let properties: Vec<_> = table.properties.iter().map(|name| name.get_ref().clone()).collect();
        let parsed = trigger::parse(table.event.get_ref(), table.object_type.as_deref(), &properties);
        let (object_type, kind) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                checker.add(table.event.span(), error.to_string());
                continue;
            }
        };
        if !object_type.is_engagement() && !declared.records.contains(&object_type) {
            checker.add(table.event.span(), format!("`{object_type}` is not among this playbook's records"));
        }
        let name = format!("triggers[{index}]");
        let when = declared.condition(checker, templates, &name, table.when.as_ref(), Scope::Records);
        triggers.push(Trigger { object_type, kind, properties, when });
    }
    triggers
}

pub(super) fn guards(
    checker: &mut Checker,
    tables: &[GuardTable],
    declared: &Declared,
    templates: &mut Templates,
) -> Vec<Guard> {
    let mut guards = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        checker.internal_name(&table.name);
        let name = format!("guards[{index}]");
        if let Some(when) = declared.condition(checker, templates, &name, Some(&table.when), Scope::Records) {
            guards.push(Guard { when, name: table.name.get_ref().clone() });
        }
    }
    guards
}
