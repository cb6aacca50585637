//! `leadline playbook eval`: a playbook on a folder of cases.

use std::{path::Path, process::ExitCode};

use bootstrap::CallHooks;
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use futures_util::{StreamExt, stream};
use inference::{ModelClient, NoStore};
use playbook::{Playbook, manual_event_variable};
use settings::Settings;
use time::OffsetDateTime;

use super::case::{self, Case, Hit};

/// Cases that are asked at once.
const AT_ONCE: usize = 4;

/// What became of a case.
struct Outcome {
    hits: Vec<Hit>,
    cost_micro_dollars: i64,
}

/// Asks about every case and prints what hit and what missed. Fails when anything missed.
pub async fn run(settings: &Settings, playbook: &Playbook, folder: &Path) -> anyhow::Result<ExitCode> {
    let cases = case::load(folder, playbook)?;
    let model_client =
        ModelClient::unlimited(bootstrap::openai_client(settings, CallHooks::default()).map_err(anyhow::Error::msg)?);
    let model = inference::model_of(settings, playbook);
    let ask = |case: &Case| {
        let (model_client, model, context) = (model_client.clone(), model.clone(), case.context.clone());
        async move { inference::answer(&model_client, playbook, &model, context.record(), &context, &NoStore).await }
    };
    let answers: Vec<_> = stream::iter(cases.iter().map(ask).collect::<Vec<_>>()).buffered(AT_ONCE).collect().await;

    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["", "case", "field", "expected", "got"]);
    let (mut hit, mut all, mut cost) = (0, 0, 0);
    for (case, answer) in cases.iter().zip(answers) {
        let outcome = judge(playbook, case, answer)?;
        cost += outcome.cost_micro_dollars;
        for (index, found) in outcome.hits.iter().enumerate() {
            all += 1;
            hit += usize::from(found.fits);
            let sign = if found.fits { "✓" } else { "✗" };
            let what = if index == 0 { case.what.as_str() } else { "" };
            table.add_row([sign, what, &found.field, &found.expected, &found.got]);
        }
    }
    println!("{}@{} asked {} about {} cases", playbook.name, playbook.version, model.name, cases.len());
    println!("{table}");
    println!("{hit} of {all} expectations hit; it cost {cost} µ$");
    Ok(if hit == all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn judge(
    playbook: &Playbook,
    case: &Case,
    answer: Result<inference::ModelAnswer, inference::StepError>,
) -> anyhow::Result<Outcome> {
    let failed = |why: String| Hit {
        field: "the answer".to_owned(),
        expected: "fits the schema".to_owned(),
        got: why,
        fits: false,
    };
    let answered = match answer {
        Ok(answered) => answered,
        Err(error) => return Ok(Outcome { hits: vec![failed(error.to_string())], cost_micro_dollars: 0 }),
    };
    let cost_micro_dollars = answered.inference.cost_micro_dollars.unwrap_or(0);
    let fields = match answered.result {
        Ok(fields) => fields,
        Err(error) => return Ok(Outcome { hits: vec![failed(error.to_string())], cost_micro_dollars }),
    };
    let now = OffsetDateTime::now_utc();
    let intended =
        playbook.plan_writes(&manual_event_variable(now), &case.context, &fields, &answered.inference.model, now)?;
    let actions: Vec<_> =
        intended.iter().flat_map(|intended| &intended.actions).map(|action| action.name.clone()).collect();
    Ok(Outcome { hits: case.judge(&fields, &actions), cost_micro_dollars })
}
