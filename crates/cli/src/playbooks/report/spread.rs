//! How the values of a field spread: a histogram of numbers, counts of options.

use ledger::FieldValue;
use playbook::{AnswerField, FieldKind, Playbook};

use crate::print::{Cell, Table, column};

/// How many bars a histogram has.
pub const BARS: usize = 16;

/// A range of numbers that is shorter is shown as a whole; of a longer one, the part with values.
const MAX_WHOLE_RANGE: f64 = 1_000.0;

/// At most so many options are named.
const MAX_OPTIONS: usize = 8;

/// A field whose values can be counted.
#[derive(Debug, Clone, PartialEq)]
pub struct CountedField {
    /// Its name.
    pub name: String,
    /// The bounds of a number; `None` for options.
    bounds: Option<(f64, f64)>,
}

/// The values of a field in two versions.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// The field.
    pub name: String,
    /// In the newest version.
    pub now: Values,
    /// In the version before; nothing when there is none.
    pub before: Values,
}

/// How often a field had which value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values {
    /// How often it had none.
    pub none: i64,
    /// What it had.
    pub kind: ValueKind,
}

/// Numbers, or options.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueKind {
    /// A histogram.
    Numbers {
        /// Its left end.
        from: f64,
        /// Its right end.
        to: f64,
        /// The middle value.
        median: f64,
        /// How many values each bar stands for.
        bars: [i64; BARS],
    },
    /// Options with their counts, the most frequent first.
    Options(Vec<(String, i64)>),
}

impl Default for ValueKind {
    fn default() -> Self {
        Self::Options(Vec::new())
    }
}

/// The fields whose values can be counted: texts, days and lists have too many.
pub fn fields(playbook: &Playbook) -> Vec<CountedField> {
    let counted = |field: &AnswerField| {
        let bounds = match &field.kind {
            #[expect(clippy::cast_precision_loss, reason = "the ends of an axis")]
            FieldKind::Integer { minimum, maximum } => Some((*minimum as f64, *maximum as f64)),
            FieldKind::Number { minimum, maximum } => Some((*minimum, *maximum)),
            FieldKind::Boolean | FieldKind::Choice { .. } => None,
            FieldKind::Text { .. } | FieldKind::Date | FieldKind::List { .. } => return None,
        };
        Some(CountedField { name: field.name.clone(), bounds })
    };
    playbook.answer.fields.iter().filter_map(counted).collect()
}

impl Spread {
    /// The spread of a field within the values of all fields. Both versions have the same axis.
    pub fn of(field: CountedField, now: &[FieldValue], before: &[FieldValue]) -> Self {
        let of_field = |values: &[FieldValue]| -> Vec<FieldValue> {
            values.iter().filter(|value| value.field == field.name).cloned().collect()
        };
        let (now, before) = (of_field(now), of_field(before));
        let axis = field.bounds.map(|bounds| axis(bounds, now.iter().chain(&before)));
        Self { now: Values::of(axis, &now), before: Values::of(axis, &before), name: field.name }
    }
}

fn number(value: &FieldValue) -> Option<f64> {
    value.value.as_ref()?.parse().ok()
}

fn axis<'a>((minimum, maximum): (f64, f64), values: impl Iterator<Item = &'a FieldValue>) -> (f64, f64) {
    if maximum - minimum <= MAX_WHOLE_RANGE {
        return (minimum, maximum);
    }
    let numbers: Vec<_> = values.filter_map(number).collect();
    let (low, high) = (numbers.iter().copied().reduce(f64::min), numbers.iter().copied().reduce(f64::max));
    low.zip(high).unwrap_or((minimum, maximum))
}

impl Values {
    fn of(axis: Option<(f64, f64)>, values: &[FieldValue]) -> Self {
        let none = values.iter().filter(|value| value.value.is_none()).map(|value| value.answers).sum();
        let kind = if let Some(axis) = axis {
            histogram(axis, values).unwrap_or_default()
        } else {
            let options = values.iter().filter_map(|value| Some((value.value.clone()?, value.answers)));
            ValueKind::Options(options.collect())
        };
        Self { none, kind }
    }

    /// How many answers are counted.
    pub fn answers(&self) -> i64 {
        self.none
            + match &self.kind {
                ValueKind::Numbers { bars, .. } => bars.iter().sum::<i64>(),
                ValueKind::Options(options) => options.iter().map(|(_, answers)| answers).sum(),
            }
    }

