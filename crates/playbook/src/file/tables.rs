//! The tables and keys of a playbook file. [`super::Playbook`] documents what they mean.
//!
//! A table has a field for each of its keys, also where these are more than eight. Values that may be wrong are kept
//! with their place in the file (`Spanned`), so that a finding can name the line.

use serde::Deserialize;
use toml::Spanned;

use domain::{
    inference::Effort,
    model::{RequestedTier, Verbosity},
    review::WriteMode,
    write_command::{TaskPriority, TaskType, WritePolicy},
};

use crate::{
    effects::InferenceMetadata, evidence::UnverifiedPolicy, masking::MaskKind, model::AnswerMode, reads::WindowStrategy,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) description: String,
    pub(super) records: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) mode: WriteMode,
    pub(super) canary: Option<Spanned<usize>>,
    #[serde(default)]
    pub(super) review: ReviewTable,
    pub(super) triggers: Vec<TriggerTable>,
    #[serde(default)]
    pub(super) max_records_per_event: Option<Spanned<usize>>,
    #[serde(default)]
    pub(super) guards: Vec<GuardTable>,
    pub(super) context: ContextTable,
    #[serde(default)]
    pub(super) model: ModelTable,
    pub(super) prompt: PromptTable,
    #[serde(default)]
    pub(super) masking: Option<Spanned<MaskingTable>>,
    #[serde(default)]
    pub(super) unverified: UnverifiedPolicy,
    pub(super) fields: Vec<FieldTable>,
    #[serde(default)]
    pub(super) writes: Vec<WriteTable>,
    #[serde(default)]
    pub(super) actions: Vec<ActionTable>,
    pub(super) gate: Option<GateTable>,
    #[serde(default)]
    pub(super) drift: DriftTable,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names in the file are those of the settings")]
pub(super) struct DriftTable {
    pub(super) max_overridden_percent: Option<Spanned<f64>>,
    pub(super) max_refused_percent: Option<Spanned<f64>>,
    pub(super) max_unverified_percent: Option<Spanned<f64>>,
    pub(super) max_parked_percent: Option<Spanned<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GateTable {
    pub(super) eval: Spanned<String>,
    pub(super) min_hits: Spanned<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TriggerTable {
    pub(super) event: Spanned<String>,
    pub(super) object_type: Option<String>,
    #[serde(default)]
    pub(super) properties: Vec<Spanned<String>>,
    pub(super) when: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GuardTable {
    pub(super) name: Spanned<String>,
    pub(super) when: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ContextTable {
    pub(super) max_tokens: Spanned<usize>,
    #[serde(default)]
    pub(super) window: WindowStrategy,
    pub(super) reads: Vec<ReadTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadTable {
    pub(super) of: Spanned<String>,
    pub(super) max_records: Option<Spanned<usize>>,
    #[serde(default)]
    pub(super) properties: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) texts: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) engagements: Vec<Spanned<String>>,
    pub(super) newest: Option<Spanned<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ModelTable {
    pub(super) name: Option<String>,
    pub(super) fallback: Vec<Spanned<String>>,
    pub(super) mode: Option<Spanned<AnswerMode>>,
    pub(super) temperature: Option<Spanned<f64>>,
    pub(super) effort: Option<Spanned<Effort>>,
    pub(super) service_tier: Option<Spanned<RequestedTier>>,
    pub(super) verbosity: Option<Spanned<Verbosity>>,
    pub(super) max_output_tokens: u32,
    pub(super) max_reasoning_tokens: Option<u32>,
    pub(super) max_micro_dollars_per_day: Option<Spanned<i64>>,
    pub(super) max_micro_dollars_per_record_and_day: Option<Spanned<i64>>,
}

impl Default for ModelTable {
    fn default() -> Self {
        Self {
            name: None,
            fallback: Vec::new(),
            mode: None,
            temperature: None,
            effort: None,
            service_tier: None,
            verbosity: None,
            max_output_tokens: 1_000,
            max_reasoning_tokens: None,
            max_micro_dollars_per_day: None,
            max_micro_dollars_per_record_and_day: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PromptTable {
    pub(super) system: Spanned<String>,
    pub(super) user: Spanned<String>,
    pub(super) condense: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MaskingTable {
    pub(super) mask: Vec<Spanned<MaskKind>>,
    pub(super) deny: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FieldTable {
    pub(super) name: Spanned<String>,
    pub(super) description: String,
    #[serde(default)]
    pub(super) optional: bool,
    #[serde(default)]
    pub(super) evidence: bool,
    #[serde(rename = "type")]
    pub(super) kind: Spanned<String>,
    pub(super) minimum: Option<toml::Value>,
    pub(super) maximum: Option<toml::Value>,
    pub(super) max_length: Option<usize>,
    pub(super) options: Option<Vec<String>>,
    pub(super) max_items: Option<usize>,
    pub(super) items: Option<Vec<FieldTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteTable {
    pub(super) property: Spanned<String>,
    pub(super) to: Option<Vec<Spanned<String>>>,
    pub(super) field: Option<Spanned<String>>,
    pub(super) text: Option<Spanned<String>>,
    pub(super) metadata: Option<InferenceMetadata>,
    pub(super) explain: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) policy: WritePolicy,
    #[serde(default)]
    pub(super) mode: WriteMode,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct ReviewTable {
    #[serde(default)]
    pub(super) approve_if: Vec<GuardTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActionTable {
    pub(super) name: Spanned<String>,
    #[serde(rename = "do")]
    pub(super) kind: Spanned<String>,
    pub(super) when: Option<Spanned<String>>,
    pub(super) for_each: Option<Spanned<String>>,
    pub(super) max_items: Option<Spanned<usize>>,
    pub(super) on: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) cooldown_hours: u32,
    #[serde(default)]
    pub(super) mode: WriteMode,
    pub(super) subject: Option<Spanned<String>>,
    pub(super) body: Option<Spanned<String>>,
    pub(super) owner: Option<Spanned<String>>,
    pub(super) due: Option<Spanned<String>>,
    pub(super) due_in_hours: Option<u32>,
    pub(super) priority: Option<TaskPriority>,
    pub(super) task_type: Option<TaskType>,
    pub(super) stage: Option<Spanned<String>>,
    pub(super) pipeline: Option<Spanned<String>>,
    pub(super) channel: Option<Spanned<String>>,
    pub(super) text: Option<Spanned<String>>,
}
