//! Which models answer at all, and what they refuse of any request, whatever the endpoint.

use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::errors;

/// Models that are not there, and parameters that are refused, as tests say.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelAccess {
    /// Models that were shut down: 404 `model_not_found`, for questions and for their descriptions. OpenAI does not document what
    /// a model answers after its end; this is what users have seen (models.dev#3707).
    pub shut_down: Vec<String>,
    /// Models that the API key's project may not use: 403 for questions (seen by users of OpenAI). They are described all the
    /// same.
    pub forbidden: Vec<String>,
    /// Models that answer and whose descriptions are not found, as behind gateways that describe some models only.
    pub undescribed: Vec<String>,
    /// Parameters that no model takes: 400 `unsupported_parameter`, with the parameter's name in `param`.
    pub refused_parameters: Vec<String>,
}

impl ModelAccess {
    /// The refusal of a request to `path` with this body, if it is refused.
    pub(crate) fn refusal(&self, path: &str, body: &[u8]) -> Option<Response> {
        let holds = |models: &[String], model: &str| models.iter().any(|known| known == model);
        if let Some((_, model)) = path.split_once("/models/") {
            let is_hidden = holds(&self.shut_down, model) || holds(&self.undescribed, model);
            return is_hidden.then(|| errors::model_not_found(model));
        }
        let is_needed = !(self.shut_down.is_empty() && self.forbidden.is_empty() && self.refused_parameters.is_empty());
        let request: Value = is_needed.then(|| serde_json::from_slice(body).ok()).flatten()?;
        let model = request["model"].as_str().unwrap_or_default();
        if holds(&self.shut_down, model) {
            return Some(errors::model_not_found(model));
        }
        if holds(&self.forbidden, model) {
            return Some(errors::model_forbidden(model));
        }
        let refused = self.refused_parameters.iter().find(|name| request.get(name.as_str()).is_some())?;
        let message = format!("Unsupported parameter: '{refused}' is not supported with this model.");
        Some(errors::invalid_request(&message, Some(refused), Some("unsupported_parameter")))
    }
}
