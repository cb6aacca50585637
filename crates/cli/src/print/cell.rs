//! One value of a table: as people read it, and as JSON.

use std::time::Duration;

use domain::{ActionState, CircuitBreakerState, CommandState, EventState, Rate, Reason};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Format, visible};
use crate::times;

/// A value. Each kind is shown in one way in every table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// No value: empty, and null in JSON.
    Empty,
    /// A property's value that is empty: people see it, and JSON has null.
    EmptyValue,
    /// An amount that is not known: people see it, and JSON has null.
    Unknown,
    /// Any text.
    Text(String),
    /// A name of a closed set that says whether all is well.
    Toned(&'static str, Tone),
    /// A number.
    Number(i64),
    /// A time: how long ago it was, or in what time it will be.
    Time(OffsetDateTime),
    /// A duration.
    Duration(Duration),
    /// A share in per cent.
    Percent(i64),
    /// How many of how many, and what chance leaves open.
    Rate(Rate),
    /// Money in 10⁻⁶ $.
    MicroDollars(i64),
}

/// Whether something is as it should be. Terminals show it as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It is.
    Good,
    /// It is on its way, or may become a problem.
    Waiting,
    /// A person has to do something.
    Bad,
    /// It is over and had no effect.
    Faint,
}

impl Cell {
    /// What people read, without what a terminal would act on.
    pub fn text(&self, format: Format) -> String {
        match self {
            Self::Empty => String::new(),
            Self::EmptyValue => "(empty)".to_owned(),
            Self::Unknown => "unknown".to_owned(),
            Self::Text(text) => visible(text),
            Self::Toned(name, _) => (*name).to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Time(at) if format.utc => times::utc(*at),
            Self::Time(at) => times::relative(*at),
            Self::Duration(duration) => times::short(*duration),
            Self::Percent(share) => format!("{share}%"),
            Self::Rate(rate) => rate_text(*rate),
            Self::MicroDollars(amount) => dollars(*amount),
        }
    }

    /// What programs read.
    pub fn json(&self) -> Value {
        match self {
            Self::Empty | Self::EmptyValue | Self::Unknown => Value::Null,
            Self::Text(text) => text.as_str().into(),
            Self::Toned(name, _) => (*name).into(),
            Self::Number(number) | Self::Percent(number) | Self::MicroDollars(number) => (*number).into(),
            Self::Time(at) => at.format(&Rfc3339).map_or(Value::Null, Value::String),
            Self::Duration(duration) => duration.as_secs().into(),
            Self::Rate(rate) => rate_json(*rate),
        }
    }

    /// How much of the whole a part is. Of nothing, nothing.
    pub fn share(part: i64, whole: i64) -> Self {
        Self::Percent(part.saturating_mul(100).checked_div(whole).unwrap_or_default())
    }

    /// Whether it is one of a column that is easier to compare when it ends at the right.
    pub fn is_quantity(&self) -> bool {
        matches!(self, Self::Number(_) | Self::Percent(_) | Self::Rate(_) | Self::MicroDollars(_))
    }

    /// Its tone, if it has one.
    pub fn tone(&self) -> Option<Tone> {
        match self {
            Self::Toned(_, tone) => Some(*tone),
            _ => None,
        }
    }
}

/// A rate with its 95 % interval: `3.4% (2.5–4.6%)`. Of nothing there is none.
fn rate_text(rate: Rate) -> String {
    let Some((share, interval)) = rate.share().zip(rate.interval()) else { return "none".to_owned() };
    let percent = |share: f64| format!("{:.1}", share * 100.0);
    format!("{}% ({}–{}%)", percent(share), percent(interval.low), percent(interval.high))
}

/// The same as numbers from 0 to 1.
pub fn rate_json(rate: Rate) -> Value {
    let rounded = |share: f64| (share * 10_000.0).round() / 10_000.0;
    let interval = rate.interval();
    json!({"part": rate.part(), "whole": rate.whole(), "share": rate.share().map(rounded),
        "low": interval.map(|interval| rounded(interval.low)), "high": interval.map(|interval| rounded(interval.high))})
}

