//! Fitting a context to the model's window, and asking about it: newest first, or condensed in parts.

use std::{collections::HashMap, future::Future};

use domain::{Inference, RecordRef, hash::sha256_hex_of_list, inference::InferenceOutcome};
use futures_util::{StreamExt, stream};
use openai::models::{self, Model};
use playbook::{Context, Playbook, RenderedPrompt, UnverifiedPolicy, WindowStrategy};
use retry::{Failure, Reason};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::{
    completion::{self, Completed, ModelClient},
    failure::StepError,
};

/// Tokens that are kept free beside the data: instructions' overhead and the schema.
const PROMPT_SLACK: usize = 500;

/// Parts of one context that are condensed at once.
const PARTS_AT_ONCE: usize = 8;

/// A prompt that the model finds too long after all is made smaller by this factor, and once more.
const SHRINK: usize = 2;
const MAX_SHRINK: usize = 4;

/// Where answers about parts of a context are kept, so that a worker that died is not paid for twice.
pub trait SummaryStore: Sync {
    /// The answers about parts, by the part's hash.
    fn load(&self) -> impl Future<Output = Result<HashMap<String, String>, StepError>> + Send;
    /// Keeps one.
    fn save(&self, inference: &Inference) -> impl Future<Output = Result<(), StepError>> + Send;
}

/// For whoever asks once and is done.
#[derive(Debug, Clone, Copy)]
pub struct NoStore;

impl SummaryStore for NoStore {
    async fn load(&self) -> Result<HashMap<String, String>, StepError> {
        Ok(HashMap::new())
    }

    async fn save(&self, _: &Inference) -> Result<(), StepError> {
        Ok(())
    }
}

/// An answer about a context.
#[derive(Debug)]
pub struct Answered {
    /// For the ledger, whatever the answer was worth.
    pub inference: Inference,
    /// The checked fields, without what rests on nothing; or why there are none.
    pub result: Result<Map<String, Value>, StepError>,
}

/// Asks `model` what `playbook` wants to know about `about`, on the day `today`.
///
/// # Errors
/// Only when there was no answer at all, so nothing to store.
pub async fn answer(
    model_client: &ModelClient,
    playbook: &Playbook,
    model: &Model,
    about: &RecordRef,
    context: &Context,
    memory: &impl SummaryStore,
) -> Result<Answered, StepError> {
    let mut shrink = 1;
    let asked = loop {
        let fitter = PromptFitter { model_client, playbook, model, about, today: today(), shrink };
        let prompt = fitter.fit(context, memory).await?;
        match completion::ask(model_client, playbook, model, about, prompt).await {
            Err(error) if error.reason() == Reason::ContextTooLong && shrink < MAX_SHRINK => shrink *= SHRINK,
            asked => break asked?,
        }
    };
    let Completed { mut inference, result } = asked;
    let result = match result {
        Ok(fields) => verify(playbook, context, fields, &mut inference),
        Err(error) => Err(error),
    };
    Ok(Answered { inference, result })
}

/// Looks for the quotations, and does what the playbook says about those that are not there.
fn verify(
    playbook: &Playbook,
    context: &Context,
    fields: Map<String, Value>,
    inference: &mut Inference,
) -> Result<Map<String, Value>, StepError> {
    let unverified = playbook.answer.fields.unverified_fields(&fields, &context.full_text());
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

fn today() -> String {
    OffsetDateTime::now_utc().date().to_string()
}

struct PromptFitter<'a> {
    model_client: &'a ModelClient,
    playbook: &'a Playbook,
    model: &'a Model,
    about: &'a RecordRef,
    today: String,
    shrink: usize,
}

