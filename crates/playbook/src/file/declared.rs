//! The parts of a playbook file to which its later tables refer.

use domain::ObjectType;
use toml::Spanned;

use super::checker::Checker;
use crate::{
    fields::AnswerField,
    path::RecordPath,
    reads::ContextPlan,
    templates::{Condition, Templates, TextTemplate},
    variables::{Samples, Scope},
};

/// The parts of a playbook file to which its later tables refer.
pub(super) struct Declared<'a> {
    pub(super) records: &'a [ObjectType],
    pub(super) context: &'a ContextPlan,
    pub(super) fields: &'a [AnswerField],
    pub(super) samples: Samples,
}

impl Declared<'_> {
    /// The paths of a table; if it has none, the paths to the records that the playbook is about.
    pub(super) fn paths(&self, checker: &mut Checker, paths: Option<&Vec<Spanned<String>>>) -> Vec<RecordPath> {
        let Some(paths) = paths else {
            return self.records.iter().cloned().map(RecordPath::of).collect();
        };
        let mut found = Vec::new();
        for text in paths {
            match RecordPath::parse(text.get_ref()) {
                Ok(path) if self.context.contains(&path) => found.push(path),
                Ok(path) => checker.add(text.span(), format!("`{path}` is not read; add it to [[context.reads]]")),
                Err(error) => checker.add(text.span(), error.to_string()),
            }
        }
        found
    }

    /// The field with this name.
    pub(super) fn field(&self, checker: &mut Checker, name: &Spanned<String>) -> Option<&AnswerField> {
        let field = self.fields.iter().find(|field| field.name == *name.get_ref());
        if field.is_none() {
            checker.add(name.span(), format!("there is no field `{}`", name.get_ref()));
        }
        field
    }

    /// Compiles the condition `when` of a table; `template` is the condition's name among the playbook's templates.
    pub(super) fn condition(
        &self,
        checker: &mut Checker,
        templates: &mut Templates,
        template: &str,
        when: Option<&Spanned<String>>,
        scope: Scope,
    ) -> Option<Condition> {
        let when = when?;
        let added = templates.add_condition(template, when.get_ref(), &self.samples.variables(scope));
        checker.template("when", &when.span(), added)
    }

    /// Compiles the text with the key `key` of a table; `template` is its name among the playbook's templates.
    pub(super) fn text(
        &self,
        checker: &mut Checker,
        templates: &mut Templates,
        (template, key): (&str, &str),
        text: &Spanned<String>,
        scope: Scope,
    ) -> Option<TextTemplate> {
        let added = templates.add_text(template, text.get_ref(), &self.samples.variables(scope));
        checker.template(key, &text.span(), added)
    }

    /// Compiles the text for a channel with the key `key` of a table.
    pub(super) fn channel_text(
        &self,
        checker: &mut Checker,
        templates: &mut Templates,
        (template, key): (&str, &str),
        text: &Spanned<String>,
        scope: Scope,
    ) -> Option<TextTemplate> {
        let added = templates.add_channel_text(template, text.get_ref(), &self.samples.variables(scope));
        checker.template(key, &text.span(), added)
    }
}
