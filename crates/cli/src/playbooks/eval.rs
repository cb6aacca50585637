//! `leadline playbook eval`: runs a playbook for a folder of cases.

use std::{path::Path, process::ExitCode};

use bootstrap::CallHooks;
use futures_util::{StreamExt, stream};
use inference::{ModelAnswer, ModelClient, QuestionLog};
use playbook::{LocalTime, Playbook, PortalZone, manual_event_variable};
use settings::Settings;
use time::OffsetDateTime;

use crate::print::{say, table};

use super::case::{self, EvalCase, ExpectationCheck};

/// Requests to the model at once.
const MAX_IN_FLIGHT: usize = 4;

/// The result of a case.
struct CaseResult {
    checks: Vec<ExpectationCheck>,
    cost_micro_dollars: i64,
}

/// Asks the model about every case and prints which expectations are met. Fails when one is not.
pub async fn run(settings: &Settings, playbook: &Playbook, folder: &Path) -> anyhow::Result<ExitCode> {
    let cases = case::load(folder, playbook)?;
    let openai = bootstrap::openai_client(settings, CallHooks::default())?;
    let model_client =
        ModelClient::unlimited(openai, inference::wiring::text_pool(settings), settings.inference.max_parts);
    let model = inference::model_of(settings, playbook);
    // Cases belong to no portal.
    let now = LocalTime::new(OffsetDateTime::now_utc(), PortalZone::utc());
    let ask = |case: &EvalCase| {
        let (model_client, model, context) = (model_client.clone(), model.clone(), case.context.clone());
        let now = now.clone();
        async move {
            let log = QuestionLog::none();
            inference::answer(&model_client, playbook, &model, context.record(), (&context, &now), &log).await
        }
    };
    let answers: Vec<_> =
        stream::iter(cases.iter().map(ask).collect::<Vec<_>>()).buffered(MAX_IN_FLIGHT).collect().await;

    let mut table = table(&["", "case", "field", "expected", "actual"]);
    let (mut met, mut all, mut cost) = (0, 0, 0);
    for (case, answer) in cases.iter().zip(answers) {
        let result = check(playbook, case, answer, &now)?;
        cost += result.cost_micro_dollars;
        for (index, check) in result.checks.iter().enumerate() {
            all += 1;
            met += usize::from(check.is_met);
            let sign = if check.is_met { "✓" } else { "✗" };
            let what = if index == 0 { case.what.as_str() } else { "" };
            table.add_row([sign, what, &check.field, &check.expected, &check.actual]);
        }
    }
    say!("{}@{} with {}, {} cases", playbook.name, playbook.version, model.name, cases.len());
    table.print();
    say!("{met} of {all} expectations met; cost: {cost} µ$");
    Ok(if met == all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(playbook: &Playbook, case: &EvalCase, answer: ModelAnswer, now: &LocalTime) -> anyhow::Result<CaseResult> {
    let failed = |why: String| ExpectationCheck {
        field: "answer".to_owned(),
        expected: "a valid answer".to_owned(),
        actual: why,
        is_met: false,
    };
    let cost_micro_dollars = answer.inferences.iter().filter_map(|inference| inference.cost_micro_dollars).sum();
    let answer = match answer.result {
        Ok(answer) => answer,
        Err(error) => return Ok(CaseResult { checks: vec![failed(error.to_string())], cost_micro_dollars }),
    };
    let intended =
        playbook.plan_writes(&manual_event_variable(now.now), &case.context, &answer.fields, &answer.model, now)?;
    let actions: Vec<_> =
        intended.iter().flat_map(|intended| &intended.actions).map(|action| action.name.clone()).collect();
    Ok(CaseResult { checks: case.check(&answer.fields, &actions), cost_micro_dollars })
}
