//! Asks the model one question: retries a truncated answer with more output tokens, has an answer that does not match the
//! schema repaired once, and records what all of it cost.
//!
//! Thousands of questions wait for their answers here. A future is as large as the largest of its stages, so what few questions need, and what
//! follows the answer, is boxed or a function of its own.

use std::sync::Arc;

use domain::{
    ChargeId, Inference, InferenceId, RecordRef,
    inference::{ChargeState, InferenceOutcome, TokenUsage},
};
use ledger::RecordLimits;
use limits::{Reservation, SpendLimiter};
use openai::{
    ChatMessage, ChatRequest, Completion, FinishReason, OpenAiClient, OpenAiError, RequestTag, ResponseFormat, Role,
    models::Model,
};
use playbook::{CheckedAnswer, Masks, Playbook, RenderedPrompt};
use serde_json::{Value, json};

use crate::{
    PromptLog, QuestionLog, TextPool,
    answer_check::AnswerCheck,
    failure::StepError,
    question_log::PendingRequest,
    question_request::{question_request, request},
};

/// A limit is near that so many of the question would use up.
const NEAR_LIMIT: i64 = 100;

/// The model client, what a question may cost, and the threads on which prompts are made.
#[derive(Debug, Clone)]
pub struct ModelClient {
    /// The client of the model's host.
    pub openai: OpenAiClient,
    /// Reserves the money for each request.
    pub spend_limiter: SpendLimiter,
    /// What the questions about one record may cost in a day (UTC), in micro-dollars; `None`: no limit.
    pub record_limit: Option<i64>,
    /// The most parts in which one context is condensed; the newest ones.
    pub max_parts: usize,
    /// Counts and splits what does not fit a prompt.
    pub text_pool: TextPool,
    /// Writes prompts and answers into the log; `None`: nothing does.
    pub prompt_log: Option<PromptLog>,
}

impl ModelClient {
    /// A client without spend limits.
    pub fn unlimited(openai: OpenAiClient, text_pool: TextPool, max_parts: usize) -> Self {
        Self {
            openai,
            spend_limiter: SpendLimiter::default(),
            record_limit: None,
            max_parts,
            text_pool,
            prompt_log: None,
        }
    }
}

/// The question that a playbook asks a model about a record.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) model_client: &'a ModelClient,
    pub(crate) playbook: &'a Playbook,
    pub(crate) model: &'a Model,
    pub(crate) record: &'a RecordRef,
}

impl Question<'_> {
    /// Writes what was asked and answered about an event into the log, where an operator wants that.
    fn write_to_log(self, log: &QuestionLog<'_>, inference: &Inference, is_part: bool) {
        if let Some((prompt_log, event_key)) = self.model_client.prompt_log.as_ref().zip(log.event_key()) {
            prompt_log.write(event_key, inference, is_part);
        }
    }
}

/// An answered question.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The prompt, the answer as received and its cost, for the ledger. Recorded also when the answer cannot be used.
    pub(crate) inference: Box<Inference>,
    /// The fields of the answer, checked; or why it cannot be used, or why it could not be made better.
    pub(crate) result: Result<CheckedAnswer, StepError>,
}

/// What became of a part that was to be condensed.
pub(crate) struct Condensed {
    /// The summary, if its outcome is valid, and its cost.
    pub(crate) inference: Inference,
    /// Why there is no other answer than an empty one.
    pub(crate) failure: Option<StepError>,
}

/// Asks the question with `prompt`. A truncated or empty answer is requested once more with twice the output tokens, one that
/// does not match the schema is repaired once. What the placeholders in the prompt stand for is put back in the fields; prompt and
/// answer stay as they were sent and received.
///
/// # Errors
/// There was no answer, so there is no inference to record.
pub(crate) async fn complete(
    question: Question<'_>,
    prompt: RenderedPrompt,
    masks: &Masks,
    log: &QuestionLog<'_>,
) -> Result<Answered, StepError> {
    let playbook = question.playbook;
    let masks = masks.shown_in(&prompt.user);
    let mut conversation = Conversation::start(question, log, question_request(playbook, question.model, prompt));
    let WithRoom { mut completion, mut failure } = conversation.complete_with_room().await?;
    let mut check = AnswerCheck::of(playbook, &masks, &completion);
    if let (AnswerCheck::Mismatch(why), None) = (&check, &failure) {
        conversation.push(Role::Assistant, completion.content.as_str());
        let repair = format!("That answer does not fit the schema: {why}. Answer again with JSON that does.");
        conversation.push(Role::User, repair);
        match Box::pin(conversation.complete()).await {
            Ok(repaired) => {
                check = AnswerCheck::of(playbook, &masks, &repaired);
                completion = repaired;
            }
            Err(error) => failure = Some(error),
        }
    }
    let (outcome, checked) = check.into_result();
    // The first answer cannot be used, and was paid for.
    let result = failure.map_or(checked, Err);
    let fields = result.as_ref().map_or(Value::Null, |answer| Value::Object(answer.fields.clone()));
    let inference = conversation.into_inference(completion, outcome, fields);
    question.write_to_log(log, &inference, false);
    Ok(Answered { inference: Box::new(inference), result })
}

