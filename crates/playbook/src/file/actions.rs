//! What a playbook writes and does, as its file has it.

use std::collections::HashSet;

use toml::Spanned;

use super::{
    checker::Checker,
    tables::{ActionTable, WriteTable},
};
use domain::ObjectType;

use crate::{
    ActionPlan, ActionTemplate, ContextPlan, Field, FieldKind, RecordPath, Templates, Text, Write, WriteValue,
    templates::{Samples, Scope},
};

/// What the tables below refer to.
pub(super) struct Known<'a> {
    pub(super) records: &'a [ObjectType],
    pub(super) context: &'a ContextPlan,
    pub(super) fields: &'a [Field],
    pub(super) samples: Samples,
}

impl Known<'_> {
    /// The paths that are named; without any, the record itself.
    fn paths(&self, checker: &mut Checker, paths: Option<&Vec<Spanned<String>>>) -> Vec<RecordPath> {
        let Some(paths) = paths else {
            return self.records.iter().cloned().map(RecordPath::of).collect();
        };
        let mut found = Vec::new();
        for named in paths {
            match RecordPath::parse(named.get_ref()) {
                Ok(path) if self.context.reads.iter().any(|read| read.path == path) => found.push(path),
                Ok(path) => checker.add(named.span(), format!("`{path}` is not read; add it to [[context.reads]]")),
                Err(message) => checker.add(named.span(), message),
            }
        }
        found
    }

    fn field(&self, checker: &mut Checker, name: &Spanned<String>) -> Option<&Field> {
        let field = self.fields.iter().find(|field| field.name == *name.get_ref());
        if field.is_none() {
            checker.add(name.span(), format!("there is no field `{}`", name.get_ref()));
        }
        field
    }
}

pub(super) fn writes(
    checker: &mut Checker,
    tables: &[WriteTable],
    known: &Known,
    templates: &mut Templates,
) -> Vec<Write> {
    let mut written = HashSet::new();
    let mut writes = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        checker.property_name(&table.property);
        let property = table.property.get_ref();
        if checker.protected.contains(property) {
            checker.add(
                table.property.span(),
                format!("`{property}` is protected; the setting inference.protected_properties would have to allow it"),
            );
        }
        let to = known.paths(checker, table.to.as_ref());
        for path in &to {
            // Two sources for one property would be a coin toss.
            if !written.insert((path.end().clone(), path.start().clone(), property)) {
                checker.add(table.property.span(), format!("property `{property}` of {} is written twice", path.end()));
            }
        }
        let value = match (&table.field, &table.text, table.stamp) {
            (Some(name), None, None) => known.field(checker, name).and_then(|field| {
                if matches!(field.kind, FieldKind::List { .. }) {
                    checker.add(name.span(), format!("`{}` is a list; write it with `text`", field.name));
                    return None;
                }
                Some(WriteValue::Field(field.name.clone()))
            }),
            (None, Some(text), None) => {
                let added = templates.text(&format!("writes[{index}]"), text.get_ref(), &known.samples, Scope::Answer);
                checker.template("text", &text.span(), added).map(WriteValue::Text)
            }
            (None, None, Some(stamp)) => Some(WriteValue::Stamp(stamp)),
            _ => {
                checker
                    .add(table.property.span(), "give one of `field`, `text` and `stamp`: where the value comes from");
                None
            }
        };
        if let Some(value) = value {
            writes.push(Write { property: property.clone(), to, value, policy: table.policy });
        }
    }
    writes
}

