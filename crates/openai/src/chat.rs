//! Chat completions: requests and answers.

mod request;
mod response;

pub use request::{ChatMessage, ChatRequest, ResponseFormat, Role};
pub(crate) use response::read;
pub use response::{Completion, FinishReason};
