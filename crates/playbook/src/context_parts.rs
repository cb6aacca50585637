//! A context that is too long for one question: its newest entries, or all of them in parts.

use domain::{hash::sha256_hex_of_list, inference::ReadRecord};

use crate::{
    context::{Context, ContextEntry},
    text::{Pieces, json_text},
};

/// The tokens of an entry that are neither its heading nor its text: the quotation marks.
const QUOTES: usize = 2;

/// One part of the entries of a context that is too long for one question.
#[derive(Debug, Clone, PartialEq)]
pub struct ContextPart {
    /// The entries as text.
    pub text: String,
    /// Where they were read.
    pub read: Vec<ReadRecord>,
}

impl ContextEntry {
    /// Where a context that is too long is divided: of several entries, before the one with the highest rank. Any order does
    /// that is the same at every reading and has nothing to do with the order of the entries.
    fn border_rank(&self) -> String {
        sha256_hex_of_list([self.kind.type_id(), &self.id.to_string()])
    }

    /// The entry in pieces of at most `max_tokens` tokens, each under its heading.
    fn split(
        &self,
        pieces: &mut Pieces<'_>,
        max_tokens: usize,
        token_ends: impl Fn(&str) -> Vec<usize>,
    ) -> Vec<ContextPart> {
        let mut parts = Vec::new();
        while pieces.tokens_left() > 0 {
            let heading = self.heading(!parts.is_empty());
            let room = max_tokens.saturating_sub(token_ends(&heading).len() + QUOTES);
            // Where not even one character fits, `max_tokens` cannot be kept. One part that is too long is better than a loop
            // without end.
            let piece = pieces.next(room).unwrap_or_else(|| pieces.rest());
            parts.push(ContextPart { text: format!("{heading}{piece}\n"), read: vec![self.read()] });
        }
        parts
    }
}

impl Context {
    /// Properties and entries as one text of at most `max_tokens` tokens: all properties, then as many entries as fit,
    /// newest first. If some do not fit, a last line says how many. `token_ends` gives the end of each token of a text.
    pub fn newest(&self, max_tokens: usize, token_ends: impl Fn(&str) -> Vec<usize>) -> String {
        let mut block = self.properties_text();
        let mut left = max_tokens.saturating_sub(token_ends(&block).len());
        for (index, entry) in self.entries.iter().enumerate() {
            let (heading, text) = (entry.heading(false), json_text(&entry.text));
            let room = left.saturating_sub(token_ends(&heading).len() + QUOTES);
            let mut pieces = Pieces::of(&text, &token_ends);
            if pieces.tokens_left() <= room {
                left = room - pieces.tokens_left();
                block.push_str(&format!("{heading}{text}\n"));
                continue;
            }
            if let Some(piece) = pieces.next(room) {
                block.push_str(&format!("{heading}{piece}\n"));
            }
            let older = self.entries.len() - index - 1;
            block.push_str(&format!("\n[left out: the rest of this {} and {older} older entries]\n", entry.kind));
            break;
        }
        block
    }

