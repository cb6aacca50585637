//! The request that asks a model a playbook's question: its messages, its options and the room for its answer.

use std::sync::Arc;

use domain::{inference::Effort, model::RequestedTier};
use openai::{CacheOptions, ChatMessage, ChatRequest, RequestOptions, ResponseFormat, Role, models::Model};
use playbook::{AnswerMode, Playbook, RenderedPrompt};

/// The request that puts the playbook's question.
pub(crate) fn question_request(playbook: &Playbook, model: &Model, prompt: RenderedPrompt) -> ChatRequest {
    let RenderedPrompt { system, user } = prompt;
    let prompt = RenderedPrompt { system: instructions(playbook, system), user };
    request(playbook, model, response_format(playbook), prompt)
}

/// The first request of a conversation. What all questions of a playbook have in common comes first, so that OpenAI can cache it.
pub(crate) fn request(
    playbook: &Playbook,
    model: &Model,
    format: ResponseFormat,
    prompt: RenderedPrompt,
) -> ChatRequest {
    let message = |role, content| ChatMessage { role, content };
    ChatRequest {
        model: model.name.clone(),
        messages: vec![message(Role::System, prompt.system), message(Role::User, prompt.user.into())],
        format,
        temperature: playbook.model.temperature,
        effort: effort(playbook, model),
        options: RequestOptions {
            verbosity: playbook.model.verbosity,
            service_tier: requested_tier(playbook, model),
            cache: cache(playbook, model),
        },
        max_completion_tokens: room(playbook, model),
    }
}

/// The effort to ask for. A model that reasons is always told, because its default may change; one that does not refuses to
/// be told anything.
fn effort(playbook: &Playbook, model: &Model) -> Option<Effort> {
    let wanted = playbook.model.effort;
    match &model.reasoning {
        Some(reasoning) => wanted.or(Some(reasoning.default)),
        None => wanted.filter(|effort| *effort != Effort::None),
    }
}

/// What is said about the cache: questions of one version of a playbook begin alike.
fn cache(playbook: &Playbook, model: &Model) -> CacheOptions {
    CacheOptions {
        key: model.prompt_cache.then(|| format!("leadline-{}", playbook.version)),
        ends_with_instructions: model.prompt_cache && model.has_cache_breakpoints(),
    }
}

/// The service tier to ask for.
pub(crate) fn requested_tier(playbook: &Playbook, model: &Model) -> RequestedTier {
    playbook.model.service_tier.unwrap_or(model.service_tier)
}

/// The room for the answer and, of a model that reasons, for its reasoning: OpenAI takes both out of one limit, and a model
/// whose reasoning takes all of it answers nothing.
pub(crate) fn room(playbook: &Playbook, model: &Model) -> u32 {
    let options = &playbook.model;
    let reasoning = match effort(playbook, model) {
        None | Some(Effort::None) => 0,
        Some(effort) => options.max_reasoning_tokens.unwrap_or(usual_reasoning(effort)),
    };
    options.max_output_tokens.saturating_add(reasoning).min(model.max_output)
}

/// Enough tokens for most reasoning of this effort. All of it counts against OpenAI's limit of tokens, and one answer that needs
/// more is asked for again with twice the room.
fn usual_reasoning(effort: Effort) -> u32 {
    match effort {
        Effort::None => 0,
        Effort::Minimal => 500,
        Effort::Low => 1_000,
        Effort::Medium => 4_000,
        Effort::High => 8_000,
        Effort::Xhigh => 16_000,
        Effort::Max => 32_000,
    }
}

/// The system message. JSON mode guarantees JSON but not its shape, so the message contains the schema then.
pub(crate) fn instructions(playbook: &Playbook, system: Arc<str>) -> Arc<str> {
    match playbook.model.mode {
        AnswerMode::Schema | AnswerMode::Function => system,
        AnswerMode::Json => format!(
            "{}\n\nAnswer with one JSON object that follows this JSON schema:\n{}",
            system.trim_end(),
            playbook.answer.fields.strict_schema()
        )
        .into(),
    }
}

pub(crate) fn response_format(playbook: &Playbook) -> ResponseFormat {
    match playbook.model.mode {
        AnswerMode::Schema => ResponseFormat::Schema {
            name: playbook.name.clone(),
            schema: playbook.answer.fields.strict_schema().clone(),
        },
        AnswerMode::Function => ResponseFormat::Function {
            name: playbook.name.clone(),
            schema: playbook.answer.fields.strict_schema().clone(),
        },
        AnswerMode::Json => ResponseFormat::Json,
    }
}
