//! What a case expects to begin with: what the model answered, with some room.

use domain::{inference::InferenceOutcome, review::WriteMode};
use ledger::{CorrectedValue, InferenceEntry};
use playbook::{AnswerField, FieldKind, LocalTime, Playbook, PortalZone, WriteValue, manual_event_variable};
use serde_json::{Map, Value};
use time::{Date, OffsetDateTime, macros::format_description};

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

/// Puts what people set in the place of what was answered. Returns the fields whose values are theirs now, and in words what a case cannot
/// expect.
pub fn correct(
    playbook: &Playbook,
    fields: &mut Map<String, Value>,
    corrected: &[CorrectedValue],
) -> (Vec<String>, Vec<String>) {
    let (mut by_people, mut notes) = (Vec::new(), Vec::new());
    for value in corrected {
        let Some(field) = field_behind(playbook, value) else {
            notes.push(format!("a person changed {}, which is no field of the answer", value.property));
            continue;
        };
        match value_of(field, value.value.as_deref()) {
            Some(theirs) => {
                fields.insert(field.name.clone(), theirs);
                by_people.push(field.name.clone());
            }
            None => notes.push(format!("a person set {} to what the field {} cannot be", value.property, field.name)),
        }
    }
    (by_people, notes)
}

/// The field that was written to the property.
fn field_behind<'a>(playbook: &'a Playbook, value: &CorrectedValue) -> Option<&'a AnswerField> {
    let is_written = |end: &domain::ObjectType| *end == value.record.object_type;
    let mut writes = playbook.effects.writes.iter().filter(|write| write.property == value.property);
    let write = writes.find(|write| write.to.iter().any(|path| is_written(path.end())))?;
    match &write.value {
        WriteValue::Field(name) => playbook.answer.fields.get(name),
        WriteValue::Text(_) | WriteValue::Metadata(_) | WriteValue::Explanation { .. } => None,
    }
}

/// A property's value as that of a field; `None` when the field cannot have it.
fn value_of(field: &AnswerField, value: Option<&str>) -> Option<Value> {
    let Some(text) = value.map(str::trim).filter(|text| !text.is_empty()) else {
        return field.optional.then_some(Value::Null);
    };
    match &field.kind {
        FieldKind::Integer { minimum, maximum } => {
            // HubSpot's numbers may have a decimal point.
            let whole = text.strip_suffix(".0").unwrap_or(text).parse::<i64>().ok()?;
            (*minimum..=*maximum).contains(&whole).then(|| whole.into())
        }
        FieldKind::Number { minimum, maximum } => {
            let number = text.parse::<f64>().ok()?;
            (*minimum..=*maximum).contains(&number).then(|| number.into())
        }
        FieldKind::Boolean => text.parse::<bool>().ok().map(Value::Bool),
        FieldKind::Choice { options } => options.iter().find(|option| *option == text).cloned().map(Value::String),
        FieldKind::Date => day(text).map(Value::String),
        FieldKind::Text { .. } => Some(text.into()),
        FieldKind::List { .. } => None,
    }
}

/// A day as HubSpot has it: as such, or as the milliseconds since 1970 of its midnight in UTC.
fn day(text: &str) -> Option<String> {
    let format = format_description!("[year]-[month]-[day]");
    let milliseconds = text.parse::<i64>().ok();
    let of_time =
        |milliseconds: i64| OffsetDateTime::from_unix_timestamp(milliseconds / 1_000).ok().map(OffsetDateTime::date);
    let date = milliseconds.map_or_else(|| Date::parse(text, format).ok(), of_time)?;
    date.format(format).ok()
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
    let planned = playbook
        .plan_writes(&manual_event_variable(now.now), &case.context, answer, model, &now, WriteMode::Live)
        .ok()?;
    let mut names: Vec<_> =
        planned.iter().flat_map(|planned| &planned.actions).map(|action| action.name.clone()).collect();
    names.sort();
    names.dedup();
    Some(names)
}

#[cfg(test)]
mod tests {
    use playbook::{AnswerField, FieldKind};
    use serde_json::json;

    use super::{bounds, value_of};

    #[test]
    fn a_persons_value_is_one_of_the_field_if_the_field_can_have_it() {
        let choice = FieldKind::Choice { options: vec!["low".to_owned(), "high".to_owned()] };
        let score = FieldKind::Integer { minimum: 0, maximum: 100 };
        for (kind, value, expected) in [
            (&score, Some("12"), Some(json!(12))),
            (&score, Some("12.0"), Some(json!(12))),
            (&score, Some("101"), None),
            (&score, Some("many"), None),
            (&score, None, Some(json!(null))),
            (&FieldKind::Number { minimum: -1.0, maximum: 1.0 }, Some("-0.5"), Some(json!(-0.5))),
            (&FieldKind::Boolean, Some("false"), Some(json!(false))),
            (&choice, Some("low"), Some(json!("low"))),
            (&choice, Some("medium"), None),
            (&FieldKind::Date, Some("2026-02-01"), Some(json!("2026-02-01"))),
            (&FieldKind::Date, Some("1769904000000"), Some(json!("2026-02-01"))),
            (&FieldKind::Text { max_length: 9 }, Some("theirs"), Some(json!("theirs"))),
        ] {
            let (name, description) = ("field".to_owned(), String::new());
            let field = AnswerField { name, description, kind: kind.clone(), optional: true, evidence: false };
            assert_eq!(value_of(&field, value), expected, "{value:?}");
            let required = AnswerField { optional: false, ..field };
            assert_eq!(value_of(&required, None), None);
        }
    }

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
