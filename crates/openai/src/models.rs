//! Facts about models: context windows, encodings, prices (OpenAI's pages of models and prices). OpenAI changes its
//! prices, so check them; settings can replace the facts of this file.

use domain::inference::TokenUsage;

/// The tokens that every message has beside its text, and that the beginning of the answer has.
const MESSAGE_OVERHEAD: usize = 3;

/// The facts about a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The name, without the date of a snapshot.
    pub name: String,
    /// The context window: the most tokens of prompt and answer together.
    pub window: usize,
    /// The longest answer, in tokens.
    pub max_output: u32,
    /// The price, if it is known.
    pub price: Option<Price>,
}

/// A price in micro-dollars (10⁻⁶ $) per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// The prompt.
    pub input: i64,
    /// The cached part of the prompt.
    pub cached_input: i64,
    /// The answer.
    pub output: i64,
}

const DOLLAR: i64 = 1_000_000;

/// Name, context window, longest answer, and the prices per million tokens in micro-dollars: prompt, cached prompt,
/// answer.
const KNOWN: [(&str, usize, u32, [i64; 3]); 5] = [
    ("gpt-4o", 128_000, 16_384, [250 * DOLLAR / 100, 125 * DOLLAR / 100, 1_000 * DOLLAR / 100]),
    ("gpt-4o-mini", 128_000, 16_384, [15 * DOLLAR / 100, 75 * DOLLAR / 1_000, 60 * DOLLAR / 100]),
    ("gpt-4-turbo", 128_000, 4_096, [10 * DOLLAR, 10 * DOLLAR, 30 * DOLLAR]),
    ("gpt-4.1", 1_047_576, 32_768, [2 * DOLLAR, 50 * DOLLAR / 100, 8 * DOLLAR]),
    ("gpt-4.1-mini", 1_047_576, 32_768, [40 * DOLLAR / 100, 10 * DOLLAR / 100, 160 * DOLLAR / 100]),
];

/// The facts about `name`, which may be a dated snapshot; `None` for a model that this file does not list.
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
    /// The cost of `usage` in micro-dollars, rounded up.
    pub fn of(&self, usage: &TokenUsage) -> i64 {
        let fresh = usage.prompt_tokens - usage.cached_tokens;
        let sum = fresh * self.input + usage.cached_tokens * self.cached_input + usage.completion_tokens * self.output;
        sum.div_euclid(DOLLAR) + i64::from(sum.rem_euclid(DOLLAR) > 0)
    }
}

/// The tokens of `text` in the encoding of `model`: `cl100k_base` for gpt-4-turbo, gpt-4 and gpt-3.5, `o200k_base` for
/// later models.
pub fn count_tokens(model: &str, text: &str) -> usize {
    tokenizer(model).count(text)
}

/// The end of each token of `text` in bytes, in the encoding of `model`. A token that ends within a character counts as
/// ending before it, so that the text can be cut at every end. Takes time in proportion to the text's length.
pub fn token_ends(model: &str, text: &str) -> Vec<usize> {
    let tokenizer = tokenizer(model);
    let mut end = 0;
    let ends = tokenizer.encode(text).into_iter().map(|token| {
        end += tokenizer.bpe.token_len(token);
        text.floor_char_boundary(end)
    });
    ends.collect()
}

fn tokenizer(model: &str) -> &'static bpe_openai::Tokenizer {
    let old = model.starts_with("gpt-3.5") || model.starts_with("gpt-4-") || model == "gpt-4";
    if old { bpe_openai::cl100k_base() } else { bpe_openai::o200k_base() }
}

/// The tokens of a prompt that consists of these messages.
pub fn count_prompt<'a>(model: &str, messages: impl IntoIterator<Item = &'a str>) -> usize {
    messages.into_iter().map(|text| count_tokens(model, text) + MESSAGE_OVERHEAD).sum::<usize>() + MESSAGE_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_the_facts_of_its_model_and_a_similar_name_does_not() {
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

    #[test]
    fn a_text_can_be_cut_where_its_tokens_end() {
        let text = "Das Budget beträgt 50.000 € 🚀🚀, größer als gedacht.\n\n  東京";
        for model in ["gpt-4o", "gpt-4-turbo"] {
            let ends = token_ends(model, text);
            assert_eq!((ends.len(), ends.last()), (count_tokens(model, text), Some(&text.len())));
            for (tokens, end) in (1..).zip(ends) {
                assert!(count_tokens(model, &text[..end]) <= tokens, "{:?}", &text[..end]);
            }
        }
    }

    /// The time of a count grows with the length of the text, not with its square: 65,536 bytes take milliseconds. The bound
    /// leaves room for a busy machine.
    #[test]
    fn no_text_of_65536_bytes_takes_long_to_count() {
        let parts = [
            "a",
            "A",
            " ",
            "\n",
            " \n",
            "\t ",
            "é",
            "=",
            "aA",
            "🚀",
            "\u{300}",
            "'s",
            "1",
            "\u{0}",
            "x  ",
            "</blockquote>",
        ];
        for part in parts {
            let text = part.repeat(65_536 / part.len());
            for text in [text.clone(), text + "x"] {
                for model in ["gpt-4o", "gpt-4-turbo"] {
                    let started = std::time::Instant::now();
                    let ends = token_ends(model, &text);
                    let took = started.elapsed();
                    assert!(took < std::time::Duration::from_secs(2), "{part:?} × {}: {took:?}", text.len());
                    assert_eq!(ends.len(), count_tokens(model, &text));
                }
            }
        }
    }
}
