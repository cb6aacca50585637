//! The cache of prompts: what requests begin with alike is billed at a lower price.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use openai::{models::Model, tokens};

use super::request::{CacheMode, ChatRequest};

/// Shorter prefixes are not cached (OpenAI's guide to prompt caching).
const LEAST_TOKENS: usize = 1_024;

/// The prefixes that were written. They are kept for as long as the simulator runs; OpenAI keeps them for 30 minutes.
#[derive(Debug, Default)]
pub(crate) struct PromptCache {
    prefixes: HashSet<u64>,
}

/// How many tokens of a prompt were read from the cache and written to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CacheUse {
    pub(super) read: usize,
    pub(super) written: usize,
}

impl PromptCache {
    /// Reads the longest known prefix of a prompt, and writes what is marked. Prefixes end with messages here. From GPT-5.6 on they
    /// end at breakpoints: those that a request marks and, unless it says otherwise, one at its end; of other models, everywhere
    /// (OpenAI's OpenAPI file, `PromptCacheOptionsParam`).
    pub(super) fn take(&mut self, request: &ChatRequest, facts: &Model, prompt_tokens: usize) -> CacheUse {
        if prompt_tokens < LEAST_TOKENS {
            return CacheUse::default();
        }
        let has_breakpoints = facts.has_cache_breakpoints();
        let is_implicit =
            request.prompt_cache_options.as_ref().is_none_or(|options| options.mode == CacheMode::Implicit);
        let mut hasher = DefaultHasher::new();
        request.model.hash(&mut hasher);
        let (mut tokens, mut used, mut written) = (0, CacheUse::default(), 0);
        for (index, message) in request.messages.iter().enumerate() {
            message.content.hash(&mut hasher);
            tokens += tokens::count_prompt(&request.model, [message.content.as_str()]);
            let prefix = hasher.finish();
            let is_end = index + 1 == request.messages.len();
            if tokens < LEAST_TOKENS {
                continue;
            }
            if self.prefixes.contains(&prefix) {
                used.read = tokens.min(prompt_tokens);
            } else if message.is_breakpoint || !has_breakpoints || (is_implicit && is_end) {
                self.prefixes.insert(prefix);
                written = tokens.min(prompt_tokens);
            }
        }
        used.written = if has_breakpoints { written.saturating_sub(used.read) } else { 0 };
        used
    }
}
