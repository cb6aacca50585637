//! The report for programs.

use ledger::PlaybookFigures;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::{
    Report,
    spread::{BARS, Spread, ValueKind, Values},
};
use crate::print::rate_json;

/// The whole report as one object.
pub fn report(report: &Report) -> Value {
    let properties = report.properties.iter().map(|one| {
        json!({"property": one.property, "written": one.written, "kept": one.kept,
            "overridden": rate_json(domain::Rate::of(one.overridden, one.written))})
    });
    json!({
        "playbook": report.playbook,
        "since": report.since.format(&Rfc3339).ok(),
        "versions": report.figures.iter().map(figures).collect::<Vec<_>>(),
        "parked_unanswered": report.parked_unanswered,
        "properties": properties.collect::<Vec<_>>(),
        "values": report.spreads.iter().map(spread).collect::<Vec<_>>(),
    })
}

/// A version with one of its models, or with all of them (`model` is null).
fn figures(one: &PlaybookFigures) -> Value {
    let kept = one.effects.kept.iter().map(|(reason, values)| (reason.as_str().to_owned(), Value::from(*values)));
    let (first, last) = one.answers_from;
    json!({
        "version": one.version,
        "model": one.model,
        "first_answer": first.format(&Rfc3339).ok(),
        "last_answer": last.format(&Rfc3339).ok(),
        "asked": one.answers.asked,
        "answered": one.answers.valid,
        "written": one.effects.written,
        "kept_values": Value::Object(kept.collect()),
        "overridden": rate_json(one.overridden()),
        "edited": rate_json(one.edited()),
        "rejected": rate_json(one.rejected()),
        "unverified": rate_json(one.unverified()),
        "refused": rate_json(one.refused()),
        "unusable": rate_json(one.unusable()),
        "parked": rate_json(one.parked()),
        "cost_micro_dollars": one.cost_micro_dollars,
        "cost_micro_dollars_per_answer": one.cost_per_question(),
        "latency_ms": one.latency_ms.map(|(half, most)| json!({"p50": half, "p95": most})),
    })
}

fn spread(spread: &Spread) -> Value {
    json!({"field": spread.name, "newest": values(&spread.now), "before": values(&spread.before)})
}

fn values(values: &Values) -> Value {
    let none = values.none;
    match &values.kind {
        ValueKind::Numbers { from, to, median, bars } => {
            json!({"none": none, "from": from, "to": to, "median": median, "bars": bars[..BARS]})
        }
        ValueKind::Options(options) => {
            let counts = options.iter().map(|(option, answers)| (option.clone(), Value::from(*answers)));
            json!({"none": none, "options": Value::Object(counts.collect())})
        }
    }
}
