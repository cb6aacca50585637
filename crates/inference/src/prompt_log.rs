//! Prompts and answers in the log, for those who want them in their log system. Off by default: they hold what people wrote.
//!
//! Each answered question is one line of the target `prompts`, and no event of a trace. It is bounded, and what looks like a mail
//! address, a phone number or a key is replaced before it is cut.

mod redaction;
mod writer;

use domain::{Inference, InferenceId, inference::InferenceOutcome};
use settings::TelemetrySection;

use redaction::redacted;
use writer::Writer;

/// Writes what was asked and answered into the log, beside the work on events: nothing of it makes an event wait or fail. Cheap to
/// clone; clones share the threads.
#[derive(Debug, Clone)]
pub struct PromptLog {
    form: Form,
    writer: Writer,
}

/// How prompts and answers are written.
#[derive(Debug, Clone, Copy)]
struct Form {
    /// The most bytes of a prompt, and of an answer.
    max_bytes: usize,
    /// Whether addresses, phone numbers and keys are replaced.
    redacts: bool,
}

/// A line that is to be written.
struct Line {
    about: About,
    prompt: String,
    answer: String,
}

/// What a line says beside prompt and answer.
struct About {
    event_key: String,
    inference_id: InferenceId,
    trace_id: Option<String>,
    playbook: String,
    playbook_version: String,
    model: String,
    outcome: InferenceOutcome,
    /// Whether it is about a part of a context that was condensed.
    is_part: bool,
}

impl PromptLog {
    /// As the settings say; `None`: nothing is logged.
    pub fn of(settings: &TelemetrySection) -> Option<Self> {
        let form = Form { max_bytes: settings.log_prompts_max_bytes, redacts: settings.log_prompts_redacted };
        settings.log_prompts.then(|| Self { form, writer: Writer::default() })
    }

    /// Has one line written, or left out while too many wait.
    pub(crate) fn write(&self, event_key: &str, inference: &Inference, is_part: bool) {
        if !tracing::enabled!(target: "prompts", tracing::Level::INFO) {
            return;
        }
        let about = About {
            event_key: event_key.to_owned(),
            inference_id: inference.id,
            trace_id: spans::current_trace_id(),
            playbook: inference.playbook.clone(),
            playbook_version: inference.playbook_version.clone(),
            model: inference.model.clone(),
            outcome: inference.outcome,
            is_part,
        };
        let line = Line { about, prompt: conversation(&inference.prompt), answer: inference.answer.clone() };
        let form = self.form;
        self.writer.submit(line.prompt.len() + line.answer.len(), move || line.write(form));
    }
}

impl Form {
    /// The text as it may be logged. It is cut last: a cut through an address would leave half of it.
    fn prepared(self, text: &str) -> String {
        let mut text = if self.redacts { redacted(text) } else { text.to_owned() };
        text.truncate(text.floor_char_boundary(self.max_bytes));
        text
    }
}

impl Line {
    fn write(&self, form: Form) {
        let Self { about, prompt, answer } = self;
        let About { event_key, inference_id, trace_id, playbook, playbook_version, model, outcome, is_part } = about;
        tracing::info!(
            target: "prompts",
            event_key,
            %inference_id,
            trace_id,
            playbook,
            playbook_version,
            model,
            outcome = outcome.as_str(),
            is_part,
            prompt = form.prepared(prompt),
            prompt_bytes = prompt.len(),
            answer = form.prepared(answer),
            answer_bytes = answer.len(),
            "asked and answered"
        );
    }
}

/// The messages of a prompt one after the other, each behind its role.
fn conversation(prompt: &serde_json::Value) -> String {
    let text = |message: &serde_json::Value, key: &str| message[key].as_str().unwrap_or_default().to_owned();
    let messages = prompt.as_array().map(Vec::as_slice).unwrap_or_default();
    let lines: Vec<_> =
        messages.iter().map(|message| format!("{}: {}", text(message, "role"), text(message, "content"))).collect();
    lines.join("\n\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use settings::TelemetrySection;

    use super::{Form, PromptLog, conversation};

    #[test]
    fn nothing_is_logged_unless_an_operator_wants_it_and_then_it_is_redacted() {
        assert!(PromptLog::of(&TelemetrySection::default()).is_none());
        let log = PromptLog::of(&TelemetrySection { log_prompts: true, ..TelemetrySection::default() }).expect("on");
        assert_eq!(log.form.prepared("to ada@example.com"), "to [email]");
        let plain = TelemetrySection { log_prompts: true, log_prompts_redacted: false, ..TelemetrySection::default() };
        assert_eq!(PromptLog::of(&plain).expect("on").form.prepared("to ada@example.com"), "to ada@example.com");
    }

    #[test]
    fn a_prompt_is_written_as_its_messages() {
        let prompt = json!([{"role": "system", "content": "Rate it."}, {"role": "user", "content": "A note."}]);
        assert_eq!(conversation(&prompt), "system: Rate it.\n\nuser: A note.");
        assert_eq!(conversation(&json!(null)), "", "erased");
    }

    proptest! {
        #[test]
        fn a_line_is_bounded_and_cut_between_characters(text in "(?s).{0,200}", max_bytes in 0_usize..300) {
            let form = Form { max_bytes, redacts: false };
            let cut = form.prepared(&text);
            prop_assert!(cut.len() <= max_bytes && text.starts_with(&cut));
            prop_assert!(text.len() - cut.len() < 4 || cut.len() + 4 > max_bytes, "no more than needed");
        }

        #[test]
        fn no_cut_leaves_half_of_an_address(before in "[a-z ]{0,40}", max_bytes in 0_usize..80) {
            let form = Form { max_bytes, redacts: true };
            let cut = form.prepared(&format!("{before} persephone.k@example.com, thanks"));
            prop_assert!(!cut.contains("persephone"), "{}", cut);
        }
    }
}
