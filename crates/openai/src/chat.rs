//! Requests and answers, and how chat completions say them.

mod request;
mod response;

pub use request::{ChatMessage, ChatRequest, RequestOptions, ResponseFormat, Role};
pub(crate) use request::{CommonOptions, LEAST_OUTPUT};
pub use response::{Completion, FinishReason};
pub(crate) use response::{one_answer, read};