/// The most tokens that one request of this question can use.
pub(crate) async fn most_usage_of(question: Question<'_>, prompt: RenderedPrompt) -> TokenUsage {
    let request = question_request(question.playbook, question.model, prompt);
    most_usage(&question.model_client.text_pool, &request).await
}

/// Has the model condense one part of a context that is too long for one question.
///
/// # Errors
/// There was no answer, so there is no inference to record.
pub(crate) async fn condense(
    question: Question<'_>,
    prompt: RenderedPrompt,
    log: &QuestionLog<'_>,
) -> Result<Condensed, StepError> {
    let request = request(question.playbook, question.model, ResponseFormat::Text, prompt);
    let mut conversation = Conversation::start(question, log, request);
    // A truncated summary is still a summary of the beginning, also when no longer one can be had; truncated JSON would be
    // useless. An empty one would make the question one about nothing.
    let WithRoom { completion, failure } = conversation.complete_with_room().await?;
    let outcome = match completion.finish {
        FinishReason::ContentFilter => InferenceOutcome::Filtered,
        _ if completion.refusal.is_some() => InferenceOutcome::Refused,
        _ if completion.is_empty() => InferenceOutcome::Empty,
        _ => InferenceOutcome::Valid,
    };
    let failure = failure.filter(|_| outcome == InferenceOutcome::Empty);
    let inference = conversation.into_inference(completion, outcome, Value::Null);
    question.write_to_log(log, &inference, true);
    Ok(Condensed { inference, failure })
}

/// An answer for which more room was asked if it was truncated or empty.
struct WithRoom {
    completion: Completion,
    /// Why there is no longer answer than this one.
    failure: Option<StepError>,
}

/// The messages of one question, and what its requests used together.
struct Conversation<'a> {
    question: Question<'a>,
    log: &'a QuestionLog<'a>,
    id: InferenceId,
    request: ChatRequest,
    usage: TokenUsage,
    /// In micro-dollars: what the answers cost.
    cost: i64,
}

impl<'a> Conversation<'a> {
    fn start(question: Question<'a>, log: &'a QuestionLog<'a>, request: ChatRequest) -> Self {
        Self { question, log, id: InferenceId::new(), request, usage: TokenUsage::default(), cost: 0 }
    }

    fn push(&mut self, role: Role, content: impl Into<Arc<str>>) {
        self.request.messages.push(ChatMessage { role, content: content.into() });
    }

    /// Sends the request; if the answer is truncated or empty, once more with twice the output tokens: reasoning may have taken
    /// all of them.
    async fn complete_with_room(&mut self) -> Result<WithRoom, StepError> {
        let completion = self.complete().await?;
        if completion.finish != FinishReason::Length && !completion.is_empty() {
            return Ok(WithRoom { completion, failure: None });
        }
        let doubled = self.request.max_completion_tokens.saturating_mul(2);
        self.request.max_completion_tokens = doubled.min(self.question.model.max_output);
        Ok(match Box::pin(self.complete()).await {
            Ok(completion) => WithRoom { completion, failure: None },
            Err(error) => WithRoom { completion, failure: Some(error) },
        })
    }

    /// Sends the request until there is an answer or the retries in the process are used up. An answer that cannot be read is
    /// asked for once more, and not as often as one that did not come: each of them may be billed.
    async fn complete(&mut self) -> Result<Completion, StepError> {
        let most = self.most().await;
        let answered = match self.complete_with_retries(&most).await {
            Err(error) if error.is_worth_one_more() => Box::pin(self.complete_with_retries(&most)).await,
            answered => answered,
        };
        let completion = answered??;
        let (usage, cost) = self.answered(&completion).await;
        self.usage += usage;
        self.cost += cost;
        Ok(completion)
    }

