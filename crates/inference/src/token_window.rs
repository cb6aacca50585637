//! How many tokens of data a prompt has room for.

use openai::{models::Model, tokens};
use playbook::{Playbook, RenderedPrompt};

/// Tokens of a request that are neither instructions nor data: the schema of the answer and the framing of the messages.
pub(crate) const PROMPT_OVERHEAD: usize = 500;

/// The room for data in a playbook's prompts to a model.
pub(crate) struct TokenWindow<'a> {
    model_name: &'a str,
    /// The model's context window, in tokens.
    window: usize,
    /// The longest answer that the playbook asks for, in tokens.
    max_output: usize,
    /// The most tokens of data that the playbook allows.
    max_data: usize,
    /// The room is divided by this.
    shrink_factor: usize,
}

impl<'a> TokenWindow<'a> {
    pub(crate) fn new(playbook: &Playbook, model: &'a Model, shrink_factor: usize) -> Self {
        Self {
            model_name: &model.name,
            window: model.window,
            max_output: playbook.model.max_output_tokens as usize,
            max_data: playbook.context.max_tokens,
            shrink_factor,
        }
    }

    /// The tokens of data that fit beside the instructions of `prompt`, which is rendered without data.
    pub(crate) fn room_in(&self, prompt: &RenderedPrompt) -> usize {
        self.room_beside(tokens::count_prompt(self.model_name, [&*prompt.system, prompt.user.as_str()]))
    }

    /// The tokens of data that fit beside this many tokens of instructions.
    pub(crate) fn room_beside(&self, instructions: usize) -> usize {
        let reserved = instructions + self.max_output + PROMPT_OVERHEAD;
        self.max_data.min(self.window.saturating_sub(reserved)) / self.shrink_factor
    }
}

#[cfg(test)]
mod tests {
    use super::TokenWindow;

    fn window(shrink_factor: usize) -> TokenWindow<'static> {
        TokenWindow { model_name: "gpt-4o-mini", window: 10_000, max_output: 1_000, max_data: 8_000, shrink_factor }
    }

    #[test]
    fn the_room_is_what_instructions_answer_and_overhead_leave() {
        assert_eq!(window(1).room_beside(2_500), 6_000);
        assert_eq!(window(1).room_beside(20_000), 0, "instructions longer than the window leave no room");
    }

    #[test]
    fn the_playbook_can_allow_less_than_the_window() {
        assert_eq!(window(1).room_beside(100), 8_000);
    }

    #[test]
    fn the_room_is_divided_by_the_shrink_factor() {
        assert_eq!(window(4).room_beside(2_500), 1_500);
    }
}
