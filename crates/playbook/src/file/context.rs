//! What a playbook file reads from HubSpot.

use domain::ObjectType;
use toml::Spanned;

use super::{
    checker::Checker,
    tables::{ContextTable, ReadTable},
};
use crate::{
    path::RecordPath,
    reads::{ContextPlan, ContextRead},
};

/// The default of `max_records`.
const DEFAULT_MAX_RECORDS: usize = 5;

/// The default of `newest`.
const DEFAULT_NEWEST: usize = 20;

pub(super) fn read(checker: &mut Checker, table: &ContextTable, records: &[ObjectType]) -> ContextPlan {
    checker.within(&table.max_tokens, 100..=1_000_000, "max_tokens");
    let mut plan = ContextPlan { reads: Vec::new(), window: table.window, max_tokens: *table.max_tokens.get_ref() };
    let mut places = Vec::new();
    for table in &table.reads {
        let Some(read) = read_one(checker, table) else { continue };
        if !records.contains(read.path.start()) {
            checker.add(table.of.span(), format!("`{}` is not among this playbook's records", read.path.start()));
        }
        if plan.contains(&read.path) {
            checker.add(table.of.span(), format!("`{}` is read twice", read.path));
        }
        places.push((table.of.span(), read.path.clone()));
        plan.reads.push(read);
    }
    for kind in records.iter().filter(|kind| !plan.contains(&RecordPath::of((*kind).clone()))) {
        checker.add_line(1, format!("[[context.reads]] does not read `{kind}`, which this playbook is about"));
    }
    for (span, path) in places {
        if let Some(parent) = path.parent().filter(|parent| !plan.contains(parent)) {
            checker.add(span, format!("`{path}` needs `{parent}`, which is not read"));
        }
    }
    plan
}

fn read_one(checker: &mut Checker, table: &ReadTable) -> Option<ContextRead> {
    let path =
        RecordPath::parse(table.of.get_ref()).map_err(|error| checker.add(table.of.span(), error.to_string())).ok()?;
    table.properties.iter().chain(&table.texts).for_each(|name| checker.internal_name(name));
    let mut engagements = Vec::new();
    for kind in &table.engagements {
        match ObjectType::from(kind.get_ref().as_str()) {
            engagement if engagement.is_engagement() => engagements.push(engagement),
            _ => checker.add(
                kind.span(),
                format!("`{}` is none of notes, calls, emails, meetings, tasks, communications", kind.get_ref()),
            ),
        }
    }
    let names = |list: &[Spanned<String>]| list.iter().map(|name| name.get_ref().clone()).collect();
    // One batch read fetches the records; HubSpot takes up to 100 inputs in it.
    Some(ContextRead {
        max_records: checker.bounded(table.max_records.as_ref(), DEFAULT_MAX_RECORDS, "max_records"),
        newest: checker.bounded(table.newest.as_ref(), DEFAULT_NEWEST, "newest"),
        properties: names(&table.properties),
        texts: names(&table.texts),
        engagements,
        path,
    })
}
