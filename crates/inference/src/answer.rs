//! From a context to an answer whose quotations are verified.

use std::sync::Arc;

use domain::{Inference, RecordRef, inference::InferenceOutcome};
use openai::models::Model;
use playbook::{Context, Playbook, UnverifiedPolicy, normalize};
use retry::{Failure, Reason};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::{
    ModelAnswer, ModelClient, StepError, SummaryStore,
    completion::{self, Question},
    prompt_fitter::PromptFitter,
};

/// When OpenAI rejects a prompt as too long in spite of our count, the next prompt has the room divided by this, twice at
/// most: 1, 2, 4.
const SHRINK_STEP: usize = 2;
const MAX_SHRINK_FACTOR: usize = 4;

/// Asks `model` the question of `playbook` about `record`, with as much of `context` as fits, and verifies the quotations in
/// the answer. Summaries of the parts of a long context are read from and saved to `store`.
///
/// # Errors
/// There was no answer, so there is no inference to record. An answer that cannot be used is in [`ModelAnswer::result`].
pub async fn answer(
    model_client: &ModelClient,
    playbook: &Playbook,
    model: &Model,
    record: &RecordRef,
    context: &Arc<Context>,
    store: &impl SummaryStore,
) -> Result<ModelAnswer, StepError> {
    let question = Question { model_client, playbook, model, record };
    let mut shrink_factor = 1;
    let ModelAnswer { mut inference, result } = loop {
        let today = OffsetDateTime::now_utc().date().to_string();
        let prompt = PromptFitter::new(question, today, shrink_factor).fit(context, store).await?;
        match completion::complete(question, prompt).await {
            Err(error) if error.reason() == Reason::ContextTooLong && shrink_factor < MAX_SHRINK_FACTOR => {
                shrink_factor *= SHRINK_STEP;
            }
            completed => break completed?,
        }
    };
    let result = match result {
        Ok(fields) => {
            let searched = context.clone();
            let searched = move || normalize(&searched.full_text());
            let searched = model_client.text_pool.run(context.size(), searched).await;
            verify_quotations(playbook, &searched, fields, &mut inference)
        }
        Err(error) => Err(error),
    };
    Ok(ModelAnswer { inference, result })
}

/// Searches the normalized text of the context for the quotations that the answer gives as evidence. Fields whose quotation is
/// not found are recorded in `inference` and treated as the playbook says.
fn verify_quotations(
    playbook: &Playbook,
    context: &str,
    fields: Map<String, Value>,
    inference: &mut Inference,
) -> Result<Map<String, Value>, StepError> {
    let unverified = playbook.answer.fields.unverified_fields(&fields, context);
    inference.unverified.clone_from(&unverified);
    if unverified.is_empty() {
        return Ok(fields);
    }
    metrics::counter!("leadline_unverified_fields_total", "playbook" => playbook.name.clone())
        .increment(unverified.len() as u64);
    if playbook.answer.unverified == UnverifiedPolicy::Park {
        inference.outcome = InferenceOutcome::Unverified;
        let detail = format!("no quotation was found for {}", unverified.join(", "));
        return Err(StepError::Answer { reason: Reason::Unverified, detail });
    }
    Ok(playbook.answer.fields.apply_unverified_policy(fields, &unverified, playbook.answer.unverified))
}
