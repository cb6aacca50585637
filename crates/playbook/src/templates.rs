//! Conditions and texts of a playbook: minijinja's expressions and templates.
//!
//! Every template is rendered with sample values when it is compiled, once with all variables filled and once with all
//! empty, so that a misspelt name is found when the playbook is loaded and not when an event arrives.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use minijinja::{Environment, UndefinedBehavior, Value, value::Serde};
use serde::Serialize;

use crate::channel_text;

/// A compiled condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The template's name among those of the playbook.
    template: String,
    /// The expression as the file has it.
    pub source: String,
    /// Whether it uses another variable than `event`, so that the record has to be read before it can be evaluated.
    pub needs_record: bool,
    /// The names of the variables that it uses.
    pub(crate) uses: Vec<String>,
}

/// A compiled text with variables, by the template's name among those of the playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextTemplate {
    template: String,
    /// The variables that it uses, with their attributes: `answer.lead_score`; `answer` alone, where it is not known which.
    pub(crate) uses: Vec<String>,
}

/// What is wrong with a template, and where.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// The line within the template, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl From<minijinja::Error> for TemplateError {
    fn from(error: minijinja::Error) -> Self {
        let message = error.detail().map_or_else(|| error.kind().to_string(), ToOwned::to_owned);
        Self { line: error.line().unwrap_or(1), message }
    }
}

/// The words in the expressions of a template, each with its line, from 1.
pub(crate) fn names_in_expressions(source: &str) -> Vec<(usize, &str)> {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    let mut names = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(start) = rest.find('{') {
        line += rest[..start].matches('\n').count();
        rest = &rest[start + 1..];
        let Some(inner) = rest.strip_prefix(['{', '%']) else { continue };
        let end = inner.find("}}").into_iter().chain(inner.find("%}")).min().unwrap_or(inner.len());
        for (index, text) in inner[..end].split('\n').enumerate() {
            names.extend(text.split(|c| !is_part(c)).filter(|name| !name.is_empty()).map(|name| (line + index, name)));
        }
        line += inner[..end].matches('\n').count();
        rest = &inner[end..];
    }
    names
}

/// The values of the variables in a template. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Variables(Arc<BTreeMap<Arc<str>, Value>>);

impl Variables {
    /// These variables and one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: &impl Serialize) -> Self {
        // Converted once: clones of the variables share the converted value.
        Arc::make_mut(&mut self.0).insert(name.into(), Value::from(Serde(value)));
        self
    }

    /// The values of the variables with these names, as far as there are some.
    pub(crate) fn values_of(&self, names: &[String]) -> serde_json::Map<String, serde_json::Value> {
        let value = |name: &String| {
            let value = serde_json::to_value(self.0.get(name.as_str())?).ok()?;
            Some((name.clone(), value))
        };
        names.iter().filter_map(value).collect()
    }

    fn as_value(&self) -> Value {
        Value::from_dyn_object(self.0.clone())
    }
}

/// Sample variables with which a template is tried when it is compiled.
pub(crate) struct SampleVariables {
    /// Whether the template is filled when there is an answer.
    pub(crate) have_answer: bool,
    /// Every variable has a value.
    pub(crate) filled: Variables,
    /// Every variable that may be empty is empty.
    pub(crate) empty: Variables,
}

/// An environment that rejects undefined variables. It escapes values in texts for a channel, and nothing else: other texts go
/// to HubSpot and the model, not to a browser.
pub(crate) fn strict_environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    channel_text::set_up(&mut environment);
    environment
}

/// The compiled conditions and texts of a playbook.
#[derive(Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
    /// The names of the variables that those use which are filled before there is an answer.
    used_before_answer: BTreeSet<String>,
    /// And those that are filled after it.
    used_after_answer: BTreeSet<String>,
}

impl Templates {
    pub(crate) fn new() -> Self {
        Self {
            environment: strict_environment(),
            used_before_answer: BTreeSet::new(),
            used_after_answer: BTreeSet::new(),
        }
    }

    /// The names of the variables that any of them uses before there is an answer.
    pub(crate) fn used_before_answer(&self) -> &BTreeSet<String> {
        &self.used_before_answer
    }

    /// The names of the variables that any of them uses when there is an answer.
    pub(crate) fn used_after_answer(&self) -> &BTreeSet<String> {
        &self.used_after_answer
    }

    /// Adds a condition under a `name` of its own.
    pub(crate) fn add_condition(
        &mut self,
        name: &str,
        source: &str,
        samples: &SampleVariables,
    ) -> Result<Condition, TemplateError> {
        let variables = self.environment.compile_expression(source)?.undeclared_variables(false);
        self.add(name, format!("{{% if {source} %}}true{{% endif %}}"), samples)?;
        let needs_record = variables.iter().any(|variable| variable != "event");
        let mut uses: Vec<_> = variables.into_iter().collect();
        uses.sort();
        Ok(Condition { template: name.to_owned(), source: source.to_owned(), needs_record, uses })
    }

    /// Adds a text under a `name` of its own.
    pub(crate) fn add_text(
        &mut self,
        name: &str,
        source: &str,
        samples: &SampleVariables,
    ) -> Result<TextTemplate, TemplateError> {
        self.add(name, source.to_owned(), samples)?;
        let mut uses: Vec<_> = self.environment.get_template(name)?.undeclared_variables(true).into_iter().collect();
        uses.sort();
        Ok(TextTemplate { template: name.to_owned(), uses })
    }

    /// Adds a text for a channel under a `name` of its own. The values in it are escaped.
    pub(crate) fn add_channel_text(
        &mut self,
        name: &str,
        source: &str,
        samples: &SampleVariables,
    ) -> Result<TextTemplate, TemplateError> {
        self.add_text(&format!("{name}{}", channel_text::SUFFIX), source, samples)
    }

    fn add(&mut self, name: &str, source: String, samples: &SampleVariables) -> Result<(), TemplateError> {
        self.environment.add_template_owned(name.to_owned(), source)?;
        let used = if samples.have_answer { &mut self.used_after_answer } else { &mut self.used_before_answer };
        used.extend(self.environment.get_template(name)?.undeclared_variables(false));
        for (variables, case) in [
            (&samples.filled, "when every variable has a value"),
            (&samples.empty, "when every variable is empty; give a default, for example `(x or 0)`"),
        ] {
            self.render(name, variables)
                .map_err(|error| TemplateError { message: format!("{} ({case})", error.message), ..error })?;
        }
        Ok(())
    }

    /// Whether the condition holds.
    pub(crate) fn holds(&self, condition: &Condition, variables: &Variables) -> Result<bool, TemplateError> {
        Ok(!self.render(&condition.template, variables)?.is_empty())
    }

    /// The text with the values of its variables, trimmed.
    pub(crate) fn fill(&self, text: &TextTemplate, variables: &Variables) -> Result<String, TemplateError> {
        let filled = self.render(&text.template, variables)?;
        let is_for_channel = text.template.ends_with(channel_text::SUFFIX);
        Ok(if is_for_channel { channel_text::finish(filled.trim()) } else { filled.trim().to_owned() })
    }

    /// Whether a condition holds that was checked when its playbook was loaded.
    pub(crate) fn source_holds(source: &str, variables: &Variables) -> Result<bool, TemplateError> {
        Ok(strict_environment().compile_expression(source)?.eval(variables.as_value())?.is_true())
    }

    fn render(&self, name: &str, variables: &Variables) -> Result<String, TemplateError> {
        Ok(self.environment.get_template(name)?.render(variables.as_value())?)
    }
}
