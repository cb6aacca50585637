//! Simulated OpenAI: chat completions and models.

mod access;
mod chat;
pub(crate) mod errors;
pub(crate) mod limits;
mod request;
mod rules;
mod schema;

pub use access::ModelAccess;
pub(crate) use chat::router;
