//! OpenAI for Rust: chat completions, structured outputs, errors, token counts, prices.
//!
//! The crate does not depend on playbooks, queues or tables. The base URL, the path and the authentication header are
//! settings, because many installations use gateways or compatible servers.

mod chat;
mod client;
mod connections;
mod error;
pub mod models;

pub use chat::{ChatMessage, ChatRequest, Completion, FinishReason, ResponseFormat, Role};
pub use client::{ModelDescription, OpenAiClient, OpenAiCredentials, OpenAiSettings, OpenAiSetupError, RequestTag};
pub use connections::ConnectionSharing;
pub use domain::inference::TokenUsage;
pub use error::{ModelRefusal, OpenAiApiError, OpenAiError};
