//! From a context to an answer whose quotations are verified.

use std::sync::Arc;

use domain::{Inference, InferenceId, RecordRef, inference::InferenceOutcome};
use openai::models::Model;
use playbook::{CheckedAnswer, Context, LocalTime, MaskedContext, Playbook, Quotations, UnverifiedPolicy, normalize};
use retry::{Failure, Reason};
use serde_json::{Map, Value};

use crate::{
    ModelClient, QuestionLog, StepError,
    completion::{self, Answered, Question},
    prompt_fitter::PromptFitter,
};

/// When OpenAI rejects a prompt as too long in spite of our count, the next prompt has the room divided by this, twice at
/// most: 1, 2, 4.
const SHRINK_STEP: usize = 2;
const MAX_SHRINK_FACTOR: usize = 4;

/// What the model said about a context.
#[derive(Debug)]
pub struct ModelAnswer {
    /// Every answered question, for the ledger, because each was paid for; the last one is the one that counts. Those about
    /// parts of the context are stored already.
    pub inferences: Vec<Inference>,
    /// The answer, or why there is none that can be used.
    pub result: Result<UsableAnswer, StepError>,
}

/// An answer that passed every check.
#[derive(Debug)]
pub struct UsableAnswer {
    /// The inference that it belongs to.
    pub inference_id: InferenceId,
    /// The dated snapshot of the model that answered.
    pub model: String,
    /// The fields of the answer.
    pub fields: Map<String, Value>,
}

/// Asks `model` the question of `playbook` about `record`, with as much of the context as fits, and verifies the quotations in
/// the answer. What the playbook masks does not leave, and is put back in the answer. What is asked is kept in `log`.
pub async fn answer(
    model_client: &ModelClient,
    playbook: &Playbook,
    model: &Model,
    record: &RecordRef,
    (context, now): (&Arc<Context>, &LocalTime),
    log: &QuestionLog<'_>,
) -> ModelAnswer {
    let question = Question { model_client, playbook, model, record };
    let mut inferences = Vec::new();
    let masked = mask(question, context).await;
    let result = ask(question, &masked, &now.today(), log, &mut inferences).await;
    ModelAnswer { inferences, result }
}

/// The context as the model reads it.
async fn mask(question: Question<'_>, context: &Arc<Context>) -> MaskedContext {
    let masking = question.playbook.masking.clone();
    // Nothing to do takes no thread.
    let size = if masking.is_off() { 0 } else { context.size() };
    let context = context.clone();
    let masked = question.model_client.text_pool.run(size, move || masking.mask(&context)).await;
    for (kind, count) in masked.masks.counts() {
        let labels = [("playbook", question.playbook.name.clone()), ("kind", kind.as_str().to_owned())];
        metrics::counter!("leadline_masked_values_total", &labels).increment(*count as u64);
    }
    masked
}

/// Asks with less and less of the context, as long as OpenAI says that it is too long. Adds every answer to `inferences`.
async fn ask(
    question: Question<'_>,
    MaskedContext { context, masks }: &MaskedContext,
    today: &str,
    log: &QuestionLog<'_>,
    inferences: &mut Vec<Inference>,
) -> Result<UsableAnswer, StepError> {
    let mut shrink_factor = 1;
    loop {
        let is_too_long = |error: &StepError| error.reason() == Reason::ContextTooLong;
        // A part of the context may be too long, too.
        let fitted = PromptFitter::new(question, today.to_owned(), shrink_factor).fit(context, log).await;
        let answered = match fitted {
            Ok(prompt) => completion::complete(question, prompt, masks, log).await,
            Err(error) => Err(error),
        };
        match answered {
            Ok(Answered { inference, result: Err(error) })
                if shrink_factor < MAX_SHRINK_FACTOR && is_too_long(&error) =>
            {
                inferences.push(Inference { read: context.read(), ..*inference });
            }
            // Boxed, as all that follows the wait for the model: thousands of events wait there, and do not need its memory.
            Ok(answered) => return Box::pin(use_answer(question, context, answered, inferences)).await,
            Err(error) if shrink_factor < MAX_SHRINK_FACTOR && is_too_long(&error) => {}
            Err(error) => return Err(error),
        }
        shrink_factor *= SHRINK_STEP;
    }
}

/// Verifies an answer's quotations and adds it to `inferences`.
async fn use_answer(
    question: Question<'_>,
    context: &Arc<Context>,
    answered: Answered,
    inferences: &mut Vec<Inference>,
) -> Result<UsableAnswer, StepError> {
    let Answered { inference, result } = answered;
    let mut inference = Inference { read: context.read(), ..*inference };
    let fields = match result {
        Ok(CheckedAnswer { fields, quotations }) => {
            let unverified = missing_quotations(question, context, quotations).await;
            verify_quotations(question.playbook, unverified, fields, &mut inference)
        }
        Err(error) => Err(error),
    };
    let (inference_id, model) = (inference.id, inference.model.clone());
    inferences.push(inference);
    Ok(UsableAnswer { inference_id, model, fields: fields? })
}

/// Searches the text of the context for the quotations that the answer gives as evidence: the fields whose quotation is not
/// found.
async fn missing_quotations(question: Question<'_>, context: &Arc<Context>, quotations: Quotations) -> Vec<String> {
    let searched = context.clone();
    let search = move || quotations.missing_in(&normalize(&searched.full_text()));
    question.model_client.text_pool.run(context.size(), search).await
}

/// Records the fields whose quotation was not found in `inference`, and treats them as the playbook says.
fn verify_quotations(
    playbook: &Playbook,
    unverified: Vec<String>,
    fields: Map<String, Value>,
    inference: &mut Inference,
) -> Result<Map<String, Value>, StepError> {
    inference.unverified = unverified;
    let unverified = &inference.unverified;
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
    Ok(playbook.answer.fields.apply_unverified_policy(fields, unverified, playbook.answer.unverified))
}
