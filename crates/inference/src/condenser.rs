//! Condenses a context that is too long for one question: each part becomes a summary.

use domain::{
    Inference,
    hash::sha256_hex_of_list,
    inference::{InferenceOutcome, ReadRecord},
};
use futures_util::{StreamExt, stream};
use playbook::{ContextPart, Fence, RenderedPrompt};
use retry::Reason;

use crate::{
    QuestionLog, StepError,
    completion::{self, Condensed, Question},
};

/// The parts of one context that are condensed at the same time.
const MAX_CONCURRENT_PARTS: usize = 8;

/// Condenses every part, in the order of `parts`. A part that the ledger has a summary of, for this event or an earlier one,
/// is not asked about again.
///
/// # Errors
/// The last failure. The other parts are condensed and stored all the same, so that the next attempt has less to do.
pub(crate) async fn condense_parts(
    question: Question<'_>,
    today: &str,
    parts: Vec<ContextPart>,
    log: &QuestionLog<'_>,
) -> Result<Vec<String>, StepError> {
    let hashes: Vec<_> = parts.iter().map(|part| hash_of(question, &part.text)).collect();
    let stored = log.summaries(question.record, &question.playbook.name, &hashes).await?;
    let condense = |(part, hash): (ContextPart, String)| {
        let stored = &stored;
        async move {
            if let Some(summary) = stored.get(&hash) {
                return Ok(summary.clone());
            }
            let prompt = question.playbook.prompt.condense(question.record, &part.text, today, &Fence::random())?;
            let about = CondensedPart { hash, read: part.read };
            condense_part(question, prompt, about, log).await
        }
    };
    let count = parts.len();
    let mut results = stream::iter(parts.into_iter().zip(hashes)).map(condense).buffered(MAX_CONCURRENT_PARTS);
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

/// How the ledger finds the summary of a part again.
struct CondensedPart {
    hash: String,
    read: Vec<ReadRecord>,
}

async fn condense_part(
    question: Question<'_>,
    prompt: RenderedPrompt,
    CondensedPart { hash, read }: CondensedPart,
    log: &QuestionLog<'_>,
) -> Result<String, StepError> {
    let Condensed { inference, failure } = completion::condense(question, prompt, log).await?;
    let inference = Inference { part: Some(hash), read, ..inference };
    log.save_part(&inference).await?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    let reason = match inference.outcome {
        InferenceOutcome::Valid => return Ok(inference.answer),
        InferenceOutcome::Filtered => Reason::ContentFiltered,
        InferenceOutcome::Empty => Reason::AnswerEmpty,
        _ => Reason::Refused,
    };
    let detail = "the model did not condense a part of the context".to_owned();
    Err(StepError::Answer { reason, detail })
}

/// By which a part's summary is found again. Not of the prompt: its date and the fence around the part differ each time.
fn hash_of(question: Question<'_>, part: &str) -> String {
    let Question { playbook, model, record, .. } = question;
    sha256_hex_of_list([&playbook.version, &model.name, &record.to_string(), part])
}
