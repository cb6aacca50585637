//! What a case expects to begin with: what the model answered, with some room.

use domain::inference::InferenceOutcome;
use ledger::InferenceEntry;
use playbook::{FieldKind, LocalTime, Playbook, PortalZone, manual_event_variable};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::case_text::toml_line;
use crate::playbooks::cases::EvalCase;

/// A number may be off by a tenth of its range, if the range is no longer than this: a score is an estimate, an amount is not.
const MAX_ESTIMATED_RANGE: f64 = 1_000.0;

/// The fields of the answer as they counted, by the playbook of today; `None` when it could not be used.
pub fn fields(playbook: &Playbook, inference: &InferenceEntry) -> Option<Map<String, Value>> {
    let answer = inference.answer.as_ref().filter(|_| inference.outcome == InferenceOutcome::Valid)?;
    let fields = playbook.answer.fields.check(answer).ok()?;
    let rules = &playbook.answer;
    Some(rules.fields.apply_unverified_policy(fields, &inference.unverified, rules.unverified))
}

/// The bounds of each field, as TOML. They hold no text of the answer.
pub fn expectations(playbook: &Playbook, answer: &Map<String, Value>) -> Vec<(String, String)> {
    let fields = playbook.answer.fields.iter();
    let bounds = fields.filter_map(|field| Some((field.name.clone(), bounds(&field.kind, answer.get(&field.name)?)?)));
    bounds.map(|(name, bounds)| (name, format!("{{ {bounds} }}"))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "ranges that matter here are far below 2^53")]
fn bounds(kind: &FieldKind, value: &Value) -> Option<String> {
    Some(match (kind, value) {
        (_, Value::Null) => "is_null = true".to_owned(),
        (FieldKind::Integer { minimum, maximum }, _) => {
            number(value.as_f64()?, *minimum as f64, *maximum as f64).unwrap_or_else(|| format!("equals = {value}"))
        }
        (FieldKind::Number { minimum, maximum }, _) => {
            number(value.as_f64()?, *minimum, *maximum).unwrap_or_else(|| format!("equals = {value}"))
        }
        (FieldKind::Boolean, _) => format!("equals = {value}"),
        (FieldKind::Choice { .. } | FieldKind::Date, _) => format!("equals = {}", toml_line(value.as_str()?)),
        (FieldKind::Text { .. }, _) => "is_null = false".to_owned(),
        (FieldKind::List { .. }, _) => {
            let items = value.as_array()?.len();
            format!("items_at_least = {items}, items_at_most = {items}")
        }
    })
}

fn number(value: f64, minimum: f64, maximum: f64) -> Option<String> {
    let range = maximum - minimum;
    let room = range / 10.0;
    let (least, most) = ((value - room).max(minimum), (value + room).min(maximum));
    // Two digits are enough, and 0.30000000000000004 is not nice to read.
    let short = |bound: f64| (bound * 100.0).round() / 100.0;
    (range <= MAX_ESTIMATED_RANGE).then(|| format!("at_least = {:?}, at_most = {:?}", short(least), short(most)))
}

/// The names of the actions that follow from the answer; `None` when that is not known.
pub fn actions(playbook: &Playbook, case: &EvalCase, answer: &Map<String, Value>, model: &str) -> Option<Vec<String>> {
    let now = LocalTime::new(OffsetDateTime::now_utc(), PortalZone::utc());
    let planned = playbook.plan_writes(&manual_event_variable(now.now), &case.context, answer, model, &now).ok()?;
    let mut names: Vec<_> =
        planned.iter().flat_map(|planned| &planned.actions).map(|action| action.name.clone()).collect();
    names.sort();
    names.dedup();
    Some(names)
}

#[cfg(test)]
mod tests {
    use playbook::FieldKind;
    use serde_json::json;

    use super::bounds;

    #[test]
    fn estimates_have_room_facts_have_none_and_texts_are_not_repeated() {
        let score = FieldKind::Integer { minimum: 0, maximum: 100 };
        let mood = FieldKind::Number { minimum: -1.0, maximum: 1.0 };
        let budget = FieldKind::Integer { minimum: 0, maximum: 1_000_000_000 };
        for (kind, value, expected) in [
            (&score, json!(85), "at_least = 75.0, at_most = 95.0"),
            (&score, json!(3), "at_least = 0.0, at_most = 13.0"),
            (&mood, json!(0.1), "at_least = -0.1, at_most = 0.3"),
            (&budget, json!(50_000), "equals = 50000"),
            (&budget, json!(null), "is_null = true"),
            (&FieldKind::Boolean, json!(true), "equals = true"),
            (&FieldKind::Date, json!("2026-02-01"), "equals = \"2026-02-01\""),
            (&FieldKind::Text { max_length: 100 }, json!("Ada King wants it"), "is_null = false"),
            (
                &FieldKind::List { items: vec![], max_items: 3 },
                json!([{}, {}]),
                "items_at_least = 2, items_at_most = 2",
            ),
        ] {
            assert_eq!(bounds(kind, &value).as_deref(), Some(expected), "{value}");
        }
    }
}
