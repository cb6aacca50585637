//! OpenAI for Rust: chat completions, responses, structured outputs, errors, token counts, prices.
//!
//! The crate does not depend on playbooks, queues or tables. The base URL, the path and the authentication header are
//! settings, because many installations use gateways or compatible servers.

mod api_error;
mod api_error_meaning;
mod chat;
mod client;
mod connections;
mod error;
mod lenient;
mod model_refusal;
pub mod models;
mod prompt_cache;
mod responses;
pub mod tokens;
mod traced;

pub use api_error::OpenAiApiError;
pub use chat::{ChatMessage, ChatRequest, Completion, FinishReason, RequestOptions, ResponseFormat, Role};
pub use client::{ModelDescription, OpenAiClient, OpenAiCredentials, OpenAiSettings, OpenAiSetupError, RequestTag};
pub use connections::ConnectionSharing;
pub use domain::{inference::TokenUsage, model::ModelApi};
pub use error::OpenAiError;
pub use model_refusal::ModelRefusal;
pub use prompt_cache::CacheOptions;
