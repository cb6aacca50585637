//! `--record`: what passes the gate of a playbook is told to the ledger, where workers look.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use bootstrap::connect_ledger;
use inference::gate::asked_version;
use ledger::{Evaluation, EvaluationScore, Ledger};
use playbook::{Gate, Playbook};
use serde_json::json;
use settings::Settings;

use super::{
    candidate::Candidate,
    report::{EvalReport, GateReport, ModelReport},
};
use crate::print;

/// Where a run is recorded.
pub struct Recorder {
    ledger: Ledger,
    gate: Gate,
    file_text: String,
}

/// The folder of the cases that a playbook's gate names.
pub fn gate_folder(file: &Path, playbook: &Playbook) -> Option<PathBuf> {
    let gate = playbook.gate.as_ref()?;
    Some(file.parent().unwrap_or(Path::new("")).join(&gate.eval))
}

impl Recorder {
    /// Makes sure, before a question is paid for, that what comes of it can be recorded.
    ///
    /// # Errors
    /// The playbook has no gate, or one about other cases, or the ledger is not there.
    pub async fn prepare(settings: &Settings, file: &Path, cases: &Path, playbook: &Playbook) -> anyhow::Result<Self> {
        let gate = playbook.gate.clone().context("--record: the playbook has no [gate]")?;
        let of_gate = gate_folder(file, playbook).unwrap_or_default();
        let same = || anyhow::Ok(of_gate.canonicalize()? == cases.canonicalize()?);
        let is_same = same().with_context(|| format!("--record: the cases of the gate, {}", of_gate.display()))?;
        ensure!(is_same, "--record: the gate is about the cases in {}, not {}", of_gate.display(), cases.display());
        let file_text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let read_again = Playbook::parse(&file.display().to_string(), &file_text, &[])?;
        ensure!(read_again.version == playbook.version, "{} has just changed", file.display());
        let ledger = connect_ledger(settings, "leadline playbook eval")?;
        ledger.check().await.context("--record: the ledger")?;
        Ok(Self { ledger, gate, file_text })
    }

    /// How the models did at the gate. One with questions that have no answer to judge has not passed.
    pub fn judge(&self, models: &[ModelReport]) -> GateReport {
        let is_passed = |model: &&ModelReport| {
            model.failures == 0 && self.gate.lets_pass(model.whole_cases.met, model.whole_cases.all)
        };
        let passed_by = models.iter().filter(is_passed).map(|model| model.model.clone()).collect();
        GateReport { min_hits: self.gate.min_hits, passed_by }
    }

    /// Records each model of a judged run of which every question has an answer that can be judged.
    ///
    /// # Errors
    /// The ledger does not take it.
    pub async fn record(&self, report: &EvalReport, candidates: &[Candidate]) -> anyhow::Result<()> {
        let Some(gate) = &report.gate else { bail!("the run was not judged") };
        for (model, candidate) in report.models.iter().zip(candidates) {
            if model.failures > 0 {
                print::error(format_args!("{}: not recorded, because not every question has an answer", model.model));
                continue;
            }
            let number = |count: usize| i32::try_from(count).context("too many");
            let score = EvaluationScore {
                cases: number(report.cases.len())?,
                answers: number(model.whole_cases.all)?,
                hits: number(model.whole_cases.met)?,
                passed: gate.passed_by.contains(&model.model),
            };
            let evaluation = Evaluation {
                asked: asked_version(&candidate.playbook, &candidate.model),
                score,
                recorded_by: user(),
                file_text: self.file_text.clone(),
                report: json!({ "format": report.format, "cases": report.cases, "model": model }),
            };
            self.ledger.record_evaluation(&evaluation).await.context("the result cannot be recorded")?;
        }
        Ok(())
    }
}

/// Who runs the command, as the operating system calls them.
fn user() -> String {
    std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}