    async fn complete_with_retries(&self, most: &TokenUsage) -> Result<Result<Completion, StepError>, OpenAiError> {
        let policy = self.question.model_client.openai.retry_policy();
        retry::run(policy, || self.complete_once(most)).await
    }

    /// Sends the request once. The most that it can cost is reserved before. What it did not cost is given back, unless that
    /// is unknown. The money comes before the rate limiter's permit, which is good for a moment only.
    ///
    /// The outer error is OpenAI's and may be retried, the inner one is not.
    async fn complete_once(&self, most: &TokenUsage) -> Result<Result<Completion, StepError>, OpenAiError> {
        let reserved = match Box::pin(self.reserve(self.most_cost(most))).await {
            Ok(reserved) => reserved,
            Err(error) => return Ok(Err(error)),
        };
        let answered = self.question.model_client.openai.complete_once(&self.request, &reserved.tag).await;
        self.settle(reserved, answered).await
    }

    /// Gives back what the request did not cost.
    async fn settle(
        &self,
        mut reserved: Reserved,
        answered: Result<Completion, OpenAiError>,
    ) -> Result<Result<Completion, StepError>, OpenAiError> {
        let (state, cost) = match &answered {
            Ok(completion) if completion.usage.is_some() => (ChargeState::Answered, self.answered(completion).await.1),
            Ok(_) => (ChargeState::Estimated, self.counted_cost().await),
            Err(error) if reserved.tag.was_sent() && error.may_be_billed() => {
                (ChargeState::Estimated, self.counted_cost().await)
            }
            Err(_) => (ChargeState::Free, 0),
        };
        self.log.settle(reserved.charge, state, cost);
        reserved.of_limits.settle(cost);
        let playbook = self.question.playbook.name.clone();
        metrics::counter!("leadline_cost_micro_dollars_total", "playbook" => playbook)
            .increment(u64::try_from(cost).unwrap_or(0));
        answered.map(Ok)
    }

    /// The most that the request can use. Its tokens are counted only where a limit is near: otherwise a bound that is too high keeps no
    /// question waiting.
    async fn most(&self) -> TokenUsage {
        let by_length = self.request.most_usage_by_length();
        let is_near = |limit: i64| self.most_cost(&by_length).saturating_mul(NEAR_LIMIT) > limit;
        if self.lowest_limit().is_some_and(is_near) { Box::pin(self.counted()).await } else { by_length }
    }

    /// The same, counted.
    async fn counted(&self) -> TokenUsage {
        most_usage(&self.question.model_client.text_pool, &self.request).await
    }

    /// What that costs.
    async fn counted_cost(&self) -> i64 {
        self.most_cost(&Box::pin(self.counted()).await)
    }

    fn record_limits(&self) -> RecordLimits {
        let Question { model_client, playbook, .. } = self.question;
        RecordLimits { all: model_client.record_limit, playbook: playbook.model.max_micro_dollars_per_record_and_day }
    }

    /// The lowest of the limits that hold for the question, in micro-dollars.
    fn lowest_limit(&self) -> Option<i64> {
        let Question { model_client, playbook, .. } = self.question;
        let of_playbook = model_client.spend_limiter.limit_of(&playbook.name);
        self.record_limits().lowest().into_iter().chain(of_playbook).min()
    }

    /// Reserves `most`, the most that a request can cost: of the day's limits of playbook and fleet, and of its record's.
    async fn reserve(&self, most: i64) -> Result<Reserved, StepError> {
        let Question { model_client, playbook, model, record } = self.question;
        if let Some(limit) = self.lowest_limit().filter(|limit| most > *limit) {
            return Err(StepError::SpendLimitTooLow { most, limit });
        }
        let of_limits =
            model_client.spend_limiter.reserve(&playbook.name, most).await.map_err(StepError::not_reserved)?;
        let pending = PendingRequest {
            inference_id: self.id,
            playbook: &playbook.name,
            record,
            model: &model.name,
            most_micro_dollars: most,
            record_limits: self.record_limits(),
        };
        let (charge, tag) = self.log.begin(pending).await?;
        Ok(Reserved { charge, tag, of_limits })
    }

