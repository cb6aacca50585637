//! OpenAI for Rust: chat completions, structured outputs, errors, tokens, price.
//!
//! Knows nothing of playbooks, queues or tables. The base URL, the path and the authentication header are settings,
//! because gateways and compatible servers are common.

mod chat;
mod client;
mod connections;
mod error;
pub mod models;

pub use chat::{ChatMessage, ChatRequest, Completion, FinishReason, ResponseFormat, Role, TokenUsage};
pub use client::{OpenAiClient, OpenAiSettings, OpenAiSetupError};
pub use connections::ConnectionSharing;
pub use error::{OpenAiApiError, OpenAiError};
