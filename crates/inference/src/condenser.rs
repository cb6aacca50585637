//! Condenses a context that is too long for one question: each part becomes a summary.

use domain::{hash::sha256_hex_of_list, inference::InferenceOutcome};
use futures_util::{StreamExt, stream};
use playbook::{Fence, RenderedPrompt};
use retry::Reason;

use crate::{
    StepError, SummaryStore,
    completion::{self, Question},
};

/// The parts of one context that are condensed at the same time.
const MAX_CONCURRENT_PARTS: usize = 8;

/// Condenses every part, in the order of `parts`. A part that `store` has a summary for is not asked about again.
///
/// # Errors
/// The last failure. The other parts are condensed and stored all the same, so that the next attempt has less to do.
pub(crate) async fn condense_parts(
    question: Question<'_>,
    today: &str,
    parts: Vec<String>,
    store: &impl SummaryStore,
) -> Result<Vec<String>, StepError> {
    let stored = store.load().await?;
    let condense = |part: String| {
        let stored = &stored;
        async move {
            let prompt = question.playbook.prompt.condense(question.record, &part, today, &Fence::random())?;
            let hash = hash_of(question, &prompt.system, &part);
            match stored.get(&hash) {
                Some(summary) => Ok(summary.clone()),
                None => condense_part(question, prompt, hash, store).await,
            }
        }
    };
    let count = parts.len();
    let mut results = stream::iter(parts).map(condense).buffered(MAX_CONCURRENT_PARTS);
    let mut summaries = Vec::with_capacity(count);
    let mut failure = None;
    while let Some(result) = results.next().await {
        match result {
            Ok(summary) => summaries.push(summary),
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(summaries), Err)
}

async fn condense_part(
    question: Question<'_>,
    prompt: RenderedPrompt,
    hash: String,
    store: &impl SummaryStore,
) -> Result<String, StepError> {
    let mut inference = completion::condense(question, prompt).await?;
    inference.part = Some(hash);
    store.save(&inference).await?;
    let reason = match inference.outcome {
        InferenceOutcome::Valid => return Ok(inference.answer),
        InferenceOutcome::Filtered => Reason::ContentFiltered,
        _ => Reason::Refused,
    };
    let detail = "the model did not condense a part of the context".to_owned();
    Err(StepError::Answer { reason, detail })
}

/// What makes the question about a part the same question. The fence around the part does not: it is another each time.
fn hash_of(question: Question<'_>, instructions: &str, part: &str) -> String {
    sha256_hex_of_list([question.playbook.version.as_str(), question.model.name.as_str(), instructions, part])
}
