//! Simulated OpenAI: chat completions, responses and models.

mod access;
pub(crate) mod cache;
mod chat;
pub(crate) mod errors;
pub(crate) mod kept_back;
pub(crate) mod limits;
mod odd;
mod request;
mod responses;
mod rules;
mod schema;

pub use access::ModelAccess;
pub(crate) use chat::router;
