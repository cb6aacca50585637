//! What came of all questions: the shape of `--json`, which docs/evaluation.md describes and a baseline is read from.

use std::{collections::BTreeMap, process::ExitCode};

use domain::inference::TokenUsage;
use serde::{Deserialize, Serialize};

use super::candidate::Candidate;
use crate::playbooks::cases::{EvalCase, ExpectationCheck};

/// The number of this shape; another one as soon as a reader of it could misunderstand the new shape.
pub const FORMAT: u32 = 1;

/// The results of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// [`FORMAT`].
    pub format: u32,
    /// The playbook's name.
    pub playbook: String,
    /// The playbook's version.
    pub version: String,
    /// How often each model was asked about each case.
    pub repeat: u32,
    /// The cases, by the names of their files.
    pub cases: Vec<CaseName>,
    /// The models, in the order in which they were given.
    pub models: Vec<ModelReport>,
    /// The comparison with a baseline.
    pub baseline: Option<BaselineReport>,
    /// How the models did at the gate, when that is recorded.
    #[serde(default)]
    pub gate: Option<GateReport>,
    /// What all of it means.
    pub verdict: Verdict,
}

/// A case, and its content at the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseName {
    /// The file's name.
    pub file: String,
    /// The SHA-256 of the file, in hex.
    pub sha256: String,
}

/// How one model did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    /// The model that was asked.
    pub model: String,
    /// The snapshots that answered.
    pub answered_by: Vec<String>,
    /// The questions without an answer that can be judged.
    pub failures: usize,
    /// The expectations that are met.
    pub expectations: Share,
    /// The answers that meet all expectations of their case.
    pub whole_cases: Share,
    /// The expectations that are met, by field; the actions are one.
    pub fields: BTreeMap<String, Share>,
    /// In micro-dollars; null for a model without a known price.
    pub cost_micro_dollars: Option<Cost>,
    /// From the question to the answer, with retries, repairs and parts.
    pub latency_ms: Latency,
    /// The tokens of all questions.
    pub tokens: Tokens,
    /// Every answer.
    pub answers: Vec<CaseAnswer>,
}

/// How many of how many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// So many.
    pub met: usize,
    /// Of so many.
    pub all: usize,
}

/// What the questions to a model cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// All of them.
    pub total: i64,
    /// One of them on average, rounded up.
    pub per_case: i64,
}

/// How long a model took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the answers took at most so long.
    pub p50: u64,
    /// 95 of 100 answers took at most so long.
    pub p95: u64,
}

/// Billed tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Of the prompts, with those from the cache.
    #[serde(rename = "in")]
    pub prompt: i64,
    /// Of the prompts, from the cache.
    pub cached: i64,
    /// Of the answers, with the reasoning.
    #[serde(rename = "out")]
    pub answer: i64,
}

/// One answer, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseAnswer {
    /// The model that was asked. In the report it stands above.
    #[serde(skip)]
    pub model: String,
    /// The name of the case's file.
    pub case: String,
    /// Which of the repetitions, from 1.
    pub repetition: u32,
    /// The snapshot that answered.
    pub answered_by: Option<String>,
    /// The case's expectations. None when there is nothing to judge.
    pub checks: Vec<ExpectationCheck>,
    /// Why there is no answer that can be judged.
    pub failure: Option<String>,
    /// In micro-dollars.
    pub cost_micro_dollars: Option<i64>,
    /// From the question to the answer.
    pub latency_ms: u64,
    /// What was billed.
    pub tokens: Tokens,
}

/// The comparison with a baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaselineReport {
    /// The baseline's file.
    pub file: String,
    /// How many percentage points are allowed.
    pub max_drop: f64,
    /// In words: what fell by more than that.
    pub drops: Vec<String>,
}

/// How the models did at the playbook's gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// The least share of whole cases.
    pub min_hits: f64,
    /// The models that pass.
    pub passed_by: Vec<String>,
}

