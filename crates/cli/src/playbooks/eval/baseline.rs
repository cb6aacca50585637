//! An earlier run that later ones must not fall below. What is not certain counts against the later run.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, bail};

use super::report::{CaseName, EvalReport, FORMAT, ModelReport, Share};
use crate::playbooks::cases::EvalCase;

/// Differences below this are those of the arithmetic.
const ROUNDING: f64 = 1e-9;

/// An earlier run.
pub struct Baseline {
    report: EvalReport,
    /// The model of the baseline with which all are compared; `None`: each with itself.
    model: Option<String>,
    /// How many percentage points a share may be lower.
    pub max_drop: f64,
}

impl Baseline {
    /// Reads what `--json` has printed.
    ///
    /// # Errors
    /// The file is not there, or no result of this shape.
    pub fn read(file: &Path, model: Option<String>, max_drop: f64) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).context("cannot be read")?;
        Self::parse(&text, model, max_drop)
    }

    fn parse(text: &str, model: Option<String>, max_drop: f64) -> anyhow::Result<Self> {
        let value: serde_json::Value = serde_json::from_str(text).context("is no JSON")?;
        if value["format"] != FORMAT {
            bail!(
                "is no result of `leadline playbook eval --json`, or one of another version (format {FORMAT} is needed)"
            );
        }
        let report = serde_json::from_value(value).context("is no result of `leadline playbook eval --json`")?;
        Ok(Self { report, model, max_drop })
    }

    fn counterpart(&self, name: &str) -> Option<&ModelReport> {
        let name = self.model.as_deref().unwrap_or(name);
        self.report.models.iter().find(|model| model.model == name)
    }

    /// Why results of these models on these cases cannot be compared with it; none if they can.
    pub fn obstacles(&self, playbook: &str, cases: &[EvalCase], models: &[&str]) -> Vec<String> {
        let names: Vec<_> = cases.iter().map(CaseName::of).collect();
        let mut obstacles = self.differences(playbook, &names);
        for model in models {
            match self.counterpart(model) {
                None => obstacles.push(format!(
                    "it has no results of {}; --baseline-model names one of: {}",
                    self.model.as_deref().unwrap_or(model),
                    self.report.models.iter().map(|model| model.model.as_str()).collect::<Vec<_>>().join(", ")
                )),
                Some(then) => obstacles.extend(self.defect_of(then)),
            }
        }
        obstacles.dedup();
        obstacles
    }

    fn differences(&self, playbook: &str, cases: &[CaseName]) -> Vec<String> {
        let mut differences = Vec::new();
        if self.report.playbook != playbook {
            differences.push(format!("it is about the playbook `{}`, not `{playbook}`", self.report.playbook));
        }
        let by_file = |cases: &[CaseName]| -> BTreeMap<String, String> {
            cases.iter().map(|case| (case.file.clone(), case.sha256.clone())).collect()
        };
        let (then, now) = (by_file(&self.report.cases), by_file(cases));
        for (file, sha256) in &now {
            match then.get(file) {
                None => differences.push(format!("it has no case {file}")),
                Some(then) if then != sha256 => differences.push(format!("the case {file} has changed since")),
                Some(_) => {}
            }
        }
        let gone = then.keys().filter(|file| !now.contains_key(*file));
        differences.extend(gone.map(|file| format!("its case {file} is not in the folder")));
        differences
    }

    /// Why the results of a model are not complete.
    fn defect_of(&self, then: &ModelReport) -> Option<String> {
        let answers = then.answers.iter().filter(|answer| answer.failure.is_none()).count();
        let all = self.report.cases.len().saturating_mul(self.report.repeat as usize);
        (answers == 0 || answers != all)
            .then(|| format!("{answers} of its {all} questions to {} have an answer", then.model))
    }

    /// In words: what fell by more than is allowed.
    pub fn drops(&self, models: &[ModelReport]) -> Vec<String> {
        let mut drops = Vec::new();
        for now in models {
            let Some(then) = self.counterpart(&now.model) else { continue };
            // The answers count, and not what the file says that they amount to.
            let then = ModelReport::of(then.model.clone(), then.answers.clone());
            let shares = [
                ("expectations met", now.expectations, then.expectations),
                ("whole cases", now.whole_cases, then.whole_cases),
            ];
            for (what, now_share, then_share) in shares {
                drops.extend(self.drop(now_share, then_share).map(|drop| format!("{}: {what} {drop}", now.model)));
            }
        }
        drops
    }

    fn drop(&self, now: Share, then: Share) -> Option<String> {
        let (now, then) = (now.percent(), then.percent());
        (then - now > self.max_drop + ROUNDING).then(|| {
            let (by, allowed) = (then - now, self.max_drop);
            format!("fell from {then:.1} % to {now:.1} %, by {by:.1} percentage points; {allowed} are allowed")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playbooks::eval::report::{Verdict, tests::answer};

    fn report(met: usize) -> EvalReport {
        let answers = (0..20).map(|n| answer(&format!("{n}.toml"), (usize::from(n < met), 1), 1)).collect();
        let case = |n| CaseName { file: format!("{n}.toml"), sha256: "aa".to_owned() };
        EvalReport {
            format: FORMAT,
            playbook: "leads".to_owned(),
            version: "v".to_owned(),
            repeat: 1,
            cases: (0..20).map(case).collect(),
            models: vec![ModelReport::of("gpt-4o".to_owned(), answers)],
            baseline: None,
            gate: None,
            verdict: Verdict::Good,
        }
    }

    fn baseline(met: usize, max_drop: f64) -> Baseline {
        let text = serde_json::to_string(&report(met)).expect("JSON");
        Baseline::parse(&text, None, max_drop).expect("a baseline")
    }

    #[test]
    fn a_drop_counts_from_just_above_what_is_allowed() {
        let now = report(18).models;
        assert!(baseline(18, 0.0).drops(&now).is_empty());
        assert!(baseline(17, 0.0).drops(&now).is_empty(), "better is no drop");
        assert!(baseline(19, 5.0).drops(&now).is_empty(), "exactly what is allowed");
        let drops = baseline(20, 5.0).drops(&now);
        let fell = "fell from 100.0 % to 90.0 %, by 10.0 percentage points; 5 are allowed";
        assert_eq!(drops, [format!("gpt-4o: expectations met {fell}"), format!("gpt-4o: whole cases {fell}")]);
    }

    #[test]
    fn the_answers_of_a_baseline_count_and_not_its_sums() {
        let mut then = report(20);
        then.models[0].expectations.met = 0;
        then.models[0].whole_cases.met = 0;
        let then = Baseline::parse(&serde_json::to_string(&then).expect("JSON"), None, 0.0).expect("a baseline");
        assert_eq!(then.drops(&report(10).models).len(), 2);
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let mut cases = report(20).cases;
        assert!(baseline(20, 0.0).differences("leads", &cases).is_empty());
        cases[0].file = "new.toml".to_owned();
        cases[1].sha256 = "bb".to_owned();
        assert_eq!(
            baseline(20, 0.0).differences("churn", &cases),
            [
                "it is about the playbook `leads`, not `churn`",
                "the case 1.toml has changed since",
                "it has no case new.toml",
                "its case 0.toml is not in the folder",
            ]
        );
        let other = baseline(20, 0.0).obstacles("leads", &[], &["gpt-6-luna"]);
        assert!(other.contains(&"it has no results of gpt-6-luna; --baseline-model names one of: gpt-4o".to_owned()));
    }

    #[test]
    fn a_baseline_with_missing_answers_is_none() {
        for spoil in [
            (|report: &mut EvalReport| report.models[0].answers.clear()) as fn(&mut EvalReport),
            |report| report.models[0].answers[3].failure = Some("away".to_owned()),
            |report| report.repeat = 2,
        ] {
            let mut then = report(20);
            spoil(&mut then);
            let then = Baseline::parse(&serde_json::to_string(&then).expect("JSON"), None, 0.0).expect("a baseline");
            assert!(then.defect_of(&then.report.models[0]).is_some());
        }
        assert!(baseline(20, 0.0).defect_of(&report(20).models[0]).is_none());
    }

    #[test]
    fn what_is_no_baseline_is_refused() {
        for text in ["", "{}", "[]", "{\"format\": 2}", "{\"format\": 1}", "{\"format\": \"1\"}"] {
            assert!(Baseline::parse(text, None, 0.0).is_err(), "{text}");
        }
    }
}
