//! Texts within a prompt: JSON strings, and pieces of them.

/// A text as a JSON string: one line, of which no part looks like a line that stands around it.
#[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "every text can be written as JSON")]
pub fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("a text can be written as JSON")
}

/// A JSON string that is taken in pieces. The tokens of the whole are counted once.
pub(crate) struct Pieces<'a> {
    /// What stands between the quotation marks.
    inner: &'a str,
    /// The end of each token, in bytes, at the end of a character.
    ends: Vec<usize>,
    /// How many bytes have been taken.
    at: usize,
    /// How many tokens have been taken.
    token: usize,
}

impl<'a> Pieces<'a> {
    /// `json` is a JSON string; `token_ends` gives the ends of the tokens of a text.
    pub(crate) fn of(json: &'a str, token_ends: impl Fn(&str) -> Vec<usize>) -> Self {
        let inner = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(json);
        Self { inner, ends: token_ends(inner), at: 0, token: 0 }
    }

    /// The tokens of what has not been taken.
    pub(crate) fn tokens_left(&self) -> usize {
        self.ends.len() - self.token
    }

    /// All that has not been taken, as a JSON string.
    pub(crate) fn rest(&mut self) -> String {
        let rest = format!("\"{}\"", &self.inner[self.at..]);
        (self.at, self.token) = (self.inner.len(), self.ends.len());
        rest
    }

    /// The next piece of at most `max` tokens, as a JSON string; `None` when not even one character fits.
    pub(crate) fn next(&mut self, max: usize) -> Option<String> {
        let last = (self.token + max).min(self.ends.len()).checked_sub(1)?;
        let mut end = self.ends[last].max(self.at);
        let piece = &self.inner[self.at..end];
        // An escape is a backslash and one character: it must not be cut.
        if (piece.len() - piece.trim_end_matches('\\').len()) % 2 == 1 {
            end -= 1;
        }
        if end == self.at {
            return None;
        }
        let piece = format!("\"{}\"", &self.inner[self.at..end]);
        self.at = end;
        // A character of several tokens that does not fit is still to be counted, with all of them.
        self.token = (self.ends.partition_point(|token_end| *token_end < end) + 1).min(self.ends.len());
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pieces, json_text};

    /// A token for each byte.
    fn bytes(text: &str) -> Vec<usize> {
        (1..=text.len()).map(|end| text.floor_char_boundary(end)).collect()
    }

    #[test]
    fn pieces_are_json_strings_that_make_up_the_whole() {
        let text = "größer\n\"als\" \\gedacht\\\\ 🚀\t";
        let json = json_text(text);
        for max in 1..=json.len() {
            let mut pieces = Pieces::of(&json, bytes);
            let mut whole = String::new();
            while pieces.tokens_left() > 0 {
                let piece = pieces.next(max).unwrap_or_else(|| pieces.rest());
                whole.push_str(&serde_json::from_str::<String>(&piece).expect("a JSON string"));
            }
            assert_eq!(whole, text, "{max}");
        }
        let mut pieces = Pieces::of(&json, bytes);
        assert_eq!(pieces.next(4).as_deref(), Some("\"grö\""));
        assert_eq!(pieces.tokens_left(), json.len() - 2 - 4);
        assert_eq!(pieces.next(0), None);
        assert_eq!(Pieces::of("\"🚀x\"", bytes).next(3), None, "the first character needs four");
    }
}
