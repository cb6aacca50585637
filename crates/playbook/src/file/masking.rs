//! What a playbook file keeps from the model.

use std::collections::BTreeSet;

use domain::ObjectType;
use toml::Spanned;

use super::{
    checker::Checker,
    tables::{ActionTable, MaskingTable, PromptTable},
};
use crate::{
    masking::{MaskKind, Masking, PropertyRole},
    reads::ContextPlan,
    templates::names_in_expressions,
};

/// The properties that hold a contact's name.
const NAME_PARTS: [&str; 2] = ["firstname", "lastname"];

pub(super) fn read(checker: &mut Checker, table: Option<&Spanned<MaskingTable>>, context: &ContextPlan) -> Masking {
    let Some(table) = table else { return Masking::default() };
    let (span, table) = (table.span(), table.get_ref());
    if table.mask.is_empty() && table.deny.is_empty() {
        checker.add(span, "masking: neither `mask` nor `deny` says what the model does not see");
    }
    let mut masking = Masking::default();
    for kind in &table.mask {
        if !masking.mask.insert(*kind.get_ref()) {
            checker.add(kind.span(), format!("masking.mask: `{}` is there twice", kind.get_ref().as_str()));
        }
        if *kind.get_ref() == MaskKind::Names {
            check_names_are_read(checker, kind, context);
        }
    }
    for name in &table.deny {
        check_denied(checker, name, context);
        if !masking.deny.insert(name.get_ref().clone()) {
            checker.add(name.span(), format!("masking.deny: `{}` is there twice", name.get_ref()));
        }
    }
    masking
}

/// Names are known from properties: where these are not read, the names in texts would stay.
fn check_names_are_read(checker: &mut Checker, kind: &Spanned<MaskKind>, context: &ContextPlan) {
    let is_read = |name: &str| context.reads.iter().any(|read| read.properties.iter().any(|property| property == name));
    for read in context.reads.iter().filter(|read| *read.path.end() == ObjectType::Contact) {
        let missing: Vec<_> =
            NAME_PARTS.iter().filter(|part| !read.properties.iter().any(|name| name == *part)).collect();
        for part in missing {
            let message = format!(
                "masking.mask: `names` needs `{part}` among the properties that are read of `{}`, or the names of these people are \
                 not known; `deny` keeps the property itself from the model",
                read.path
            );
            checker.add(kind.span(), message);
        }
    }
    let has_full_name = context
        .reads
        .iter()
        .flat_map(|read| &read.properties)
        .any(|name| PropertyRole::of(name) == PropertyRole::FullName);
    if !has_full_name && !NAME_PARTS.iter().any(|part| is_read(part)) {
        let message = "masking.mask: `names` masks nothing, because no property with a name is read; read `contact`, or take it out";
        checker.add(kind.span(), message);
    }
}

fn check_denied(checker: &mut Checker, name: &Spanned<String>, context: &ContextPlan) {
    checker.internal_name(name);
    let text = name.get_ref();
    if context.reads.iter().any(|read| read.texts.contains(text)) {
        let message =
            format!("masking.deny: `{text}` is among `texts`, which only the model reads; take it out of there");
        checker.add(name.span(), message);
    } else if !context.reads.iter().any(|read| read.properties.contains(text)) {
        let message =
            format!("masking.deny: `{text}` is no property that this playbook reads, so nothing would be denied");
        checker.add(name.span(), message);
    }
}

/// No text that leaves names a denied property: neither the prompt nor what a channel is told.
pub(super) fn check_templates(checker: &mut Checker, masking: &Masking, prompt: &PromptTable, actions: &[ActionTable]) {
    let texts = [
        ("prompt.system", Some(&prompt.system)),
        ("prompt.user", Some(&prompt.user)),
        ("prompt.condense", prompt.condense.as_ref()),
    ];
    let channels =
        actions.iter().filter(|action| action.channel.is_some()).map(|action| ("text", action.text.as_ref()));
    for (key, text) in texts.into_iter().chain(channels) {
        let Some(text) = text else { continue };
        let mut told = BTreeSet::new();
        for (line, name) in names_in_expressions(text.get_ref()) {
            if masking.deny.contains(name) && told.insert(name) {
                let message = format!("{key}: `{name}` is in masking.deny and must not leave");
                checker.add_within(text.span(), line, message);
            }
        }
    }
}
