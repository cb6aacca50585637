//! Simulated OpenAI: chat completions and models.

mod chat;
pub(crate) mod errors;
pub(crate) mod limits;
mod odd;
mod request;
mod rules;
mod schema;

pub(crate) use chat::router;