    /// All entries, newest first, in parts of at most `max_tokens` tokens. An entry is split only if it is longer than a
    /// part. `token_ends` gives the end of each token of a text.
    ///
    /// The borders follow from the entries themselves and not from what stands before them: a new entry changes the part
    /// that it belongs to and no other, and neither does one that is no longer read. So the stored summaries of all other
    /// parts can be used again. A part's text therefore holds nothing that differs from one reading to the next.
    pub fn parts(&self, max_tokens: usize, token_ends: impl Fn(&str) -> Vec<usize>) -> Vec<ContextPart> {
        let headings: Vec<_> = self.entries.iter().map(|entry| entry.heading(false)).collect();
        let texts: Vec<_> = self.entries.iter().map(|entry| json_text(&entry.text)).collect();
        let mut pieces: Vec<_> = texts.iter().map(|text| Pieces::of(text, &token_ends)).collect();
        let sizes: Vec<_> = headings
            .iter()
            .zip(&pieces)
            .map(|(heading, pieces)| token_ends(heading).len() + QUOTES + pieces.tokens_left())
            .collect();
        let ranks: Vec<_> = self.entries.iter().map(ContextEntry::border_rank).collect();
        let mut parts = Vec::new();
        let all = 0..self.entries.len();
        let mut pending = Vec::from([all]);
        while let Some(range) = pending.pop() {
            if range.is_empty() {
                continue;
            }
            if sizes[range.clone()].iter().sum::<usize>() <= max_tokens {
                let read = self.entries[range.clone()].iter().map(ContextEntry::read).collect();
                let text = range.map(|index| format!("{}{}\n", headings[index], texts[index])).collect();
                parts.push(ContextPart { text, read });
                continue;
            }
            // The entry with the highest rank is the oldest of its part. The oldest of all is it in any case.
            if let Some(oldest) = range.clone().take(range.len() - 1).max_by_key(|index| &ranks[*index]) {
                pending.extend([oldest + 1..range.end, range.start..oldest + 1]);
            } else {
                let (entry, pieces) = (&self.entries[range.start], &mut pieces[range.start]);
                parts.extend(entry.split(pieces, max_tokens, &token_ends));
            }
        }
        parts
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use domain::{ObjectId, inference::ReadRecord};

    use crate::context::{Context, tests::context};

    /// The texts of the parts.
    pub(crate) fn parts(context: &Context, max_tokens: usize) -> Vec<String> {
        context.parts(max_tokens, words).into_iter().map(|part| part.text).collect()
    }

    /// The end of each word.
    pub(crate) fn words(text: &str) -> Vec<usize> {
        text.split_whitespace().map(|word| word.as_ptr() as usize - text.as_ptr() as usize + word.len()).collect()
    }

    #[test]
    fn the_newest_entries_come_first_and_a_line_says_what_did_not_fit() {
        let mut context = context(&["the oldest note", "a note in the middle", "the newest note"]);
        context.clean_entries();
        for whole in [context.newest(1_000, words), context.whole()] {
            assert!(whole.find("newest") < whole.find("middle") && whole.find("middle") < whole.find("oldest"));
            assert!(!whole.contains("left out"));
        }

        let cut = context.newest(14, words);
        assert!(cut.contains("\"the newest note\"") && !cut.contains("oldest"));
        assert!(cut.contains("[left out: the rest of this note and 1 older entries]"), "{cut}");

        let cut = context.newest(21, words);
        assert!(cut.contains("\"a note\"\n"), "what is left of an entry is a JSON string: {cut}");
    }

    #[test]
    fn parts_contain_every_word_and_keep_their_limit() {
        let long = (0..200).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
        let mut context = context(&["a short one", &long, "the newest"]);
        context.clean_entries();
        let parts = parts(&context, 50);
        assert!(parts.len() >= 5, "{}", parts.len());
        assert!(parts.iter().all(|part| words(part).len() <= 50));
        let texts = parts.iter().flat_map(|part| part.lines()).filter(|line| line.starts_with('"'));
        let all: String = texts.map(|line| serde_json::from_str::<String>(line).expect("a JSON string")).collect();
        assert!((0..200).all(|n| all.contains(&format!("w{n}"))) && all.contains("a short one"));
        assert!(parts[2].starts_with("\n[note 2 of 1970-01-03T00:00:00Z, continued]\n"), "{}", parts[2]);
    }

    /// A ticket with `mails` of some thirty words each, of which the newest forty are read.
    fn thread(mails: i64) -> Vec<String> {
        let texts: Vec<_> = (1..=mails).map(|n| format!("mail{n} {}", "word ".repeat(25))).collect();
        let mut context = context(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        context.clean_entries();
        context.entries.truncate(40);
        parts(&context, 200)
    }

    #[test]
    fn a_new_entry_and_one_that_is_no_longer_read_change_no_other_part() {
        for mails in [20, 40, 100, 1_000] {
            let (before, after) = (thread(mails), thread(mails + 1));
            let new = after.iter().filter(|part| !before.contains(part)).count();
            assert!(before.len() >= 4, "{} parts", before.len());
            // The newest part, and the oldest when the fortieth mail is no longer read. A part that is full is divided, and
            // the rest of one may join its neighbour.
            assert!(new <= 3, "{new} of {} parts are new after mail {}", after.len(), mails + 1);
        }
    }

    #[test]
    fn every_part_knows_what_it_was_read_from_and_the_context_knows_all() {
        let mut context = context(&["a short one", &"long ".repeat(60), "the newest"]);
        context.clean_entries();
        let ids = |read: &[ReadRecord]| read.iter().map(|read| read.object_id.0).collect::<Vec<_>>();
        let of_parts: Vec<_> = context.parts(50, words).iter().map(|part| ids(&part.read)).collect();
        assert_eq!(of_parts, [vec![3], vec![2], vec![2], vec![1]]);
        assert_eq!(ids(&context.read()), [3, 2, 1], "not the record that it is about");
        let mut other = context.records[0].clone();
        other.record.object_id = ObjectId(7);
        context.records.push(other);
        context.entries.push(context.entries[0].clone());
        assert_eq!(ids(&context.read()), [7, 3, 2, 1], "each once");
    }

    #[test]
    fn a_part_in_which_nothing_fits_is_no_endless_loop() {
        let context = context(&["one two three", "four"]);
        assert_eq!(context.parts(1, words).len(), 2);
        assert!(context.newest(1, words).contains("[left out: the rest of this note and 1 older entries]"));
    }

    /// The tokens of a long text are counted once, not again for what is left after each part.
    #[test]
    fn splitting_counts_every_text_once() {
        let long = "word ".repeat(10_000);
        let context = context(&[&long]);
        let counted = std::cell::Cell::new(0);
        let parts = context.parts(100, |text: &str| {
            counted.set(counted.get() + text.len());
            words(text)
        });
        assert!(parts.len() > 100);
        assert!(counted.get() < 2 * long.len(), "{}", counted.get());
    }
}