/// What a run means for the person or the CI that waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every expectation is met; with a baseline: nothing fell by more than is allowed; at a gate: every model passes.
    Good,
    /// An expectation is not met; with a baseline: something fell by more than is allowed; at a gate: a model does not pass.
    Worse,
    /// Not every question has an answer that can be judged.
    Undecided,
}

impl Verdict {
    /// 2 is what wrong arguments give.
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Good => 0,
            Self::Worse => 1,
            Self::Undecided => 3,
        })
    }
}

impl EvalReport {
    /// The report of these answers, before it is compared and judged.
    pub fn new(candidates: &[Candidate], cases: &[EvalCase], repeat: u32, answers: &[CaseAnswer]) -> Self {
        let models = candidates.iter().map(|candidate| {
            let name = &candidate.model.name;
            let of_model = answers.iter().filter(|answer| answer.model == *name).cloned().collect();
            ModelReport::of(name.clone(), of_model)
        });
        Self {
            format: FORMAT,
            playbook: candidates[0].playbook.name.clone(),
            version: candidates[0].playbook.version.clone(),
            repeat,
            cases: cases.iter().map(CaseName::of).collect(),
            models: models.collect(),
            baseline: None,
            gate: None,
            verdict: Verdict::Undecided,
        }
    }

    /// What the results mean.
    pub fn judge(&self) -> Verdict {
        let is_good = match (&self.baseline, &self.gate) {
            (Some(baseline), _) => baseline.drops.is_empty(),
            (None, Some(gate)) => self.models.iter().all(|model| gate.passed_by.contains(&model.model)),
            (None, None) => self.models.iter().all(|model| model.expectations.met == model.expectations.all),
        };
        match is_good {
            _ if self.models.iter().any(|model| model.failures > 0) => Verdict::Undecided,
            true => Verdict::Good,
            false => Verdict::Worse,
        }
    }

    /// The verdict in words.
    pub fn verdict_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for model in &self.models {
            if model.failures > 0 {
                lines.push(format!("{}: {} questions have no answer that can be judged", model.model, model.failures));
            }
        }
        if let Some(BaselineReport { file, max_drop, drops }) = &self.baseline {
            lines.extend(drops.iter().cloned());
            if drops.is_empty() {
                lines.push(format!("nothing fell by more than {max_drop} percentage points below {file}"));
            }
        }
        if let Some(GateReport { min_hits, passed_by }) = &self.gate {
            lines.extend(self.models.iter().map(|model| {
                let ModelReport { model, whole_cases: Share { met, all }, .. } = model;
                let passes = if passed_by.contains(model) { "passes" } else { "does not pass" };
                format!("{model} {passes} the gate: {met} of {all} answers are hits, and {min_hits} of all are needed")
            }));
        }
        lines
    }
}

impl CaseName {
    /// The name of a case.
    pub fn of(case: &EvalCase) -> Self {
        Self { file: case.file.clone(), sha256: case.sha256.clone() }
    }
}

impl ModelReport {
    /// Sums up the answers of a model.
    pub fn of(model: String, answers: Vec<CaseAnswer>) -> Self {
        let mut report = Self {
            model,
            answered_by: Vec::new(),
            failures: answers.iter().filter(|answer| answer.failure.is_some()).count(),
            expectations: Share::default(),
            whole_cases: Share::default(),
            fields: BTreeMap::new(),
            cost_micro_dollars: cost(&answers),
            latency_ms: latency(&answers),
            tokens: Tokens::default(),
            answers,
        };
        for answer in &report.answers {
            report.tokens.prompt += answer.tokens.prompt;
            report.tokens.cached += answer.tokens.cached;
            report.tokens.answer += answer.tokens.answer;
            report.answered_by.extend(answer.answered_by.clone());
            for check in &answer.checks {
                report.expectations.count(check.is_met);
                report.fields.entry(check.field.clone()).or_default().count(check.is_met);
            }
            report.whole_cases.count(answer.is_whole());
        }
        report.answered_by.sort_unstable();
        report.answered_by.dedup();
        report
    }
}

