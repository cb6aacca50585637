//! Requests and answers, and how chat completions say them.

mod request;
mod response;

pub(crate) use request::LEAST_OUTPUT;
pub use request::{ChatMessage, ChatRequest, RequestOptions, ResponseFormat, Role};
pub use response::{Completion, FinishReason};
pub(crate) use response::{one_answer, read};
