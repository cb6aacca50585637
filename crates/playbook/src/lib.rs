//! The playbook engine. A playbook is a file that says which events lead to which question to the model, and what is
//! done with the answer.
//!
//! [`load()`] reads a folder of playbook files, and [`Playbook::parse`] reads one. They reject everything that could
//! fail later, so a [`Playbook`] that exists is valid. The parts of a playbook, in the order in which an event passes
//! them:
//!
//! 1. `trigger`: which events start the playbook.
//! 2. `path` and `reads`: which records, properties and engagements are read from HubSpot.
//! 3. `context` and `context_parts`: what was read, as text for the model; `text` cleans that text.
//! 4. `masking`: what the model reads placeholders for, and what it does not read; `patterns` for what is found in texts.
//! 5. `prompt` and `model`: what the model is asked, and which model; `read_back` reads a context out of a prompt again.
//! 6. `fields` and `evidence`: the form of the answer, and whether its quotations are in the context.
//! 7. `effects` and `plan`: the writes and actions of the playbook, and what an answer makes of them; `local_time`
//!    says when a day begins and ends.
//!
//! 8. `review`: which of it is reviewed first, and which rules approve it.
//!
//! `gate` says what a version has to show before any of this happens.
//!
//! `templates` evaluates the conditions and texts of all parts, and `variables` gives their values; `channel_text` and
//! `spreadsheet` see to it that these do nothing where they are read. `playbook` combines the parts. Imports run one way: `load` → `file` and `plan` → `playbook` → the parts → `templates`, `text` and `path`.

mod channel_text;
pub mod context;
mod context_parts;
mod effects;
mod evidence;
mod fields;
mod file;
mod gate;
mod load;
mod local_time;
mod masking;
mod model;
mod path;
pub mod patterns;
mod plan;
mod playbook;
mod prompt;
mod read_back;
mod reads;
mod review;
mod spreadsheet;
mod templates;
#[cfg(test)]
mod tests;
mod text;
mod trigger;
mod variables;

pub use context::Context;
pub use context_parts::ContextPart;
pub use effects::{ActionPlan, ActionTemplate, ApprovalPlan, InferenceMetadata, PropertyWrite, ReviewPlan, WriteValue};
pub use evidence::{CheckedAnswer, Quotations, UnverifiedPolicy};
pub use fields::{AnswerField, AnswerFields, AnswerMismatch, FieldKind, quote_name};
pub use file::{PlaybookFinding, PlaybookFindings};
pub use gate::Gate;
pub use load::{LoadError, load, load_files, load_text};
pub use local_time::{LocalTime, PortalZone, UnknownTimeZone};
pub use masking::{
    KnownPhones, MaskKind, MaskedContext, MaskedKind, Masking, Masks, PropertyRole, phones, replace_placeholders,
};
pub use model::{AnswerMode, ModelLines, ModelOptions};
pub use path::{RecordPath, RecordPathError};
pub use plan::{PlannedAction, PlannedWrite};
pub use playbook::{AnswerRules, Effects, Guard, Playbook, Selection};
pub use prompt::{Fence, PromptError, PromptPart, PromptTemplates, RenderedPrompt};
pub use read_back::{ShownContext, ShownEntry, ShownRecord};
pub use reads::{ContextPlan, ContextRead, WindowStrategy};
pub use review::{EditError, ProposedChange, approving_rule};
pub use templates::{Condition, TemplateError, TextTemplate, Variables};
pub use text::{TextFormat, is_forwarded, is_invisible, json_text, normalize, plain_text, without_quoted_history};
pub use trigger::Trigger;
pub use variables::{event_variable, manual_event_variable};
