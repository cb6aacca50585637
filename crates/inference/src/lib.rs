//! Everything between a record and what is to be done about it: reading its context, fitting it to the model's window,
//! asking, checking the answer.
//!
//! The service `leadline-inference` does this for events, the operator's `leadline playbook run` and `eval` for a record
//! or a case: what an operator tries is what the fleet does.

mod completion;
pub mod context;
mod crm_reader;
mod failure;
mod window;

pub use completion::ModelClient;
pub use crm_reader::CrmReader;
pub use failure::StepError;
pub use window::{Answered, NoStore, SummaryStore, answer};

use openai::models::Model;
use playbook::Playbook;
use settings::Settings;

/// The facts about a playbook's model; for an unknown one only what the playbook itself says.
pub fn model_of(settings: &Settings, playbook: &Playbook) -> Model {
    let name = playbook.model.name.as_ref().unwrap_or(&settings.openai.model);
    let facts = bootstrap::model_facts(settings, name);
    let unknown = || {
        tracing::warn!(model = name, "no facts about this model; its cost stays unknown. See openai.models");
        Model { name: name.clone(), window: usize::MAX, max_output: u32::MAX, price: None }
    };
    Model { name: name.clone(), ..facts.unwrap_or_else(unknown) }
}
