//! Fits a context into one prompt: whole where it fits, else the newest entries, or summaries of its parts.

use playbook::{Context, RenderedPrompt, WindowStrategy};

use crate::{
    QuestionLog, StepError,
    completion::Question,
    condenser::condense_parts,
    token_window::{PROMPT_OVERHEAD, TokenWindow},
};

/// Renders the prompts of one question.
pub(crate) struct PromptFitter<'a> {
    question: Question<'a>,
    /// The date in the prompts.
    today: String,
    window: TokenWindow<'a>,
}

impl<'a> PromptFitter<'a> {
    /// A fitter that uses the room for data divided by `shrink_factor`.
    pub(crate) fn new(question: Question<'a>, today: String, shrink_factor: usize) -> Self {
        Self { question, today, window: TokenWindow::new(question.playbook, question.model, shrink_factor) }
    }

    /// The prompt with as much of `context` as fits.
    pub(crate) async fn fit(&self, context: &Context, log: &QuestionLog<'_>) -> Result<RenderedPrompt, StepError> {
        let whole = context.render(usize::MAX, str::len);
        let prompt = self.render(&whole)?;
        // A token is at least one byte: a context whose bytes fit needs no counting, and most contexts are that short.
        let instructions = (prompt.system.len() + prompt.user.len()).saturating_sub(whole.len());
        if whole.len() <= self.window.room_beside(instructions + PROMPT_OVERHEAD) {
            return Ok(prompt);
        }
        self.render(&self.fit_data(whole, context, log).await?)
    }

    fn render(&self, data: &str) -> Result<RenderedPrompt, StepError> {
        Ok(self.question.playbook.prompt.render(self.question.record, data, &self.today)?)
    }

    /// The context as text that fits by the count of its tokens.
    async fn fit_data(&self, whole: String, context: &Context, log: &QuestionLog<'_>) -> Result<String, StepError> {
        let room = self.window.room_in(&self.render("")?);
        if self.question.playbook.context.window == WindowStrategy::Newest {
            return Ok(context.render(room, |text| self.window.count(text)));
        }
        if self.window.count(&whole) <= room {
            return Ok(whole);
        }
        let empty = self.question.playbook.prompt.condense(self.question.record, "", &self.today)?;
        let room_of_part = self.window.room_in(&empty).max(1);
        let mut parts = context.parts(room_of_part, |text| self.window.count(text));
        let too_many = parts.split_off(parts.len().min(self.question.model_client.max_parts)).len();
        let summaries = condense_parts(self.question, &self.today, parts, log).await?;
        Ok(join_summaries(context.properties_text(), &summaries, too_many, room, |text| self.window.count(text)))
    }
}

/// The facts and the newest summaries, of at most `room` tokens by `count`. A line says how many older ones are left out,
/// with the `too_many` that were not condensed.
fn join_summaries(
    facts: String,
    summaries: &[String],
    too_many: usize,
    room: usize,
    count: impl Fn(&str) -> usize,
) -> String {
    let mut left = room.saturating_sub(count(&facts));
    let mut block = facts;
    let all = summaries.len() + too_many;
    let mut joined = 0;
    for summary in summaries {
        let entry = format!("\n[condensed, part {} of {all}, newest first]\n{summary}\n", joined + 1);
        let tokens = count(&entry);
        if tokens > left {
            break;
        }
        left -= tokens;
        joined += 1;
        block.push_str(&entry);
    }
    if joined < all {
        block.push_str(&format!("\n[left out: {} older parts]\n", all - joined));
    }
    block
}

#[cfg(test)]
mod tests {
    use super::join_summaries;

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    #[test]
    fn summaries_that_fit_are_joined_newest_first() {
        let summaries = ["wants a quote".to_owned(), "asked for a demo".to_owned()];
        let block = join_summaries("name: Ada\n".to_owned(), &summaries, 0, 100, words);
        assert_eq!(
            block,
            "name: Ada\n\n[condensed, part 1 of 2, newest first]\nwants a quote\n\
             \n[condensed, part 2 of 2, newest first]\nasked for a demo\n"
        );
    }

    #[test]
    fn older_summaries_that_do_not_fit_are_left_out_and_counted() {
        let summaries = ["one two".to_owned(), "three four".to_owned(), "five".to_owned()];
        // Two words of facts, and nine for each part: seven of its heading, two of its summary.
        let block = join_summaries("name: Ada".to_owned(), &summaries, 0, 12, words);
        assert!(block.contains("one two"), "{block}");
        assert!(!block.contains("three four") && !block.contains("five"), "{block}");
        assert!(block.ends_with("\n[left out: 2 older parts]\n"), "{block}");
    }

    #[test]
    fn parts_that_were_not_condensed_are_counted_as_left_out() {
        let block = join_summaries("name: Ada".to_owned(), &["one".to_owned()], 3, 100, words);
        assert!(block.contains("[condensed, part 1 of 4, newest first]"), "{block}");
        assert!(block.ends_with("\n[left out: 3 older parts]\n"), "{block}");
    }
}
