//! What the model is asked.

use minijinja::{Environment, UndefinedBehavior, context};

use crate::event::RecordRef;

/// The tag that fences record data in the user message.
const FENCE: &str = "crm_data";

/// The two templates of a playbook.
///
/// Instructions (`system`) never see record data: it is written by strangers. Only the user message does, through the
/// variable `data`, fenced and named as data, and stable instructions come first so that their tokens are cached.
#[derive(Debug)]
pub struct Prompt {
    environment: Environment<'static>,
}

/// A prompt, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The instructions.
    pub system: String,
    /// The user message with the fenced data.
    pub user: String,
}

impl Prompt {
    /// Compiles both templates and renders them once with sample values, so that a misspelt variable is found now.
    pub(super) fn compile(system: &str, user: &str) -> Result<Self, Vec<PromptError>> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        let mut errors = Vec::new();
        for (name, source) in [("system", system), ("user", user)] {
            if let Err(error) = environment.add_template_owned(name, source.to_owned()) {
                errors.push(PromptError::new(name, &error));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let prompt = Self { environment };
        match prompt.render_named("system", context! { record => "contact/1", today => "2026-01-01" }) {
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
        const SAMPLE: &str = "a sample of record data";
        match prompt.render_named("user", context! { data => SAMPLE, record => "contact/1", today => "2026-01-01" }) {
            Ok(text) if text.contains(SAMPLE) => {}
            Ok(_) => errors.push(PromptError {
                template: "user",
                line: 1,
                message: "does not use {{ data }}, so the model would see nothing of the record".to_owned(),
            }),
            Err(error) => errors.push(error),
        }
        if errors.is_empty() { Ok(prompt) } else { Err(errors) }
    }

    /// The prompt about `record` with its `data`, on the day `today` (ISO).
    pub fn render(&self, record: &RecordRef, data: &str, today: &str) -> Result<Rendered, PromptError> {
        let record = record.to_string();
        // Record data cannot close its own fence.
        let data = data.replace(FENCE, "crm-data");
        let data = format!("<{FENCE}>\n{}\n</{FENCE}>", data.trim_end());
        Ok(Rendered {
            system: self.render_named("system", context! { record => &record, today => today })?,
            user: self.render_named("user", context! { data => data, record => &record, today => today })?,
        })
    }

    fn render_named(&self, name: &'static str, values: minijinja::Value) -> Result<String, PromptError> {
        self.environment
            .get_template(name)
            .and_then(|template| template.render(values))
            .map_err(|error| PromptError::new(name, &error))
    }
}

/// What is wrong with a template, and where in it.
#[derive(Debug, thiserror::Error)]
#[error("prompt.{template}, line {line} of the template: {message}")]
pub struct PromptError {
    /// `system` or `user`.
    pub template: &'static str,
    /// 1-based, within the template.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl PromptError {
    fn new(template: &'static str, error: &minijinja::Error) -> Self {
        let detail = error.detail().map_or_else(|| error.kind().to_string(), ToOwned::to_owned);
        Self { template, line: error.line().unwrap_or(1), message: detail }
    }
}
