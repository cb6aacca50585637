//! The results as tables: every expectation, then the models side by side.

use super::{
    amounts::dollars,
    report::{CaseAnswer, EvalReport, ModelReport, Share},
};
use crate::{
    playbooks::cases::EvalCase,
    print::{self, Cell, Column, Format, Table, column, say},
};

/// Prints the report of these cases.
pub fn print(report: &EvalReport, cases: &[EvalCase]) {
    let models: Vec<_> = report.models.iter().map(|model| model.model.as_str()).collect();
    let times = if report.repeat == 1 { String::new() } else { format!(", each {} times", report.repeat) };
    say!("{}@{} with {}, {} cases{times}", report.playbook, report.version, models.join(", "), cases.len());
    print::table(&expectations(report, cases), Format::default());
    print::blank();
    print::table(&comparison(report), Format::default());
    for model in &report.models {
        let Share { met, all } = model.expectations;
        let cost = model.cost_micro_dollars.map_or_else(|| "unknown".to_owned(), |cost| dollars(cost.total));
        say!("{}: {met} of {all} expectations met; cost: {cost}", model.model);
    }
}

/// A row for each expectation of each case, a column for each model.
fn expectations(report: &EvalReport, cases: &[EvalCase]) -> Table {
    let models = report.models.iter().map(|model| Column::named(&model.model));
    let columns = ["case", "field", "expected"].map(|title| column(title, title));
    let mut table = Table::new(columns.into_iter().chain(models));
    for case in cases {
        let of_case = |model: &'_ ModelReport| -> Vec<CaseAnswer> {
            model.answers.iter().filter(|answer| answer.case == case.file).cloned().collect()
        };
        let answers: Vec<_> = report.models.iter().map(of_case).collect();
        let rows = answers.iter().flatten().map(|answer| answer.checks.len()).max().unwrap_or(0);
        // A case without any expectation, or without any answer, has a row of its own.
        for row in 0..rows.max(1) {
            let check = answers.iter().flatten().find_map(|answer| answer.checks.get(row));
            let (field, expected) = check.map_or(("", ""), |check| (check.field.as_str(), check.expected.as_str()));
            let what = if row == 0 { case.what.as_str() } else { "" };
            let cells = answers.iter().map(|answers| cell(answers, row));
            let first = [what, field, expected].map(Cell::from);
            table.add(first.into_iter().chain(cells.map(Cell::from)));
        }
    }
    table
}

/// How often one model met an expectation, and what it said: of several answers the last one that missed it.
fn cell(answers: &[CaseAnswer], row: usize) -> String {
    let checks: Vec<_> = answers.iter().filter_map(|answer| answer.checks.get(row)).collect();
    let failed = answers.iter().rev().find_map(|answer| answer.failure.as_ref());
    let shown = match (checks.iter().rev().find(|check| !check.is_met), failed) {
        (Some(missed), _) => format!("✗ {}", missed.actual),
        (None, Some(why)) => format!("✗ no answer: {why}"),
        (None, None) => checks.last().map(|check| format!("✓ {}", check.actual)).unwrap_or_default(),
    };
    let met = checks.iter().filter(|check| check.is_met).count();
    if answers.len() > 1 && !shown.is_empty() { format!("{met}/{} {shown}", answers.len()) } else { shown }
}

/// A row for each measure, a column for each model.
fn comparison(report: &EvalReport) -> Table {
    let models = report.models.iter().map(|model| Column::named(&model.model));
    let mut table = Table::new(std::iter::once(Column::named("")).chain(models));
    let mut row = |name: &str, value: &dyn Fn(&ModelReport) -> String| {
        let values = report.models.iter().map(|model| value(model).into());
        table.add(std::iter::once(name.into()).chain(values));
    };
    row("answered by", &|model| model.answered_by.join(", "));
    row("whole cases", &|model| share(model.whole_cases));
    row("expectations met", &|model| share(model.expectations));
    let mut fields: Vec<_> = report.models.iter().flat_map(|model| model.fields.keys()).collect();
    fields.sort_unstable();
    fields.dedup();
    for field in fields {
        row(&format!("  {field}"), &|model| model.fields.get(field).copied().map(share).unwrap_or_default());
    }
    row("no answer to judge", &|model| model.failures.to_string());
    row("cost per case", &|model| {
        model.cost_micro_dollars.map_or_else(|| "unknown".to_owned(), |cost| dollars(cost.per_case))
    });
    row("latency p50, p95", &|model| format!("{} ms, {} ms", model.latency_ms.p50, model.latency_ms.p95));
    row("tokens in (cached), out", &|model| {
        format!("{} ({}), {}", model.tokens.prompt, model.tokens.cached, model.tokens.answer)
    });
    table
}

fn share(share: Share) -> String {
    format!("{:.1} % ({} of {})", share.percent(), share.met, share.all)
}