    /// In one line.
    fn text(&self) -> String {
        let mut parts = match &self.kind {
            ValueKind::Numbers { from, to, median, bars } => {
                vec![format!("{from} {} {to}", bars_text(bars)), format!("median {median}")]
            }
            ValueKind::Options(options) => {
                let mut named: Vec<_> =
                    options.iter().take(MAX_OPTIONS).map(|(option, answers)| format!("{option} {answers}")).collect();
                if let Some(others @ [_, ..]) = options.get(MAX_OPTIONS..) {
                    named.push(format!("others {}", others.iter().map(|(_, answers)| answers).sum::<i64>()));
                }
                named
            }
        };
        if self.none > 0 {
            parts.push(format!("none {}", self.none));
        }
        parts.join(", ")
    }
}

/// `None` without a number.
fn histogram((from, to): (f64, f64), values: &[FieldValue]) -> Option<ValueKind> {
    let mut numbers: Vec<_> = values.iter().filter_map(|value| Some((number(value)?, value.answers))).collect();
    numbers.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let all: i64 = numbers.iter().map(|(_, answers)| answers).sum();
    let mut counted = 0;
    let (median, _) = numbers.iter().find(|(_, answers)| {
        counted += answers;
        counted * 2 >= all
    })?;
    let mut bars = [0; BARS];
    for (number, answers) in &numbers {
        bars[bar_of(*number, (from, to))] += answers;
    }
    Some(ValueKind::Numbers { from, to, median: *median, bars })
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place on an axis of a few bars; the cast saturates"
)]
fn bar_of(number: f64, (from, to): (f64, f64)) -> usize {
    let place = (number - from) / (to - from).max(f64::MIN_POSITIVE) * BARS as f64;
    (place as usize).min(BARS - 1)
}

/// Bars of eight heights; a value that is there at all can be seen.
fn bars_text(bars: &[i64; BARS]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = bars.iter().copied().max().unwrap_or(0).max(1);
    let height = |bar: i64| match bar {
        0 => ' ',
        _ => HEIGHTS[usize::try_from((bar * 8 - 1) / highest).unwrap_or_default().min(7)],
    };
    bars.iter().map(|bar| height(*bar)).collect()
}

/// A row for each field, and what it was in the version before.
pub fn table(spreads: &[Spread]) -> Table {
    let has_before = spreads.iter().any(|spread| spread.before.answers() > 0);
    let columns = [column("field", "field"), column("values", "values"), column("before", "before")];
    let width = if has_before { 3 } else { 2 };
    let mut table = Table::new(columns.into_iter().take(width));
    for Spread { name, now, before } in spreads {
        table.add([name.clone(), now.text(), before.text()].map(Cell::from).into_iter().take(width));
    }
    table
}

#[cfg(test)]
mod tests {
    use ledger::FieldValue;

    use super::{CountedField, Spread, ValueKind};

    fn values(field: &str, counts: &[(Option<&str>, i64)]) -> Vec<FieldValue> {
        let value = |(value, answers): &(Option<&str>, i64)| FieldValue {
            field: field.to_owned(),
            value: value.map(ToOwned::to_owned),
            answers: *answers,
        };
        counts.iter().map(value).collect()
    }

    #[test]
    fn numbers_are_a_histogram_over_their_range() {
        let field = CountedField { name: "score".to_owned(), bounds: Some((0.0, 100.0)) };
        let now = values("score", &[(Some("0"), 1), (Some("50"), 8), (Some("100"), 4), (None, 2)]);
        let spread = Spread::of(field, &[now, values("other", &[(Some("1"), 9)])].concat(), &[]);
        assert_eq!(spread.now.text(), "0 ▁       █      ▄ 100, median 50, none 2");
        assert_eq!((spread.now.answers(), spread.before.answers()), (15, 0));
    }

    #[test]
    fn a_long_range_is_shown_where_it_has_values_and_both_versions_have_the_same() {
        let field = CountedField { name: "budget".to_owned(), bounds: Some((0.0, 1e9)) };
        let (now, before) = (values("budget", &[(Some("50000"), 1)]), values("budget", &[(Some("120000"), 2)]));
        let spread = Spread::of(field, &now, &before);
        assert_eq!(spread.now.text(), "50000 █                120000, median 50000");
        assert_eq!(spread.before.text(), "50000                █ 120000, median 120000");
    }

    #[test]
    fn options_are_counted_and_those_that_are_rare_are_one() {
        let field = || CountedField { name: "urgency".to_owned(), bounds: None };
        let now = values("urgency", &[(Some("high"), 12), (Some("low"), 8), (None, 1)]);
        assert_eq!(Spread::of(field(), &now, &[]).now.text(), "high 12, low 8, none 1");
        let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|option| (Some(option), 1)).into();
        let spread = Spread::of(field(), &values("urgency", &many), &[]);
        assert!(spread.now.text().ends_with("h 1, others 2"), "{}", spread.now.text());
        assert!(matches!(spread.now.kind, ValueKind::Options(options) if options.len() == 10));
    }
}
