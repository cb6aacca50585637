//! What a question may use, before it is asked.

use domain::{RecordRef, inference::TokenUsage};
use openai::models::Model;
use playbook::{Context, Fence, LocalTime, Playbook};

use crate::{
    ModelClient, StepError,
    completion::{self, Question},
};

/// The most tokens that the question of `playbook` about `record` uses if its first answer can be used: a truncated answer, and
/// one that does not fit the schema, is asked for once more. The whole context counts, also where only its newest part fits.
///
/// # Errors
/// The prompt cannot be rendered for this record.
pub async fn most_usage(
    model_client: &ModelClient,
    playbook: &Playbook,
    model: &Model,
    record: &RecordRef,
    (context, now): (&Context, &LocalTime),
) -> Result<TokenUsage, StepError> {
    let prompt = playbook.prompt.render(record, &context.whole(), &now.today(), &Fence::random())?;
    let question = Question { model_client, playbook, model, record };
    Ok(completion::most_usage_of(question, prompt).await)
}
