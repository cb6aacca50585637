//! `leadline playbook cost`: what an answer costs, for each playbook and model, without asking.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use inference::QuestionEstimate;
use openai::models;
use playbook::{LocalTime, Playbook, PortalZone};
use settings::Settings;
use time::OffsetDateTime;

use super::cases::{self, EvalCase};
use crate::print::{self, Cell, Format, Table, column, say};

/// What the questions of one playbook to one model cost on average over its cases.
struct CostRow {
    playbook: String,
    model: String,
    /// `None` when the model refuses an option of the playbook.
    mean: Option<MeanCost>,
}

#[derive(Debug, Clone, Copy)]
struct MeanCost {
    tokens: QuestionEstimate,
    /// In micro-dollars, for a thousand answers; `None` for a model without a price.
    per_thousand: Option<i64>,
}

/// Prints the table. `models` are those that are compared; all that are known and answer today, if there are none.
pub fn run(settings: &Settings, files: &[PathBuf], models: &[String], json: bool) -> anyhow::Result<ExitCode> {
    let today = OffsetDateTime::now_utc().date();
    let known = || models::known().iter().filter(|model| model.shutdown_date.is_none_or(|day| day > today));
    let models = if models.is_empty() { known().map(|model| model.name.clone()).collect() } else { models.to_vec() };
    let mut table = Table::new([
        column("playbook", "playbook"),
        column("model", "model"),
        column("prompt", "prompt_tokens"),
        column("answer", "answer_tokens"),
        column("reasoning", "reasoning_tokens"),
        column("1,000 answers", "micro_dollars_per_1000"),
    ]);
    for file in files {
        for row in rows(settings, file, &models)? {
            let cell = |of: fn(MeanCost) -> Cell| row.mean.map_or_else(|| "refused".into(), of);
            table.add([
                row.playbook.clone().into(),
                row.model.clone().into(),
                cell(|mean| mean.tokens.prompt.into()),
                cell(|mean| mean.tokens.answer.into()),
                cell(|mean| mean.tokens.reasoning.into()),
                cell(|mean| mean.per_thousand.map_or(Cell::Unknown, Cell::MicroDollars)),
            ]);
        }
    }
    print::list(&table, Format { json, utc: false }, "there is no playbook")?;
    if !json {
        say!("prices of {}; prompts are those of the cases, nothing of them is in the cache", models::as_of());
        say!("an answer's texts and lists are half as long as they may be, reasoning takes half of its room");
    }
    Ok(ExitCode::SUCCESS)
}

/// The playbook of `file` with each of `models`, over the cases in `cases/NAME` beside it.
fn rows(settings: &Settings, file: &Path, models: &[String]) -> anyhow::Result<Vec<CostRow>> {
    let mut playbook = super::one(file, settings)?;
    let folder = file.parent().unwrap_or(Path::new(".")).join("cases").join(&playbook.name);
    let cases = cases::load(&folder, &playbook)?;
    let now = LocalTime::new(OffsetDateTime::now_utc(), PortalZone::utc());
    let mut rows = Vec::new();
    for name in models {
        playbook.model.name = Some(name.clone());
        let model = inference::model_of(settings, &playbook);
        let is_refused = !inference::check_models(settings.openai.api, [(&playbook, &model)]).is_empty();
        let mean = if is_refused { None } else { Some(mean_cost(&playbook, &model, &cases, &now)?) };
        rows.push(CostRow { playbook: playbook.name.clone(), model: name.clone(), mean });
    }
    Ok(rows)
}

fn mean_cost(
    playbook: &Playbook,
    model: &models::Model,
    cases: &[EvalCase],
    now: &LocalTime,
) -> anyhow::Result<MeanCost> {
    let estimates = cases.iter().map(|case| QuestionEstimate::of(playbook, model, &case.context, now));
    let estimates: Vec<_> = estimates.collect::<Result<_, _>>()?;
    let count = i64::try_from(estimates.len())?;
    let mean = |of: fn(&QuestionEstimate) -> i64| estimates.iter().map(of).sum::<i64>() / count;
    let costs: Option<Vec<_>> = estimates.iter().map(|estimate| estimate.cost(playbook, model)).collect();
    Ok(MeanCost {
        tokens: QuestionEstimate {
            prompt: mean(|tokens| tokens.prompt),
            answer: mean(|tokens| tokens.answer),
            reasoning: mean(|tokens| tokens.reasoning),
        },
        per_thousand: costs.map(|costs| costs.iter().sum::<i64>() * 1_000 / count),
    })
}

/// The playbook files in the folder of the settings.
pub fn files_of(settings: &Settings) -> anyhow::Result<Vec<PathBuf>> {
    let folder = &settings.inference.playbooks;
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<_> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use openai::models;
    use settings::Settings;

    use super::{MeanCost, rows};

    const PAGE: &str = include_str!("../../../../docs/costs.md");

    /// Micro-dollars as dollars and cents, rounded up.
    fn dollars(micro_dollars: i64) -> String {
        let cents = micro_dollars.div_euclid(10_000) + i64::from(micro_dollars.rem_euclid(10_000) > 0);
        format!("{}.{:02}", cents / 100, cents % 100)
    }

    fn shipped(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/playbooks").join(format!("{name}.toml"))
    }

    /// Up to a twentieth: the number in the tags around the data has more tokens one time, and fewer another.
    #[test]
    fn the_page_about_costs_says_what_the_command_computes() {
        assert!(PAGE.contains(models::as_of()), "the page has another date than models.toml: {}", models::as_of());
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().replace([',', '`'], "")).collect::<Vec<_>>();
        let (_, table) = PAGE.split_once("<!-- costs -->\n").expect("the page has the marker");
        let (table, _) = table.split_once("<!-- /costs -->").expect("the page has the end marker");
        let documented: Vec<_> = table.lines().skip(2).map(cells).collect();
        assert!(documented.len() >= 3 * 4, "{}", documented.len());
        for row in documented {
            let computed =
                rows(&Settings::default(), &shipped(&row[1]), &[row[2].clone()]).expect("computed").remove(0);
            let Some(MeanCost { tokens, per_thousand: Some(cost) }) = computed.mean else {
                assert_eq!(row[6], "refused", "{row:?}");
                continue;
            };
            let numbers = [tokens.prompt, tokens.answer, tokens.reasoning].map(|number| number.to_string());
            for (computed, said) in numbers.into_iter().chain([dollars(cost)]).zip(&row[3..]) {
                let (computed, said): (f64, f64) =
                    (computed.parse().expect("a number"), said.parse().expect("a number"));
                assert!((computed - said).abs() <= computed.mul_add(0.05, 0.011), "{computed}, not {said}: {row:?}");
            }
        }
    }

    #[test]
    fn dollars_are_rounded_up() {
        assert_eq!([0, 1, 10_000, 1_234_567].map(dollars), ["0.00", "0.01", "0.01", "1.24"]);
    }
}
