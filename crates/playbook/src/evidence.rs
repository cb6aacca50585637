//! Whether the quotations in an answer are in the context that the model has read.

use serde_json::{Map, Value};

use crate::{
    fields::{AnswerField, AnswerFields, AnswerMismatch, FieldKind, parse, quote_name},
    masking::Masks,
    text::{TextFormat, normalize, plain_text},
};

/// What is done with a field whose quotation is not in the context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnverifiedPolicy {
    /// The field becomes null.
    #[default]
    Drop,
    /// A text gets a mark in front. Fields of other types become null, because a number or date cannot carry a mark.
    Mark,
    /// The event is parked for an operator.
    Park,
}

/// The mark in front of a text whose quotation was not found.
pub(crate) const MARK: &str = "[unverified] ";

/// The minimum length of a quotation, in letters and digits. A shorter one is found in almost every context, so it
/// proves nothing.
const MIN_QUOTE: usize = 3;

/// An answer that fits the fields.
#[derive(Debug)]
pub struct CheckedAnswer {
    /// The fields, without placeholders.
    pub fields: Map<String, Value>,
    /// The quotations as the model wrote them, to be looked for in what it read.
    pub quotations: Quotations,
}

impl AnswerFields {
    /// Parses an answer, puts back what its placeholders stand for, and checks it against every type and bound.
    ///
    /// # Errors
    /// Everything that does not fit.
    pub fn check_masked(&self, answer: &str, masks: &Masks) -> Result<CheckedAnswer, AnswerMismatch> {
        let mut answer = parse(answer)?;
        let quotations = answer.as_object().map(|answer| self.quotations(answer)).unwrap_or_default();
        masks.put_back_in(self.as_slice(), &mut answer);
        Ok(CheckedAnswer { fields: self.check_value(answer)?, quotations })
    }

    /// The quotations of a checked answer.
    pub fn quotations(&self, answer: &Map<String, Value>) -> Quotations {
        let has_value = |field: &&AnswerField| answer.get(&field.name).is_some_and(|value| !value.is_null());
        let quotation = |field: &AnswerField| {
            let quote = answer.get(&quote_name(&field.name)).and_then(Value::as_str).unwrap_or_default();
            (field.name.clone(), quote.to_owned())
        };
        Quotations(self.iter().filter(|field| field.evidence).filter(has_value).map(quotation).collect())
    }

    /// The answer with the `unverified` fields set to null or marked, as `policy` says.
    #[must_use]
    pub fn apply_unverified_policy(
        &self,
        mut answer: Map<String, Value>,
        unverified: &[String],
        policy: UnverifiedPolicy,
    ) -> Map<String, Value> {
        for field in self.iter().filter(|field| unverified.contains(&field.name)) {
            let Some(value) = answer.get_mut(&field.name) else { continue };
            *value = match (&field.kind, policy, value.as_str()) {
                (FieldKind::Text { .. }, UnverifiedPolicy::Mark, Some(text)) => Value::String(format!("{MARK}{text}")),
                _ => Value::Null,
            };
        }
        answer
    }
}

/// The quotations that an answer gives for its fields.
#[derive(Debug, Clone, Default)]
pub struct Quotations(Vec<(String, String)>);

impl Quotations {
    /// The names of the fields whose quotation is not in `context`, which is normalized. Differences in case, white space,
    /// HTML and typographic signs are ignored. Takes time in proportion to the length of both.
    pub fn missing_in(self, context: &str) -> Vec<String> {
        let missing = self.0.into_iter().filter(|(_, quote)| !is_quoted(quote, context));
        missing.map(|(field, _)| field).collect()
    }
}

/// Whether the normalized `context` contains the quotation: as it is, as the prompt shows it within a JSON string, or as text
/// of HTML.
fn is_quoted(quote: &str, context: &str) -> bool {
    let unescaped = quote.replace("\\n", " ").replace("\\\"", "\"").replace("\\\\", "\\");
    let forms = [normalize(quote), normalize(&unescaped), normalize(&plain_text(quote, TextFormat::HtmlIfTagged))];
    forms.iter().any(|form| {
        let form = form.trim_matches(|c: char| c == '"' || c == '\'' || c == '.' || c.is_whitespace());
        form.chars().filter(|c| c.is_alphanumeric()).count() >= MIN_QUOTE && context.contains(form)
    })
}