/// An amount of 10⁻⁶ $ in dollars, to a hundredth of a cent.
fn dollars(micro_dollars: i64) -> String {
    let hundredths_of_a_cent = micro_dollars / 100;
    format!("${}.{:04}", hundredths_of_a_cent / 10_000, hundredths_of_a_cent % 10_000)
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<i32> for Cell {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<Rate> for Cell {
    fn from(rate: Rate) -> Self {
        Self::Rate(rate)
    }
}

impl From<OffsetDateTime> for Cell {
    fn from(at: OffsetDateTime) -> Self {
        Self::Time(at)
    }
}

impl From<Duration> for Cell {
    fn from(duration: Duration) -> Self {
        Self::Duration(duration)
    }
}

impl From<Reason> for Cell {
    fn from(reason: Reason) -> Self {
        Self::Text(reason.as_str().to_owned())
    }
}

impl From<EventState> for Cell {
    fn from(state: EventState) -> Self {
        use EventState::{Claimed, Decided, Dropped, Parked, Proposed, Skipped, Superseded, Waiting, Written};
        let tone = match state {
            Written => Tone::Good,
            Claimed | Decided | Waiting | Proposed => Tone::Waiting,
            Parked => Tone::Bad,
            Skipped | Superseded | Dropped => Tone::Faint,
        };
        Self::Toned(state.as_str(), tone)
    }
}

impl From<CommandState> for Cell {
    fn from(state: CommandState) -> Self {
        use CommandState::{Dropped, Parked, Proposed, Recorded, Sending, Skipped, Superseded, Waiting, Written};
        let tone = match state {
            Written => Tone::Good,
            Recorded | Sending | Waiting | Proposed => Tone::Waiting,
            Parked => Tone::Bad,
            Skipped | Superseded | Dropped => Tone::Faint,
        };
        Self::Toned(state.as_str(), tone)
    }
}

impl From<ActionState> for Cell {
    fn from(state: ActionState) -> Self {
        let tone = match state {
            ActionState::Done => Tone::Good,
            ActionState::Intended | ActionState::Sending => Tone::Waiting,
            ActionState::Parked => Tone::Bad,
            ActionState::Skipped => Tone::Faint,
        };
        Self::Toned(state.as_str(), tone)
    }
}

impl From<CircuitBreakerState> for Cell {
    fn from(state: CircuitBreakerState) -> Self {
        let tone = match state {
            CircuitBreakerState::Closed => Tone::Good,
            CircuitBreakerState::HalfOpen => Tone::Waiting,
            CircuitBreakerState::Open => Tone::Bad,
        };
        Self::Toned(state.as_str(), tone)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Empty, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::Rate;
    use serde_json::json;
    use time::OffsetDateTime;

    use super::{Cell, dollars};
    use crate::print::Format;

    #[test]
    fn an_amount_is_printed_in_dollars() {
        assert_eq!(dollars(0), "$0.0000");
        assert_eq!(dollars(1_234_567), "$1.2345");
        assert_eq!(dollars(25_000_000), "$25.0000");
    }

    #[test]
    fn a_time_is_an_age_for_people_and_an_instant_for_those_who_ask_for_it_and_for_programs() {
        let at = OffsetDateTime::now_utc() - Duration::from_secs(7_500);
        let cell = Cell::from(at);
        assert_eq!(cell.text(Format::default()), "2h5m");
        assert!(cell.text(Format { utc: true, ..Format::default() }).starts_with("20"));
        let json = cell.json();
        let json = json.as_str().expect("a text");
        assert!(json.contains('T') && json.ends_with('Z'), "{json}");
        assert_eq!(Cell::from(at + Duration::from_secs(7_560)).text(Format::default()), "in 59s");
    }

    #[test]
    fn a_rate_says_how_far_chance_may_have_moved_it() {
        let cell = Cell::from(Rate::of(15, 148));
        assert_eq!(cell.text(Format::default()), "10.1% (6.2–16.0%)");
        assert_eq!(cell.json(), json!({"part": 15, "whole": 148, "share": 0.1014, "low": 0.0624, "high": 0.1605}));
        assert_eq!(Cell::from(Rate::of(0, 0)).text(Format::default()), "none");
    }

    #[test]
    fn json_has_plain_numbers_of_the_unit_in_the_columns_name() {
        assert_eq!(Cell::MicroDollars(2_500).json(), json!(2_500));
        assert_eq!(Cell::Duration(Duration::from_millis(90_500)).json(), json!(90));
        assert_eq!(Cell::from(None::<&str>).json(), json!(null));
    }
}