impl CaseAnswer {
    /// Whether all expectations of the case are met.
    pub fn is_whole(&self) -> bool {
        self.failure.is_none() && self.checks.iter().all(|check| check.is_met)
    }
}

fn cost(answers: &[CaseAnswer]) -> Option<Cost> {
    let total = answers.iter().map(|answer| answer.cost_micro_dollars).sum::<Option<i64>>()?;
    let asked = i64::try_from(answers.len()).ok()?;
    Some(Cost { total, per_case: (total + asked - 1) / asked.max(1) })
}

/// Of the answers alone: how soon a call fails says nothing about the model.
fn latency(answers: &[CaseAnswer]) -> Latency {
    let answered = answers.iter().filter(|answer| answer.failure.is_none());
    let mut sorted: Vec<_> = answered.map(|answer| answer.latency_ms).collect();
    sorted.sort_unstable();
    // The nearest rank: the smallest value that so many per cent do not exceed.
    let percentile = |percent: usize| {
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    };
    Latency { p50: percentile(50), p95: percentile(95) }
}

impl Share {
    fn count(&mut self, is_met: bool) {
        self.all += 1;
        self.met += usize::from(is_met);
    }

    /// In percent; all of nothing is 100 %.
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^53")]
    pub fn percent(self) -> f64 {
        if self.all == 0 { 100.0 } else { 100.0 * self.met as f64 / self.all as f64 }
    }
}

impl Tokens {
    /// Adds what one inference used.
    pub fn add(&mut self, usage: &TokenUsage) {
        self.prompt += usage.prompt_tokens;
        self.cached += usage.cached_tokens;
        self.answer += usage.completion_tokens;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An answer that meets the first `met` of `all` expectations.
    pub fn answer(case: &str, (met, all): (usize, usize), latency_ms: u64) -> CaseAnswer {
        let check = |index| ExpectationCheck {
            field: format!("field{index}"),
            expected: "= 1".to_owned(),
            actual: "2".to_owned(),
            is_met: index < met,
        };
        CaseAnswer {
            model: "gpt-4o".to_owned(),
            case: case.to_owned(),
            repetition: 1,
            answered_by: Some("gpt-4o-2024-08-06".to_owned()),
            checks: (0..all).map(check).collect(),
            failure: None,
            cost_micro_dollars: Some(10),
            latency_ms,
            tokens: Tokens { prompt: 100, cached: 50, answer: 10 },
        }
    }

    #[test]
    fn answers_are_summed_up_by_field_case_cost_time_and_tokens() {
        let mut failed = answer("c", (0, 0), 1);
        failed.failure = Some("no answer".to_owned());
        failed.cost_micro_dollars = Some(1);
        let report =
            ModelReport::of("gpt-4o".to_owned(), vec![answer("a", (2, 2), 100), answer("b", (1, 2), 300), failed]);
        assert_eq!(report.failures, 1);
        assert_eq!(report.expectations, Share { met: 3, all: 4 });
        assert_eq!(report.whole_cases, Share { met: 1, all: 3 });
        assert_eq!(report.fields["field1"], Share { met: 1, all: 2 });
        assert_eq!(report.cost_micro_dollars, Some(Cost { total: 21, per_case: 7 }));
        assert_eq!(report.latency_ms, Latency { p50: 100, p95: 300 }, "of the two that were answered");
        assert_eq!(report.tokens, Tokens { prompt: 300, cached: 150, answer: 30 });
        assert_eq!(report.answered_by, ["gpt-4o-2024-08-06"]);
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let answers: Vec<_> = (1..=20).map(|n| answer("a", (1, 1), n * 10)).collect();
        assert_eq!(latency(&answers), Latency { p50: 100, p95: 190 });
        assert_eq!(latency(&answers[..1]), Latency { p50: 10, p95: 10 });
        assert_eq!(latency(&[]), Latency::default());
    }

    #[test]
    fn an_unknown_price_makes_an_unknown_cost() {
        let unknown = CaseAnswer { cost_micro_dollars: None, ..answer("a", (1, 1), 1) };
        assert_eq!(cost(&[unknown]), None);
    }
}
