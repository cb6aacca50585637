//! Whether a model takes a playbook's request: asked once, with the very parameters, before events depend on it.

use domain::ChargeId;
use openai::{ModelRefusal, OpenAiClient, OpenAiError, RequestTag, models::Model};
use playbook::{Playbook, RenderedPrompt};

use crate::question_request::question_request;

/// Asks `model` as the playbook does, with the same parameters, about nothing. It costs a few hundred tokens.
///
/// # Errors
/// The model refuses the request, or does not answer.
pub async fn try_model(openai: &OpenAiClient, playbook: &Playbook, model: &Model) -> Result<(), OpenAiError> {
    let task = "This is a test. Answer as briefly as possible; every value may be empty or 0.".into();
    let prompt = RenderedPrompt { system: task, user: "There is no data.".to_owned() };
    let request = question_request(playbook, model, prompt);
    let ask = || async { openai.complete_once(&request, &RequestTag::new(ChargeId::new().0)).await };
    retry::run(openai.retry_policy(), ask).await.map(drop)
}

/// Why a model did not answer the question of [`try_model`], in words for the author of playbooks. The question holds no data of
/// the CRM, so that OpenAI's own words may be shown.
pub fn explain_refusal(model: &Model, error: &OpenAiError) -> String {
    let name = &model.name;
    let said = match error {
        OpenAiError::Api(api) if !api.message.is_empty() => format!("{error}: {}", api.message),
        _ => error.to_string(),
    };
    match error.model_refusal() {
        Some(ModelRefusal::Gone) => {
            format!("there is no model {name} for this API key: it was shut down, or its name is wrong ({said})")
        }
        Some(ModelRefusal::Forbidden) => format!("this API key may not use {name} ({said})"),
        Some(ModelRefusal::Unexplained) => format!("{name} is forbidden, or a gateway blocks the question ({said})"),
        Some(ModelRefusal::Parameter(parameter)) => {
            let cause = cause_of(&parameter).map(|key| format!(", which comes from {key}")).unwrap_or_default();
            format!("{name} refuses `{parameter}`{cause} ({said})")
        }
        None => format!("{name} does not answer ({said})"),
    }
}

/// What in a playbook leads to a parameter of the request.
fn cause_of(parameter: &str) -> Option<&'static str> {
    let option = parameter.split(['[', '.']).next().unwrap_or(parameter);
    Some(match option {
        "temperature" => "`temperature` in [model]",
        "reasoning_effort" | "reasoning" => "`effort` in [model], or openai.effort",
        "max_completion_tokens" | "max_output_tokens" | "max_tokens" => {
            "`max_output_tokens` and `max_reasoning_tokens` in [model]"
        }
        "verbosity" => "`verbosity` in [model]",
        "service_tier" => "`service_tier` in [model], or openai.service_tier",
        "prompt_cache_key" | "prompt_cache_options" => "openai.prompt_cache",
        "response_format" | "tools" | "tool_choice" | "text" => "`mode` in [model] and the [[fields]]",
        _ => return None,
    })
}
