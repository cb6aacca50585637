//! What happens between an event and its write commands: reading the context of a record, fitting it to the model's window,
//! asking the model and checking the answer.
//!
//! The service `leadline-inference` does this for events ([`handler`]). The operator's commands `leadline playbook run` and
//! `eval` call [`answer()`] for one record or one case, so that what an operator tries is what the fleet does.

mod answer;
mod answer_check;
mod batched_ledger;
mod completion;
mod condenser;
pub mod context;
mod crm_reader;
mod failure;
pub mod gate;
pub mod handler;
pub mod held_back;
mod loop_guard;
mod model_check;
mod model_end;
mod model_trial;
mod nothing_to_do;
mod playbook_set;
mod portal_clock;
mod prompt_fitter;
mod prompt_log;
mod question_estimate;
mod question_log;
mod question_request;
mod spend;
mod start;
mod text_pool;
mod token_window;
pub mod wiring;
mod writable;

pub use answer::{ModelAnswer, UsableAnswer, answer};
pub use batched_ledger::{BatchedLedger, BatchedLedgerSettings};
pub use completion::ModelClient;
pub use crm_reader::{CrmReader, CrmReaderSettings};
pub use failure::StepError;
pub use held_back::HeldBack;
pub use loop_guard::LoopGuard;
pub use model_check::check_models;
pub use model_trial::{explain_refusal, try_model};
pub use nothing_to_do::NothingToDo;
pub use playbook_set::{ConfiguredPlaybook, PlaybookSet};
pub use portal_clock::PortalClock;
pub use prompt_log::PromptLog;
pub use question_estimate::{QuestionEstimate, most_cost, most_usage};
pub use question_log::QuestionLog;
pub use spend::{SpendFindings, check_spending};
pub use start::{main, start};
pub use text_pool::TextPool;
pub use wiring::{fallbacks_of, model_of};
pub use writable::WritableProperties;
