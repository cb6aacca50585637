//! What is known about models: windows, encodings, prices. Check before relying on them: OpenAI changes prices, and
//! settings may replace what is here.

use crate::chat::TokenUsage;

/// Tokens that every message costs beside its text, and that the answer's beginning costs.
const MESSAGE_OVERHEAD: usize = 3;

/// A model's facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The name, without a snapshot's date.
    pub name: String,
    /// Prompt and answer together, in tokens.
    pub window: usize,
    /// The longest answer, in tokens.
    pub max_output: u32,
    /// What a million tokens cost, in micro-dollars.
    pub price: Option<Price>,
}

/// Micro-dollars (10⁻⁶ $) per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Of the prompt.
    pub input: i64,
    /// Of the cached part of the prompt.
    pub cached_input: i64,
    /// Of the answer.
    pub output: i64,
}

const DOLLAR: i64 = 1_000_000;

/// Name, window, longest answer, price per million tokens in cents of a dollar: in, cached in, out.
const KNOWN: [(&str, usize, u32, [i64; 3]); 5] = [
    ("gpt-4o", 128_000, 16_384, [250 * DOLLAR / 100, 125 * DOLLAR / 100, 1_000 * DOLLAR / 100]),
    ("gpt-4o-mini", 128_000, 16_384, [15 * DOLLAR / 100, 75 * DOLLAR / 1_000, 60 * DOLLAR / 100]),
    ("gpt-4-turbo", 128_000, 4_096, [10 * DOLLAR, 10 * DOLLAR, 30 * DOLLAR]),
    ("gpt-4.1", 1_047_576, 32_768, [2 * DOLLAR, 50 * DOLLAR / 100, 8 * DOLLAR]),
    ("gpt-4.1-mini", 1_047_576, 32_768, [40 * DOLLAR / 100, 10 * DOLLAR / 100, 160 * DOLLAR / 100]),
];

/// The facts about `name`, which may be a dated snapshot; `None` for a model that is not known here.
pub fn find(name: &str) -> Option<Model> {
    let is_snapshot_of = |known: &str| {
        name.strip_prefix(known).is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('-').is_some_and(|date| date.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    let (name, window, max_output, [input, cached_input, output]) =
        KNOWN.into_iter().find(|(known, ..)| is_snapshot_of(known))?;
    Some(Model { name: name.to_owned(), window, max_output, price: Some(Price { input, cached_input, output }) })
}

impl Price {
    /// What `usage` costs in micro-dollars, rounded up.
    pub fn of(&self, usage: &TokenUsage) -> i64 {
        let fresh = usage.prompt_tokens - usage.cached_tokens;
        let sum = fresh * self.input + usage.cached_tokens * self.cached_input + usage.completion_tokens * self.output;
        sum.div_euclid(DOLLAR) + i64::from(sum.rem_euclid(DOLLAR) > 0)
    }
}

/// Counts the tokens of `text` as `model` does: `cl100k_base` for gpt-4-turbo, gpt-4 and gpt-3.5, `o200k_base` since.
pub fn count_tokens(model: &str, text: &str) -> usize {
    let old = model.starts_with("gpt-3.5") || model.starts_with("gpt-4-") || model == "gpt-4";
    let tokenizer = if old { bpe_openai::cl100k_base() } else { bpe_openai::o200k_base() };
    tokenizer.count(text)
}

/// Counts the tokens of a whole prompt.
pub fn count_prompt<'a>(model: &str, messages: impl IntoIterator<Item = &'a str>) -> usize {
    messages.into_iter().map(|text| count_tokens(model, text) + MESSAGE_OVERHEAD).sum::<usize>() + MESSAGE_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_have_their_models_facts_and_siblings_do_not() {
        assert_eq!(find("gpt-4o-2024-08-06").map(|model| model.name).as_deref(), Some("gpt-4o"));
        assert_eq!(find("gpt-4o-mini").map(|model| model.name).as_deref(), Some("gpt-4o-mini"));
        assert_eq!(find("gpt-4o-audio-preview"), None);
        assert_eq!(find("llama-3"), None);
    }

    #[test]
    fn cost_is_exact_and_rounded_up() {
        let price = find("gpt-4o").and_then(|model| model.price).expect("known");
        let usage = TokenUsage { prompt_tokens: 1_000_000, cached_tokens: 0, completion_tokens: 100_000 };
        assert_eq!(price.of(&usage), 3_500_000, "$2.50 in and $1.00 out");
        let usage = TokenUsage { prompt_tokens: 1_000, cached_tokens: 400, completion_tokens: 1 };
        assert_eq!(price.of(&usage), 1_500 + 500 + 10);
        assert_eq!(price.of(&TokenUsage { prompt_tokens: 1, ..TokenUsage::default() }), 3, "2.5 micro-dollars");
    }

    #[test]
    fn tokens_are_counted_with_the_models_own_encoding() {
        let text = "Das Budget beträgt fünfzigtausend Euro.";
        assert!(count_tokens("gpt-4-turbo", text) > count_tokens("gpt-4o", text));
        assert_eq!(count_prompt("gpt-4o", ["hello", "world"]), 2 + 3 * 3);
    }
}
