//! What requests say about the provider's cache of prompts (OpenAI's guide to prompt caching, and its OpenAPI file,
//! `PromptCacheOptionsParam`).
//!
//! From GPT-5.6 on, OpenAI writes each prompt to the cache up to an end that it chooses, and bills that dearer than reading it afresh.
//! The data of a record is hardly ever read twice, so requests mark the end of the instructions, and only these are written. Shorter
//! prefixes than 1,024 tokens are not, wherever they end.

use serde::Serialize;

use crate::chat::{ChatMessage, Role};

/// What a request says about the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheOptions {
    /// The same for all requests that begin alike: OpenAI sends these to the machines that have their beginning in the cache.
    /// Not sent when `None`: some compatible servers refuse the parameter.
    pub key: Option<String>,
    /// Whether the cache ends with the first message, the instructions. Other models than those from GPT-5.6 on refuse to be told.
    pub ends_with_instructions: bool,
}

impl CacheOptions {
    /// The parameter `prompt_cache_options`.
    pub(crate) fn sent(&self) -> Option<Explicit> {
        self.ends_with_instructions.then_some(Explicit { mode: "explicit" })
    }

    /// The messages; the first one with its end marked, as a part of the type `part`.
    pub(crate) fn messages<'a>(&self, messages: &'a [ChatMessage], part: &'static str) -> Vec<SentMessage<'a>> {
        let marked = usize::from(self.ends_with_instructions);
        let sent = messages.iter().enumerate().map(|(index, message)| SentMessage {
            role: message.role,
            content: if index < marked {
                let prompt_cache_breakpoint = Explicit { mode: "explicit" };
                Content::Parts([Part { kind: part, text: &message.content, prompt_cache_breakpoint }])
            } else {
                Content::Text(&message.content)
            },
        });
        sent.collect()
    }
}

#[derive(Serialize)]
pub(crate) struct Explicit {
    mode: &'static str,
}

#[derive(Serialize)]
pub(crate) struct SentMessage<'a> {
    role: Role,
    content: Content<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    Parts([Part<'a>; 1]),
}

#[derive(Serialize)]
struct Part<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    text: &'a str,
    prompt_cache_breakpoint: Explicit,
}
