//! `leadline playbook provision`: creates the properties that playbooks write.

use std::{
    collections::{BTreeSet, HashMap},
    process::ExitCode,
};

use anyhow::Context;
use bootstrap::CallHooks;
use domain::ObjectType;
use hubspot::{
    HubSpotClient,
    client::{NewProperty, PropertyDefinition, PropertyGroup, PropertyRule},
};
use playbook::Playbook;
use settings::Settings;

use super::rules::broken_rules;
use crate::{
    needs::{self, NeededProperty},
    print::{Cell, Format, Page, Table, Tone, column},
};

/// The property group of the properties that Leadline creates.
const GROUP: &str = "leadline";
const GROUP_LABEL: &str = "Leadline";

/// What the plan says about one property.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Create,
    Exists,
    Conflict(String),
}

impl Step {
    fn cell(&self) -> Cell {
        match self {
            Self::Create => Cell::Toned("create", Tone::Waiting),
            Self::Exists => Cell::Toned("exists", Tone::Good),
            Self::Conflict(_) => Cell::Toned("conflict", Tone::Bad),
        }
    }
}

/// Makes a plan and, unless it is a dry run or there is a conflict, carries it out; then prints it and what was done.
pub async fn run(settings: &Settings, playbooks: &[Playbook], dry_run: bool, json: bool) -> anyhow::Result<ExitCode> {
    let client = bootstrap::hubspot_client(settings, CallHooks::default())?;
    let needed = needs::properties(playbooks);
    let kinds: BTreeSet<ObjectType> = needed.iter().map(|property| property.object_type.clone()).collect();
    let mut known: HashMap<ObjectType, Vec<PropertyDefinition>> = HashMap::new();
    let mut new_groups = Vec::new();
    let mut rules = HashMap::new();
    for kind in kinds {
        // A portal may have no rules, and the plan does not depend on them.
        rules.insert(kind.clone(), client.property_rules(&kind).await.unwrap_or_default());
        known.insert(kind.clone(), client.properties(&kind).await.with_context(|| format!("properties of {kind}"))?);
        let groups = client.property_groups(&kind).await.with_context(|| format!("property groups of {kind}"))?;
        if !groups.iter().any(|group| group.name == GROUP) {
            new_groups.push(kind);
        }
    }
    let plan: Vec<_> = needed.iter().map(|property| (property, step(property, &known))).collect();
    new_groups.retain(|kind| plan.iter().any(|(p, step)| p.object_type == *kind && *step == Step::Create));

    let page = plan_page(&new_groups, &plan, &rules);
    let is_in_conflict = plan.iter().any(|(_, step)| matches!(step, Step::Conflict(_)));
    let (created, sentence) = if is_in_conflict {
        (0, "nothing was created, because of the conflicts: existing properties are never changed".to_owned())
    } else if dry_run {
        (0, "nothing was created: this was a dry run".to_owned())
    } else {
        let created = create(&client, &new_groups, &plan).await;
        if created.is_err() {
            // What was to be created is known, though not all of it was.
            page.print(Format { json, utc: false })?;
        }
        let created = created?;
        (created, format!("created {created} properties"))
    };
    page.fact("created", created, sentence).print(Format { json, utc: false })?;
    Ok(if is_in_conflict { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Creates what the plan says; returns how many properties that were.
async fn create(
    client: &HubSpotClient,
    new_groups: &[ObjectType],
    plan: &[(&NeededProperty, Step)],
) -> anyhow::Result<usize> {
    for kind in new_groups {
        let group = PropertyGroup { name: GROUP.to_owned(), label: GROUP_LABEL.to_owned() };
        client.create_property_group(kind, &group).await.with_context(|| format!("group {GROUP} of {kind}"))?;
    }
    let mut created = 0;
    for (property, _) in plan.iter().filter(|(_, step)| *step == Step::Create) {
        let name = format!("{}.{}", property.object_type, property.name);
        client.create_property(&property.object_type, &new_property(property)).await.with_context(|| name)?;
        created += 1;
    }
    Ok(created)
}

fn plan_page(
    new_groups: &[ObjectType],
    plan: &[(&NeededProperty, Step)],
    rules: &HashMap<ObjectType, Vec<PropertyRule>>,
) -> Page {
    let mut groups = Table::new([column("group", "group"), column("of", "object_type")]);
    for kind in new_groups {
        groups.add([GROUP.into(), kind.to_string().into()]);
    }
    let mut properties = Table::new([
        column("step", "step"),
        column("property", "property").whole(),
        column("type", "type"),
        column("shown as", "field_type"),
        column("detail", "detail"),
    ]);
    let mut warnings = Table::new([column("property", "property").whole(), column("warning", "warning")]);
    for (property, step) in plan {
        let name = format!("{}.{}", property.object_type, property.name);
        let detail = match step {
            Step::Create if property.options.is_empty() => Cell::Empty,
            Step::Create => {
                let options: Vec<_> = property.options.iter().map(|option| option.value.as_str()).collect();
                format!("options {}", options.join(", ")).into()
            }
            Step::Exists => {
                let rules = rules.get(&property.object_type).map_or(&[][..], Vec::as_slice);
                let broken = broken_rules(property, rules);
                broken.into_iter().for_each(|broken| warnings.add([name.clone().into(), broken.into()]));
                Cell::Empty
            }
            Step::Conflict(why) => why.as_str().into(),
        };
        properties.add([step.cell(), name.into(), property.kind.into(), property.field_type.into(), detail]);
    }
    Page::default()
        .optional_section("groups", "property groups to create", groups)
        .section("properties", "properties that the playbooks write", properties)
        .optional_section("warnings", "rules of the portal", warnings)
}

fn step(property: &NeededProperty, known: &HashMap<ObjectType, Vec<PropertyDefinition>>) -> Step {
    let existing = known.get(&property.object_type).into_iter().flatten().find(|known| known.name == property.name);
    existing.map_or(Step::Create, |existing| conflict(property, existing).map_or(Step::Exists, Step::Conflict))
}

/// Why an existing property does not accept what the playbook writes, and what to do about it; `None` when it does.
pub fn conflict(property: &NeededProperty, existing: &PropertyDefinition) -> Option<String> {
    if let Some(why) = existing.not_writable() {
        return Some(format!("{why}; name another property in the playbook `{}`", property.playbook));
    }
    if existing.kind != property.kind {
        return Some(format!(
            "exists with type {}, the playbook `{}` writes {}; name another property in the playbook",
            existing.kind, property.playbook, property.kind
        ));
    }
    let missing: Vec<_> = property
        .options
        .iter()
        .map(|option| option.value.as_str())
        .filter(|value| !existing.options.iter().any(|known| known.value == *value))
        .collect();
    (!missing.is_empty()).then(|| {
        format!("exists without the options {}; add them in HubSpot, or name another property", missing.join(", "))
    })
}

fn new_property(property: &NeededProperty) -> NewProperty {
    let words = property.name.replace('_', " ");
    let label = words.strip_prefix("ai ").map_or_else(|| words.clone(), |rest| format!("AI {rest}"));
    NewProperty {
        name: property.name.clone(),
        label,
        description: format!("{} Written by Leadline's playbook {}.", property.description, property.playbook),
        kind: property.kind.to_owned(),
        field_type: property.field_type.to_owned(),
        group_name: GROUP.to_owned(),
        options: property.options.clone(),
    }
}
