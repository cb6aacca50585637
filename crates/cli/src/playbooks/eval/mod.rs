//! `leadline playbook eval`: asks one or several models about a folder of cases and compares them.

mod amounts;
mod ask;
mod baseline;
mod candidate;
mod junit;
mod record;
mod report;
mod table;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;
use playbook::{LocalTime, MaskedKind, Masking, PortalZone};
use settings::{ConfigScope, Settings};
use time::OffsetDateTime;

use self::{
    amounts::{dollars, parse_dollars, parse_points},
    ask::{Questions, ask_all},
    baseline::Baseline,
    record::Recorder,
    report::{BaselineReport, EvalReport, Verdict},
};
use super::cases::{self, EvalCase};
use crate::print::{self, say};

#[derive(Args)]
pub struct EvalOptions {
    /// The playbook file.
    file: PathBuf,
    /// The folder with the cases (*.toml). By default that of the playbook's gate.
    cases: Option<PathBuf>,
    /// A model to ask; several are shown side by side. By default the playbook's.
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// How often each model is asked about each case.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// How many questions are under way at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: u32,
    /// The most that all of it may cost. Nothing is asked if it can cost more.
    #[arg(long, value_name = "DOLLARS", value_parser = parse_dollars)]
    max_cost: Option<i64>,
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
    /// Also write the results as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Compare with the JSON of an earlier run: what counts is no longer that every expectation is met, but how many fewer.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// The model of the baseline with which every model is compared. By default each with itself.
    #[arg(long, value_name = "NAME", requires = "baseline")]
    baseline_model: Option<String>,
    /// By how many percentage points the share of met expectations, and of whole cases, may be below the baseline's; 0 by
    /// default.
    #[arg(long, value_name = "POINTS", requires = "baseline", value_parser = parse_points)]
    max_drop: Option<f64>,
    /// Record in the ledger how each model did at the playbook's gate, so that workers run what has passed. What counts is then whether
    /// every model passes.
    #[arg(long, conflicts_with = "baseline")]
    record: bool,
}

/// Runs the command. Its exit code is the verdict: 0 good, 1 worse than expected, 3 undecided.
pub async fn run(config: Option<&Path>, options: &EvalOptions) -> ExitCode {
    let verdict = evaluate(config, options).await.unwrap_or_else(|error| {
        print::error(format_args!("Error: {error:?}"));
        Verdict::Undecided
    });
    verdict.exit_code()
}

async fn evaluate(config: Option<&Path>, options: &EvalOptions) -> anyhow::Result<Verdict> {
    let settings = Settings::load(config, ConfigScope::OpenAiOnly)?;
    if options.record {
        Settings::load(config, ConfigScope::LedgerOnly)?;
    }
    let candidates = candidate::load(&settings, &options.file, &options.models)?;
    let playbook = &candidates[0].playbook;
    let folder = options.cases.clone().or_else(|| record::gate_folder(&options.file, playbook));
    let folder = folder.context("which cases? The playbook has no [gate] that names them")?;
    let cases = cases::load(&folder, playbook)?;
    let recorder =
        if options.record { Some(Recorder::prepare(&settings, &options.file, &folder, playbook).await?) } else { None };
    // Before a question is paid for: what cannot be compared need not be asked.
    let baseline = match &options.baseline {
        Some(file) => {
            let baseline = Baseline::read(file, options.baseline_model.clone(), options.max_drop.unwrap_or(0.0));
            let baseline = baseline.with_context(|| format!("the baseline {}", file.display()))?;
            let names: Vec<_> = candidates.iter().map(|candidate| candidate.model.name.as_str()).collect();
            let obstacles = baseline.obstacles(&playbook.name, &cases, &names);
            if !obstacles.is_empty() {
                bail!("the results cannot be compared with {}:\n  {}", file.display(), obstacles.join("\n  "));
            }
            Some(baseline)
        }
        None => None,
    };
    let model_client = candidate::model_client(&settings)?;
    // Cases belong to no portal.
    let now = LocalTime::new(OffsetDateTime::now_utc(), PortalZone::utc());
    let questions = Questions::prepare(&model_client, &candidates, &cases, options.repeat, &now).await?;
    say_what_is_masked(&candidates[0].playbook.masking, &cases);
    check_cost(&questions, options.max_cost)?;
    let answers = ask_all(&model_client, &questions, options.concurrency, options.max_cost, &now).await;

    let mut report = EvalReport::new(&candidates, &cases, options.repeat, &answers);
    if let (Some(baseline), Some(file)) = (&baseline, &options.baseline) {
        report.baseline = Some(BaselineReport {
            file: file.display().to_string(),
            max_drop: baseline.max_drop,
            drops: baseline.drops(&report.models),
        });
    }
    report.gate = recorder.as_ref().map(|recorder| recorder.judge(&report.models));
    report.verdict = report.judge();
    if let Some(recorder) = &recorder {
        recorder.record(&report, &candidates).await?;
    }
    show(&report, &cases, options)?;
    Ok(report.verdict)
}

/// How many values of the cases the model does not read, on the standard error output.
fn say_what_is_masked(masking: &Masking, cases: &[EvalCase]) {
    if masking.is_off() {
        return;
    }
    let mut counts: BTreeMap<MaskedKind, usize> = BTreeMap::new();
    for case in cases {
        for (kind, count) in masking.mask(&case.context).masks.counts() {
            *counts.entry(*kind).or_default() += count;
        }
    }
    let masked: Vec<_> = counts.iter().map(|(kind, count)| format!("{count} {}", kind.as_str())).collect();
    let masked = if masked.is_empty() { "nothing".to_owned() } else { masked.join(", ") };
    let denied = masking.deny.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let denied = if denied.is_empty() { denied } else { format!("; not shown: {denied}") };
    print::error(format_args!("masked: {masked}{denied}"));
}

fn check_cost(questions: &Questions<'_>, max_cost: Option<i64>) -> anyhow::Result<()> {
    let most = questions.most_micro_dollars();
    let words =
        most.map_or_else(|| "cost: unknown".to_owned(), |most| format!("cost: about {} at most", dollars(most)));
    print::error(format_args!("questions: {}; {words}", questions.len()));
    match (max_cost, most) {
        (Some(allowed), Some(most)) if most > allowed => bail!(
            "--max-cost allows {}, and the questions may cost {}; nothing was asked",
            dollars(allowed),
            dollars(most)
        ),
        (Some(_), None) => bail!(
            "--max-cost cannot hold: {} has no known price (openai.models gives it one); nothing was asked",
            questions.without_price().join(", ")
        ),
        _ => Ok(()),
    }
}

fn show(report: &EvalReport, cases: &[EvalCase], options: &EvalOptions) -> anyhow::Result<()> {
    if options.json {
        print::json(report)?;
    } else {
        table::print(report, cases);
        report.verdict_lines().iter().for_each(|line| say!("{line}"));
    }
    if let Some(file) = &options.junit {
        let xml = junit::xml(report).context("JUnit XML")?;
        std::fs::write(file, xml).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
