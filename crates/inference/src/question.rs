//! Asking the model, until there is an answer that can be written or a reason why not.

use domain::{
    Inference, InferenceId, Playbook,
    inference::{InferenceOutcome, Usage},
    playbook::{AnswerMode, Rendered},
};
use openai::{ChatRequest, Client, Completion, Finish, Format, Message, Role};
use serde_json::{Map, Value, json};

use crate::failure::StepError;

/// An asked question: what is to be stored about it, and the answer's fields or why there are none.
pub struct Asked {
    /// For the ledger, whatever the answer was worth.
    pub inference: Inference,
    /// The checked fields.
    pub result: Result<Map<String, Value>, StepError>,
}

/// Asks `model` what `playbook` wants to know. A cut answer is asked for once more with more room, one that does not
/// fit the schema is repaired once.
///
/// # Errors
/// Only when there was no answer at all, so nothing to store.
pub async fn ask(
    openai: &Client,
    playbook: &Playbook,
    model: &openai::models::Model,
    prompt: &Rendered,
) -> Result<Asked, StepError> {
    let message = |role, content: &str| Message { role, content: content.to_owned() };
    let mut request = ChatRequest {
        model: model.name.clone(),
        messages: vec![message(Role::System, &instructions(playbook, prompt)), message(Role::User, &prompt.user)],
        format: format(playbook),
        temperature: playbook.model.temperature,
        max_completion_tokens: playbook.model.max_output_tokens.min(model.max_output),
    };
    let mut usage = Usage::default();
    let mut completion = complete(openai, &request, &mut usage).await?;
    if completion.finish == Finish::Length {
        request.max_completion_tokens = request.max_completion_tokens.saturating_mul(2).min(model.max_output);
        completion = complete(openai, &request, &mut usage).await?;
    }
    let mut judged = judge(playbook, &completion);
    if let Judged::Mismatch(why) = &judged {
        request.messages.push(message(Role::Assistant, &completion.content));
        request.messages.push(message(
            Role::User,
            &format!("That answer does not fit the schema: {why}. Answer again with JSON that does."),
        ));
        completion = complete(openai, &request, &mut usage).await?;
        judged = judge(playbook, &completion);
    }
    let (outcome, result) = judged.conclude();
    let billed = openai::Usage {
        prompt_tokens: usage.prompt_tokens,
        cached_tokens: usage.cached_tokens,
        completion_tokens: usage.completion_tokens,
    };
    let cost = model.price.map(|price| price.of(&billed));
    count(playbook, outcome, &usage, cost);
    let inference = Inference {
        id: InferenceId::new(),
        playbook: playbook.name.clone(),
        playbook_version: playbook.version.clone(),
        model_requested: model.name.clone(),
        model: completion.model,
        prompt: json!(request.messages),
        answer: completion.refusal.unwrap_or(completion.content),
        outcome,
        fields: result.as_ref().map_or(Value::Null, |fields| Value::Object(fields.clone())),
        usage,
        cost_micro_dollars: cost,
        latency: completion.latency,
        request_id: completion.request_id,
    };
    Ok(Asked { inference, result })
}

/// JSON mode guarantees JSON and no shape: the schema has to be said in words.
fn instructions(playbook: &Playbook, prompt: &Rendered) -> String {
    match playbook.model.mode {
        AnswerMode::Schema => prompt.system.clone(),
        AnswerMode::Json => format!(
            "{}\n\nAnswer with one JSON object that follows this JSON schema:\n{}",
            prompt.system.trim_end(),
            playbook.fields.strict_schema()
        ),
    }
}

fn format(playbook: &Playbook) -> Format {
    match playbook.model.mode {
        AnswerMode::Schema => Format::Schema { name: playbook.name.clone(), schema: playbook.fields.strict_schema() },
        AnswerMode::Json => Format::Json,
    }
}

async fn complete(openai: &Client, request: &ChatRequest, sum: &mut Usage) -> Result<Completion, openai::Error> {
    let completion = openai.complete(request).await?;
    *sum += Usage {
        prompt_tokens: completion.usage.prompt_tokens,
        cached_tokens: completion.usage.cached_tokens,
        completion_tokens: completion.usage.completion_tokens,
    };
    Ok(completion)
}

enum Judged {
    Valid(Map<String, Value>),
    Mismatch(String),
    Refused,
    Cut,
    Filtered,
}

fn judge(playbook: &Playbook, completion: &Completion) -> Judged {
    match completion.finish {
        Finish::ContentFilter => Judged::Filtered,
        Finish::Length => Judged::Cut,
        _ if completion.refusal.is_some() => Judged::Refused,
        _ => match playbook.fields.check(&completion.content) {
            Ok(fields) => Judged::Valid(fields),
            Err(mismatch) => Judged::Mismatch(mismatch.to_string()),
        },
    }
}

impl Judged {
    fn conclude(self) -> (InferenceOutcome, Result<Map<String, Value>, StepError>) {
        let park = |reason, detail: &str| Err(StepError::Answer { reason, detail: detail.to_owned() });
        match self {
            Self::Valid(fields) => (InferenceOutcome::Valid, Ok(fields)),
            Self::Mismatch(why) => (InferenceOutcome::Invalid, park("schema_invalid", &why)),
            Self::Refused => (InferenceOutcome::Refused, park("refused", "the model declined to answer")),
            Self::Cut => (InferenceOutcome::Cut, park("answer_cut", "the answer was cut, even with twice the room")),
            Self::Filtered => {
                (InferenceOutcome::Filtered, park("content_filtered", "OpenAI's content filter held the answer back"))
            }
        }
    }
}

fn count(playbook: &Playbook, outcome: InferenceOutcome, usage: &Usage, cost: Option<i64>) {
    let name = || playbook.name.clone();
    metrics::counter!("leadline_inferences_total", "playbook" => name(), "outcome" => outcome.as_str()).increment(1);
    for (kind, tokens) in
        [("prompt", usage.prompt_tokens), ("cached", usage.cached_tokens), ("completion", usage.completion_tokens)]
    {
        metrics::counter!("leadline_tokens_total", "playbook" => name(), "kind" => kind)
            .increment(u64::try_from(tokens).unwrap_or(0));
    }
    metrics::counter!("leadline_cost_micro_dollars_total", "playbook" => name())
        .increment(cost.and_then(|cost| u64::try_from(cost).ok()).unwrap_or(0));
}
