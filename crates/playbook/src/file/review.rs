//! The mode of a playbook file, and the rules that approve its proposals.

use std::collections::HashSet;

use domain::review::{ApprovalRule, WriteMode};

use super::{checker::Checker, declared::Declared, tables::File};
use crate::{
    effects::{ApprovalPlan, PropertyWrite, ReviewPlan},
    review::STAGE,
    templates::Templates,
    variables::Scope,
};

pub(super) fn read(
    checker: &mut Checker,
    file: &File,
    writes: &[PropertyWrite],
    declared: &Declared,
    templates: &mut Templates,
) -> ReviewPlan {
    if let Some(canary) = &file.canary {
        checker.within(canary, 1..=99, "canary");
        if file.mode != WriteMode::Live {
            checker.add(
                canary.span(),
                format!("`canary` belongs to the mode `live`, and this playbook's is `{}`", file.mode),
            );
        }
    }
    let properties: Vec<_> = writes.iter().map(|write| write.property.clone()).chain([STAGE.to_owned()]).collect();
    let mut names = HashSet::new();
    let mut approve_if = Vec::new();
    for (index, table) in file.review.approve_if.iter().enumerate() {
        let name = table.name.get_ref();
        if !names.insert(name) {
            checker.add(table.name.span(), format!("there are two rules `{name}`"));
        }
        checker.internal_name(&table.name);
        let template = format!("review.approve_if[{index}]");
        let scope = Scope::Proposal(&properties);
        if let Some(when) = declared.condition(checker, templates, &template, Some(&table.when), scope) {
            let rule = ApprovalRule { name: name.clone(), when: when.source };
            approve_if.push(ApprovalPlan { rule, uses: when.uses });
        }
    }
    ReviewPlan { mode: file.mode, canary: file.canary.as_ref().map(|canary| *canary.get_ref()), approve_if }
}
