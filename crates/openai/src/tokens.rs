//! Counts tokens in a model's own encoding.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// The tokens that every message has beside its text, and that the beginning of the answer has.
const MESSAGE_OVERHEAD: usize = 3;

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

fn has_old_encoding(model: &str) -> bool {
    model.starts_with("gpt-3.5") || model.starts_with("gpt-4-") || model == "gpt-4"
}

fn tokenizer(model: &str) -> &'static bpe_openai::Tokenizer {
    if has_old_encoding(model) { bpe_openai::cl100k_base() } else { bpe_openai::o200k_base() }
}

/// The tokens of a prompt that consists of these messages.
pub fn count_prompt<'a>(model: &str, messages: impl IntoIterator<Item = &'a str>) -> usize {
    prompt_of(messages.into_iter().map(|text| count_tokens(model, text)))
}

/// The tokens of a prompt whose messages have so many.
pub(crate) fn prompt_of(messages: impl IntoIterator<Item = usize>) -> usize {
    messages.into_iter().map(|tokens| tokens + MESSAGE_OVERHEAD).sum::<usize>() + MESSAGE_OVERHEAD
}

/// Texts whose count is remembered, in each encoding. There are two for each playbook and model: its instructions and its schema.
const MOST_SHARED: usize = 256;

/// Counts texts of which many requests share some, such as instructions: those are counted once.
#[derive(Debug, Default)]
pub struct SharedCounts([Mutex<HashMap<String, usize>>; 2]);

impl SharedCounts {
    /// The tokens of a text that many requests share.
    pub fn count(&self, model: &str, text: &str) -> usize {
        let encoding = &self.0[usize::from(has_old_encoding(model))];
        let known = || encoding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = known().get(text) {
            return *count;
        }
        let count = count_tokens(model, text);
        let mut known = known();
        // Instructions that name the day are others tomorrow.
        if known.len() >= MOST_SHARED {
            known.clear();
        }
        known.insert(text.to_owned(), count);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_shared_text_has_the_same_count_and_only_so_many_are_remembered() {
        let shared = SharedCounts::default();
        for round in 0..2 {
            for number in 0..=MOST_SHARED {
                let text = format!("You qualify leads, by rule {number}.");
                for model in ["gpt-4o", "gpt-4-turbo"] {
                    assert_eq!(shared.count(model, &text), count_tokens(model, &text), "{round} {text}");
                }
            }
        }
        let remembered = shared.0.iter().map(|counts| counts.lock().expect("whole").len());
        assert!(remembered.into_iter().all(|count| (1..=MOST_SHARED).contains(&count)));
    }
}