impl PromptFitter<'_> {
    fn count(&self, text: &str) -> usize {
        models::count_tokens(&self.model.name, text)
    }

    /// The tokens that data may have beside these instructions.
    fn room(&self, bare: &RenderedPrompt) -> usize {
        self.room_beside(models::count_prompt(&self.model.name, [bare.system.as_str(), bare.user.as_str()]))
    }

    fn room_beside(&self, instructions: usize) -> usize {
        let reserved = instructions + self.playbook.model.max_output_tokens as usize + PROMPT_SLACK;
        self.playbook.context.max_tokens.min(self.model.window.saturating_sub(reserved)) / self.shrink
    }

    fn render(&self, data: &str) -> Result<RenderedPrompt, StepError> {
        Ok(self.playbook.prompt.render(self.about, data, &self.today)?)
    }

    /// The prompt, with as much of the context as fits.
    async fn fit(&self, context: &Context, memory: &impl SummaryStore) -> Result<RenderedPrompt, StepError> {
        let whole = context.render(usize::MAX, str::len);
        let prompt = self.render(&whole)?;
        // A token is a byte at least: what is short enough in bytes need not be counted, and most contexts are.
        let instructions = (prompt.system.len() + prompt.user.len()).saturating_sub(whole.len());
        if whole.len() <= self.room_beside(instructions + PROMPT_SLACK) {
            return Ok(prompt);
        }
        self.render(&self.cut(whole, context, memory).await?)
    }

    /// The context as text that fits, when it may not fit as it is.
    async fn cut(&self, whole: String, context: &Context, memory: &impl SummaryStore) -> Result<String, StepError> {
        let room = self.room(&self.render("")?);
        let count = |text: &str| self.count(text);
        if self.playbook.context.window == WindowStrategy::Newest {
            return Ok(context.render(room, count));
        }
        if count(&whole) <= room {
            return Ok(whole);
        }
        let room_of_part = self.room(&self.playbook.prompt.condense(self.about, "", &self.today)?);
        let parts = context.chunks(room_of_part.max(1), count);
        let condensed = self.condense(&parts, memory).await?;
        let mut block = context.properties_text();
        let mut left = room.saturating_sub(count(&block));
        for (index, text) in condensed.iter().enumerate() {
            let entry = format!("\n[condensed, part {} of {}, newest first]\n{text}\n", index + 1, condensed.len());
            let tokens = count(&entry);
            if tokens > left {
                block.push_str(&format!("\n[left out: {} older parts]\n", condensed.len() - index));
                break;
            }
            left -= tokens;
            block.push_str(&entry);
        }
        Ok(block)
    }

    /// Condenses every part, in parallel; what an earlier worker has done is not asked again.
    async fn condense(&self, parts: &[String], memory: &impl SummaryStore) -> Result<Vec<String>, StepError> {
        let known = memory.load().await?;
        let condense = |part: String| {
            let known = &known;
            async move {
                let prompt = self.playbook.prompt.condense(self.about, &part, &self.today)?;
                let hash = hash_of(&self.playbook.version, &self.model.name, &prompt);
                if let Some(answer) = known.get(&hash) {
                    return Ok(answer.clone());
                }
                let mut inference =
                    completion::condense(self.model_client, self.playbook, self.model, self.about, prompt).await?;
                inference.part = Some(hash);
                memory.save(&inference).await?;
                let reason = match inference.outcome {
                    InferenceOutcome::Valid => return Ok(inference.answer),
                    InferenceOutcome::Filtered => Reason::ContentFiltered,
                    _ => Reason::Refused,
                };
                let detail = "the model did not condense a part of the context".to_owned();
                Err(StepError::Answer { reason, detail })
            }
        };
        let mut answers = stream::iter(parts.to_vec()).map(condense).buffered(PARTS_AT_ONCE);
        let mut condensed = Vec::with_capacity(parts.len());
        let mut failed = None;
        // A failing part does not stop the others: what they answer is kept for the disposition try.
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(text) => condensed.push(text),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(condensed), Err)
    }
}

fn hash_of(version: &str, model: &str, prompt: &RenderedPrompt) -> String {
    sha256_hex_of_list([version, model, &prompt.system, &prompt.user])
}
