//! What traces and metrics say of a request, in the words of OpenTelemetry's conventions for GenAI clients and for OpenAI.
//!
//! Not what was asked and answered: that is in the ledger, and in log lines if an operator wants it there.

use std::time::Duration;

use domain::model::RequestedTier;
use metrics::{Label, SharedString};
use retry::Failure;
use spans::{KeyValue, Server, calls};
use tracing::Span;

use crate::{
    ModelApi, OpenAiError,
    chat::{ChatRequest, Completion, FinishReason, ResponseFormat},
    models,
};

const OPERATION: &str = "chat";
const PROVIDER: &str = "openai";

/// What the conventions say for a value that is none of those expected.
const OTHER: &str = "_OTHER";

/// The most bytes of a model's name in a span.
const MAX_NAME: usize = 100;

/// The span of one request.
pub(crate) fn span(request: &ChatRequest, api: ModelApi, server: Option<&Server>) -> Span {
    let tier = request.options.service_tier;
    let attributes = || {
        [
            Some(KeyValue::new("gen_ai.operation.name", OPERATION)),
            Some(KeyValue::new("gen_ai.provider.name", PROVIDER)),
            Some(KeyValue::new("gen_ai.request.model", request.model.clone())),
            Some(KeyValue::new("gen_ai.request.max_tokens", i64::from(request.max_completion_tokens))),
            request.temperature.map(|temperature| KeyValue::new("gen_ai.request.temperature", temperature)),
            Some(KeyValue::new("gen_ai.output.type", output_type(&request.format))),
            Some(KeyValue::new("openai.api.type", api_type(api))),
            (tier != RequestedTier::Auto).then(|| KeyValue::new("openai.request.service_tier", tier.as_str())),
        ]
    };
    calls::client(|| format!("{OPERATION} {}", request.model), attributes, server)
}

/// Adds how the request ended to its span, and to the metrics.
pub(crate) fn record(
    span: &Span,
    (request, server): (&ChatRequest, Option<&Server>),
    result: &Result<Completion, OpenAiError>,
    took: Duration,
) {
    match result {
        Ok(completion) => answered(span, completion),
        Err(error) => spans::fail(span, error.reason().as_str()),
    }
    // The labels are copied for each of three metrics, and these texts are not.
    let shared = |text: &str| SharedString::from_shared(text.into());
    let mut labels = vec![
        Label::from_static_parts("gen_ai_operation_name", OPERATION),
        Label::from_static_parts("gen_ai_provider_name", PROVIDER),
        Label::new("gen_ai_request_model", shared(&request.model)),
    ];
    if let Some(server) = server {
        labels.push(Label::new("server_address", shared(&server.address)));
        labels.push(Label::new("server_port", shared(&server.port.to_string())));
    }
    if let Ok(completion) = result {
        let model = models::known_name(&request.model, &completion.model).unwrap_or(OTHER);
        labels.push(Label::new("gen_ai_response_model", shared(model)));
        // Only what the answer says: an estimate is none of the conventions' counts.
        for (kind, tokens) in completion
            .usage
            .iter()
            .flat_map(|usage| [("input", usage.prompt_tokens), ("output", usage.completion_tokens)])
        {
            let mut labels = labels.clone();
            labels.push(Label::from_static_parts("gen_ai_token_type", kind));
            #[expect(clippy::cast_precision_loss, reason = "tokens of one request")]
            metrics::histogram!("gen_ai_client_token_usage", labels).record(tokens as f64);
        }
    }
    if let Err(error) = result {
        labels.push(Label::from_static_parts("error_type", error.reason().as_str()));
    }
    metrics::histogram!("gen_ai_client_operation_duration_seconds", labels).record(took.as_secs_f64());
}

fn answered(span: &Span, completion: &Completion) {
    let usage = completion.usage.as_ref();
    let model = &completion.model[..completion.model.floor_char_boundary(MAX_NAME)];
    let tokens = |name, tokens: Option<i64>| tokens.map(|tokens| KeyValue::new(name, tokens));
    spans::add(span, || {
        let finish_reasons = spans::Array::String(vec![finish_reason(&completion.finish).into()]);
        [
            Some(KeyValue::new("gen_ai.response.model", model.to_owned())),
            Some(KeyValue::new("gen_ai.response.finish_reasons", spans::Value::Array(finish_reasons))),
            tokens("gen_ai.usage.input_tokens", usage.map(|usage| usage.prompt_tokens)),
            tokens("gen_ai.usage.output_tokens", usage.map(|usage| usage.completion_tokens)),
            tokens("gen_ai.usage.cache_read.input_tokens", usage.map(|usage| usage.cached_tokens)),
            completion.service_tier.map(|tier| KeyValue::new("openai.response.service_tier", tier.as_str())),
        ]
    });
}

fn output_type(format: &ResponseFormat) -> &'static str {
    match format {
        ResponseFormat::Text => "text",
        ResponseFormat::Schema { .. } | ResponseFormat::Json | ResponseFormat::Function { .. } => "json",
    }
}

fn api_type(api: ModelApi) -> &'static str {
    match api {
        ModelApi::ChatCompletions => "chat_completions",
        ModelApi::Responses => "responses",
    }
}

fn finish_reason(finish: &FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Other => "other",
    }
}

#[cfg(test)]
mod tests {
    use domain::inference::TokenUsage;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::{ChatMessage, RequestOptions, Role};

    #[test]
    fn whatever_an_answer_calls_its_model_the_metrics_have_few_names() {
        let request = ChatRequest {
            model: "gpt-4o".to_owned(),
            messages: vec![ChatMessage { role: Role::User, content: "".into() }],
            format: ResponseFormat::Text,
            temperature: None,
            effort: None,
            options: RequestOptions::default(),
            max_completion_tokens: 1,
        };
        let recorder = PrometheusBuilder::new().build_recorder();
        for name in ["gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-of-ada", &"ü".repeat(100_000), ""] {
            let completion = Completion {
                model: name.to_owned(),
                finish: FinishReason::Stop,
                content: "answer".to_owned(),
                refusal: None,
                usage: Some(TokenUsage::default()),
                request_id: None,
                service_tier: None,
                latency: Duration::ZERO,
            };
            metrics::with_local_recorder(&recorder, || {
                record(&Span::none(), (&request, None), &Ok(completion), Duration::ZERO);
            });
        }
        let page = recorder.handle().render();
        let label = |line: &str| {
            line.split_once("gen_ai_response_model=\"")?.1.split_once('"').map(|(name, _)| name.to_owned())
        };
        let names: std::collections::BTreeSet<_> = page.lines().filter_map(label).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["_OTHER", "gpt-4o", "gpt-4o-2024-08-06"]);
    }
}