pub(super) fn actions(
    checker: &mut Checker,
    tables: &[ActionTable],
    known: &Known,
    templates: &mut Templates,
) -> Vec<ActionPlan> {
    let mut names = HashSet::new();
    let mut actions = Vec::new();
    for table in tables {
        let name = table.name.get_ref();
        if !names.insert(name) {
            checker.add(table.name.span(), format!("action `{name}` is there twice"));
        }
        let list = table.for_each.as_ref().and_then(|list| known.field(checker, list).zip(Some(list)));
        if let Some((field, list)) = list
            && !matches!(field.kind, FieldKind::List { .. })
        {
            checker.add(list.span(), format!("`{}` is no list", field.name));
        }
        match (&table.for_each, &table.max_records) {
            (Some(list), None) => checker.add(list.span(), "`for_each` needs `max_records`: how many?"),
            (None, Some(most)) => checker.add(most.span(), "`max_records` goes with `for_each`"),
            (Some(_), Some(most)) => checker.within(most, 1..=100, "max_records"),
            (None, None) => {}
        }
        let scope = list.map_or(Scope::Answer, |(field, _)| Scope::Item(&field.name));
        let when = table.when.as_ref().and_then(|when| {
            let added = templates.condition(&format!("{name}.when"), when.get_ref(), &known.samples, scope);
            checker.template("when", &when.span(), added)
        });
        let mut on = known.paths(checker, table.on.as_ref());
        if table.on.is_none() && table.spec.get_ref() == "move_deal" {
            on.retain(|path| *path.end() == ObjectType::Deal);
        }
        let spec = spec(checker, table, &on, &mut |checker, key, text| {
            let added = templates.text(&format!("{name}.{key}"), text.get_ref(), &known.samples, scope);
            checker.template(key, &text.span(), added)
        });
        if let Some(spec) = spec {
            actions.push(ActionPlan {
                name: name.clone(),
                when,
                for_each: table.for_each.as_ref().map(|list| list.get_ref().clone()),
                max_records: table.max_records.as_ref().map_or(usize::MAX, |most| *most.get_ref()),
                on,
                cooldown_hours: table.cooldown_hours,
                spec,
            });
        }
    }
    actions
}

type AddText<'a> = &'a mut dyn FnMut(&mut Checker, &'static str, &Spanned<String>) -> Option<Text>;

fn spec(checker: &mut Checker, table: &ActionTable, on: &[RecordPath], add: AddText) -> Option<ActionTemplate> {
    let texts = [
        ("subject", &table.subject),
        ("body", &table.body),
        ("owner", &table.owner),
        ("due", &table.due),
        ("stage", &table.stage),
        ("channel", &table.channel),
        ("text", &table.text),
    ];
    let others = [
        ("due_in_hours", table.due_in_hours.is_some()),
        ("priority", table.priority.is_some()),
        ("task_type", table.task_type.is_some()),
    ];
    let kind = table.spec.get_ref().as_str();
    let uses: &[&str] = match kind {
        "create_task" => &["subject", "body", "owner", "due", "due_in_hours", "priority", "task_type"],
        "create_note" => &["body"],
        "move_deal" => &["stage"],
        "notify" => &["channel", "text"],
        other => {
            let message = format!("`{other}` is none of create_task, create_note, move_deal, notify");
            checker.add(table.spec.span(), message);
            return None;
        }
    };
    let all = texts.iter().map(|(key, text)| (*key, text.is_some())).chain(others);
    for (key, _) in all.filter(|(key, is_given)| *is_given && !uses.contains(key)) {
        checker.add(table.spec.span(), format!("`{key}` means nothing for {kind}"));
    }
    let given = |checker: &mut Checker, key: &str, text: &'_ Option<Spanned<String>>| {
        if text.is_none() {
            checker.add(table.spec.span(), format!("{kind} needs `{key}`"));
        }
        text.clone()
    };
    match kind {
        "create_task" => {
            let subject = given(checker, "subject", &table.subject)?;
            Some(ActionTemplate::CreateTask {
                subject: add(checker, "subject", &subject)?,
                body: table.body.as_ref().and_then(|text| add(checker, "body", text)),
                owner: table.owner.as_ref().and_then(|text| add(checker, "owner", text)),
                due: table.due.as_ref().and_then(|text| add(checker, "due", text)),
                due_in_hours: table.due_in_hours.unwrap_or(24),
                priority: table.priority.unwrap_or_default(),
                task_type: table.task_type.unwrap_or_default(),
            })
        }
        "create_note" => {
            let body = given(checker, "body", &table.body)?;
            Some(ActionTemplate::CreateNote { body: add(checker, "body", &body)? })
        }
        "move_deal" => {
            for path in on.iter().filter(|path| *path.end() != ObjectType::Deal) {
                checker.add(table.spec.span(), format!("`{path}` does not lead to a deal"));
            }
            if on.is_empty() {
                checker.add(table.spec.span(), "move_deal needs `on`: which deals?");
            }
            Some(ActionTemplate::MoveDeal { stage: given(checker, "stage", &table.stage)?.into_inner() })
        }
        _ => {
            let channel = given(checker, "channel", &table.channel)?.into_inner();
            let text = given(checker, "text", &table.text)?;
            Some(ActionTemplate::Notify { channel, text: add(checker, "text", &text)? })
        }
    }
}