    /// The tokens and the cost of an answer, by the tier that it names; the most that its request can use, if the answer does
    /// not say it.
    async fn answered(&self, completion: &Completion) -> (TokenUsage, i64) {
        let Some(usage) = completion.usage else {
            let most = Box::pin(self.counted()).await;
            return (most, self.most_cost(&most));
        };
        let tier = completion.service_tier.unwrap_or(self.request.options.service_tier.presumed());
        (usage, self.question.model.price.map_or(0, |price| price.of(&usage, tier)))
    }

    /// The most that `usage` can cost in micro-dollars, whichever tier answers; 0 for a model without a price.
    fn most_cost(&self, usage: &TokenUsage) -> i64 {
        self.question.model.price.map_or(0, |price| price.most(usage, self.request.options.service_tier))
    }

    fn into_inference(self, completion: Completion, outcome: InferenceOutcome, fields: Value) -> Inference {
        let Question { playbook, model, record, .. } = self.question;
        count_inference(playbook, outcome, &self.usage);
        Inference {
            id: self.id,
            playbook: playbook.name.clone(),
            playbook_version: playbook.version.clone(),
            record: record.clone(),
            part: None,
            context_hash: None,
            read: Vec::new(),
            model_requested: model.name.clone(),
            model: completion.model,
            service_tier: completion.service_tier,
            prompt: json!(self.request.messages),
            answer: completion.refusal.unwrap_or(completion.content),
            outcome,
            fields,
            unverified: Vec::new(),
            usage: self.usage,
            cost_micro_dollars: model.price.map(|_| self.cost),
            latency: completion.latency,
            request_id: completion.request_id,
        }
    }
}

/// What is reserved for a request.
struct Reserved {
    charge: ChargeId,
    tag: Arc<RequestTag>,
    /// What was taken of the limits of playbook and fleet.
    of_limits: Reservation,
}

impl Drop for Reserved {
    /// Before it is settled only when the question is cancelled. A request that was sent may be billed, so its money stays
    /// reserved.
    fn drop(&mut self) {
        if self.tag.was_sent() {
            self.of_limits.keep();
        }
    }
}

/// The most that a request can use. A long one is counted in the text pool, so that no other work waits for it.
async fn most_usage(text_pool: &TextPool, request: &ChatRequest) -> TokenUsage {
    let bytes = request.messages.iter().map(|message| message.content.len()).sum();
    let counted = request.clone();
    text_pool.run(bytes, move || counted.most_usage()).await
}

fn count_inference(playbook: &Playbook, outcome: InferenceOutcome, usage: &TokenUsage) {
    let name = || playbook.name.clone();
    metrics::counter!("leadline_inferences_total", "playbook" => name(), "outcome" => outcome.as_str()).increment(1);
    for (kind, tokens) in
        [("prompt", usage.prompt_tokens), ("cached", usage.cached_tokens), ("completion", usage.completion_tokens)]
    {
        metrics::counter!("leadline_tokens_total", "playbook" => name(), "kind" => kind)
            .increment(u64::try_from(tokens).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use openai::{ChatMessage, ChatRequest, RequestOptions, ResponseFormat, Role};
    use tokio::sync::oneshot;

    use super::{TextPool, most_usage};

    #[tokio::test]
    async fn a_long_prompt_is_counted_in_the_text_pool() {
        let pool = TextPool::new(1);
        let (release, released) = oneshot::channel::<()>();
        let (began, has_begun) = oneshot::channel();
        let busy = pool.clone();
        let busy = tokio::spawn(async move {
            let work = move || {
                let _ = began.send(());
                let _ = released.blocking_recv();
            };
            busy.run(1_000_000, work).await;
        });
        has_begun.await.expect("begun");
        let request = |content: String| ChatRequest {
            model: "gpt-4.1-mini".to_owned(),
            messages: vec![ChatMessage { role: Role::User, content: content.into() }],
            format: ResponseFormat::Text,
            temperature: None,
            effort: None,
            options: RequestOptions::default(),
            max_completion_tokens: 100,
        };
        let (short, long) = (request("word ".repeat(10)), request("word ".repeat(12_000)));
        assert!(most_usage(&pool, &short).await.prompt_tokens >= 10);
        let mut counted = Box::pin(most_usage(&pool, &long));
        assert!((&mut counted).now_or_never().is_none(), "it waits for the pool");
        release.send(()).expect("waits");
        assert!(counted.await.prompt_tokens >= 12_000);
        busy.await.expect("ended");
    }
}
