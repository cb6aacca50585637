//! Facts about models: context windows, prices, and the day on which each is shut down. They are data with a date
//! (`models.toml`); settings can replace them, because OpenAI changes its prices.

use std::sync::LazyLock;

use domain::{
    inference::{Effort, TokenUsage},
    model::{RequestedTier, ServiceTier},
};
use serde::Deserialize;
use time::Date;

/// The facts about a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name, without the date of a snapshot.
    pub name: String,
    /// The context window: the most tokens of prompt and answer together.
    pub window: usize,
    /// The longest answer, in tokens.
    pub max_output: u32,
    /// The first day on which OpenAI no longer answers for it, if it has named one.
    #[serde(default, deserialize_with = "day")]
    pub shutdown_date: Option<Date>,
    /// How it reasons; `None` for a model that does not.
    pub reasoning: Option<Reasoning>,
    /// Whether it can be told how many words to make.
    #[serde(default)]
    pub verbosity: bool,
    /// The service tier of a request that names none. No fact: the settings say it.
    #[serde(skip)]
    pub service_tier: RequestedTier,
    /// Whether requests say what is to be cached. No fact: the settings say it.
    #[serde(skip)]
    pub prompt_cache: bool,
    /// The price, if it is known.
    pub price: Option<Price>,
}

/// How a model reasons before it answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reasoning {
    /// The efforts that it knows.
    pub efforts: Vec<Effort>,
    /// The effort of a request that names none.
    pub default: Effort,
    /// When it can be told to call a function.
    pub functions: FunctionCalls,
}

/// When a reasoning model can be told to call a function, in chat completions. Through the Responses API, all can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FunctionCalls {
    /// With the effort `none` alone.
    WithoutReasoning,
    /// Never.
    Never,
}

impl Model {
    /// A model about which nothing is known, but its end, perhaps.
    pub fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            window: usize::MAX,
            max_output: u32::MAX,
            shutdown_date: end_of(name),
            reasoning: None,
            verbosity: false,
            service_tier: RequestedTier::default(),
            prompt_cache: false,
            price: None,
        }
    }

    /// Whether a request may mark the end of what is to be cached: where writing to the cache has a price.
    pub fn has_cache_breakpoints(&self) -> bool {
        self.price.is_some_and(|price| price.cache_write.is_some())
    }

    /// The effort of a request that asks for `wanted`; [`Effort::None`] for a model that does not reason.
    pub fn effort(&self, wanted: Option<Effort>) -> Effort {
        self.reasoning.as_ref().map_or(Effort::None, |reasoning| wanted.unwrap_or(reasoning.default))
    }
}

/// A price in micro-dollars (10⁻⁶ $) per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The prompt.
    pub input: i64,
    /// The part of the prompt that was read from the cache.
    pub cached_input: i64,
    /// The part of the prompt that was written to the cache; [`Price::input`] where writing costs nothing more.
    pub cache_write: Option<i64>,
    /// The answer, with the model's reasoning.
    pub output: i64,
    /// A prompt of more tokens costs twice as much, and its answer half as much again; `None` where length does not matter.
    pub long_prompt: Option<i64>,
    /// The price of flex processing, in percent of the others; `None` for a model without this tier.
    pub flex_percent: Option<u32>,
    /// The price of priority processing, now fast mode, in percent of the others; `None` for a model without this tier.
    pub priority_percent: Option<u32>,
    /// What is added to all prices, in percent. No fact about the model: the settings say it.
    #[serde(default)]
    pub surcharge_percent: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    as_of: String,
    models: Vec<Model>,
    ending: Vec<Ending>,
}

/// Models of which only the end is known.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ending {
    names: Vec<String>,
    #[serde(deserialize_with = "day")]
    shutdown_date: Option<Date>,
}

#[expect(clippy::expect_used, reason = "the file is a part of the program, and a test reads it")]
static FACTS: LazyLock<Facts> =
    LazyLock::new(|| toml::from_str(include_str!("../models.toml")).expect("models.toml is valid"));

/// Every model that `models.toml` lists, also those that were shut down.
pub fn known() -> &'static [Model] {
    &FACTS.models
}

/// The day of the facts, in ISO 8601.
pub fn as_of() -> &'static str {
    &FACTS.as_of
}

fn day<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Date>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let day = |text: String| parse_day(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no day")));
    text.map(day).transpose()
}

/// A day in ISO 8601, as OpenAI writes a `shutdown_date`.
pub(crate) fn parse_day(text: &str) -> Option<Date> {
    Date::parse(text, &time::format_description::well_known::Iso8601::DATE).ok()
}

/// The facts about `name`, which may be a dated snapshot; `None` for a model that `models.toml` does not list.
pub fn find(name: &str) -> Option<Model> {
    known().iter().find(|known| is_snapshot(name, &known.name)).cloned()
}

/// `answered`, the name that an answer gives, where it is one of few: that of the model `requested` or of one that `models.toml` lists, or a
/// dated snapshot of either. The other side may answer with any text.
pub(crate) fn known_name<'a>(requested: &str, answered: &'a str) -> Option<&'a str> {
    let ending = FACTS.ending.iter().flat_map(|ending| &ending.names).map(String::as_str);
    let names = known().iter().map(|model| model.name.as_str()).chain(ending).chain([requested]);
    let is_of = |name: &str| answered.strip_prefix(name).is_some_and(|rest| rest.is_empty() || is_date(rest));
    names.into_iter().any(is_of).then_some(answered)
}

/// Whether it is the date of a snapshot: `-2026-07-30`, or `-0613` as of old.
fn is_date(suffix: &str) -> bool {
    let Some(date) = suffix.strip_prefix('-') else { return false };
    let day = match date.split_at_checked(2) {
        // Of no year: 2024 has every day.
        Some((month, day)) if day.len() == 2 => parse_day(&format!("2024-{month}-{day}")),
        _ => parse_day(date),
    };
    day.is_some_and(|day| (2020..2100).contains(&day.year()))
}

/// The first day on which `name` no longer answers, of a model of which nothing else is known.
fn end_of(name: &str) -> Option<Date> {
    let is_of = |ending: &&Ending| ending.names.iter().any(|known| is_snapshot(name, known));
    FACTS.ending.iter().find(is_of)?.shutdown_date
}

/// Whether `name` is the model `known` or a dated snapshot of it.
fn is_snapshot(name: &str, known: &str) -> bool {
    name.strip_prefix(known).is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('-').is_some_and(|date| date.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// How near the day is on which a model is shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownUrgency {
    /// More than 90 days away.
    Far,
    /// Within 90 days: another model has to be chosen and tried.
    Near,
    /// Within 14 days, or past: its playbooks are about to stop.
    Imminent,
}

impl ShutdownUrgency {
    /// How near `shutdown_date` is on the day `today`.
    pub fn on(today: Date, shutdown_date: Date) -> Self {
        match (shutdown_date - today).whole_days() {
            ..=14 => Self::Imminent,
            15..=90 => Self::Near,
            _ => Self::Far,
        }
    }
}

/// One million: prices are for so many tokens.
const MILLION: i128 = 1_000_000;

/// The price of priority processing in percent, of a model that names none: that of most.
const PRIORITY_PERCENT: u32 = 200;

impl Price {
    /// Whether a request may ask for `tier`.
    pub fn has_tier(&self, tier: RequestedTier) -> bool {
        match tier {
            RequestedTier::Auto | RequestedTier::Default => true,
            RequestedTier::Flex => self.flex_percent.is_some(),
            RequestedTier::Priority => self.priority_percent.is_some(),
        }
    }

    /// The cost of `usage` in micro-dollars, rounded up, of an answer that was processed in `tier`.
    pub fn of(&self, usage: &TokenUsage, tier: ServiceTier) -> i64 {
        let of_tier = match tier {
            ServiceTier::Default | ServiceTier::Scale => 100,
            ServiceTier::Flex => self.flex_percent.unwrap_or(100),
            ServiceTier::Priority => self.priority_percent.unwrap_or(PRIORITY_PERCENT),
        };
        let cached = usage.cached_tokens.clamp(0, usage.prompt_tokens.max(0));
        let written = usage.cache_write_tokens.clamp(0, usage.prompt_tokens.max(0) - cached);
        let fresh = usage.prompt_tokens - cached - written;
        let prompt =
            sum(&[(fresh, self.input), (cached, self.cached_input), (written, self.cache_write.unwrap_or(self.input))]);
        let answer = sum(&[(usage.completion_tokens, self.output)]);
        let is_long = self.long_prompt.is_some_and(|most| usage.prompt_tokens > most);
        // In halves, because a long prompt's answer costs half as much again.
        let halves = if is_long { 4 * prompt + 3 * answer } else { 2 * (prompt + answer) };
        let percents = i128::from(of_tier) * (100 + i128::from(self.surcharge_percent));
        let (cost, per_unit) = (halves.saturating_mul(percents), 2 * MILLION * 100 * 100);
        let rounded = cost.div_euclid(per_unit) + i128::from(cost.rem_euclid(per_unit) > 0);
        i64::try_from(rounded).unwrap_or(i64::MAX)
    }

    /// The most that `usage` can cost of a request that asks for `tier`: OpenAI may answer a flex or priority request in the
    /// standard tier, and one that leaves it to the project's settings in any.
    pub fn most(&self, usage: &TokenUsage, tier: RequestedTier) -> i64 {
        let asked = match tier {
            RequestedTier::Default => ServiceTier::Default,
            RequestedTier::Flex => ServiceTier::Flex,
            RequestedTier::Auto | RequestedTier::Priority => ServiceTier::Priority,
        };
        self.of(usage, asked).max(self.of(usage, ServiceTier::Default))
    }
}

fn sum(parts: &[(i64, i64)]) -> i128 {
    parts.iter().map(|(tokens, price)| i128::from(*tokens) * i128::from(*price)).sum()
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn a_snapshot_has_the_facts_of_its_model_and_a_similar_name_does_not() {
        assert_eq!(find("gpt-4o-2024-08-06").map(|model| model.name).as_deref(), Some("gpt-4o"));
        assert_eq!(find("gpt-4o-mini").map(|model| model.name).as_deref(), Some("gpt-4o-mini"));
        assert_eq!(find("gpt-4o-audio-preview"), None);
        assert_eq!(find("llama-3"), None);
    }

    #[test]
    fn an_answer_names_a_model_that_is_known_or_was_asked() {
        for (requested, answered) in [
            ("gpt-4o", "gpt-4o-2024-08-06"),
            ("gpt-4o", "gpt-4o-mini"),
            ("gpt-4", "gpt-4-0613"),
            ("ours/llama", "ours/llama"),
            ("ours/llama", "ours/llama-2026-02-28"),
        ] {
            assert_eq!(known_name(requested, answered), Some(answered));
        }
        for answered in
            ["", "x", "gpt-4o-1", "gpt-4o-2026-02-30", "gpt-4o-9999-01-01", "gpt-4-1313", "gpt-4-ü01", "ours/llama"]
        {
            assert_eq!(known_name("gpt-4o", answered), None, "{answered}");
        }
    }

    #[test]
    fn cost_is_exact_and_rounded_up() {
        let price = find("gpt-4o").and_then(|model| model.price).expect("known");
        let of = |prompt_tokens, cached_tokens, completion_tokens| TokenUsage {
            prompt_tokens,
            cached_tokens,
            completion_tokens,
            cache_write_tokens: 0,
        };
        let usage = of(1_000_000, 0, 100_000);
        assert_eq!(price.of(&usage, ServiceTier::Default), 3_500_000, "$2.50 in and $1.00 out");
        assert_eq!(price.of(&of(1_000, 400, 1), ServiceTier::Default), 1_500 + 500 + 10);
        assert_eq!(price.of(&of(1, 0, 0), ServiceTier::Default), 3, "2.5 micro-dollars");
        assert_eq!(price.of(&of(100, 500, 0), ServiceTier::Default), 125, "not more is cached than there is");
    }

    #[test]
    fn writing_to_the_cache_and_long_prompts_cost_more() {
        let price = find("gpt-6.1-terra").and_then(|model| model.price).expect("known");
        let usage =
            TokenUsage { prompt_tokens: 2_000, cached_tokens: 0, cache_write_tokens: 1_000, completion_tokens: 0 };
        assert_eq!(price.of(&usage, ServiceTier::Default), 1_000 + 1_250);
        let long = TokenUsage { prompt_tokens: 300_000, completion_tokens: 1_000, ..TokenUsage::default() };
        assert_eq!(
            price.of(&long, ServiceTier::Default),
            2 * 300_000 + 7_500,
            "twice the prompt, one and a half times the answer"
        );
        let huge = TokenUsage { prompt_tokens: i64::MAX, completion_tokens: i64::MAX, ..TokenUsage::default() };
        assert_eq!(price.of(&huge, ServiceTier::Default), i64::MAX, "no overflow");
    }

    #[test]
    fn the_tier_of_the_answer_and_a_surcharge_change_the_price() {
        let price = find("gpt-6.1-terra").and_then(|model| model.price).expect("known");
        let usage = TokenUsage { prompt_tokens: 1_001, completion_tokens: 100, ..TokenUsage::default() };
        let of = |tier| price.of(&usage, tier);
        assert_eq!([of(ServiceTier::Default), of(ServiceTier::Scale)], [1_501, 1_501]);
        assert_eq!([of(ServiceTier::Flex), of(ServiceTier::Priority)], [751, 3_002], "half, rounded up, and double");
        let regional = Price { surcharge_percent: 10, ..price };
        assert_eq!(regional.of(&usage, ServiceTier::Default), 1_652, "1651.1");
        assert_eq!(regional.of(&usage, ServiceTier::Flex), 826, "825.55: rounded once");
    }

    #[test]
    fn the_most_is_that_of_the_dearest_tier_in_which_a_request_may_be_answered() {
        let price = find("gpt-6.1-terra").and_then(|model| model.price).expect("known");
        let usage = TokenUsage { prompt_tokens: 1_000, ..TokenUsage::default() };
        let most = |tier| price.most(&usage, tier);
        assert_eq!(most(RequestedTier::Flex), 1_000, "flex may be answered as default");
        assert_eq!([most(RequestedTier::Default), most(RequestedTier::Priority)], [1_000, 2_000]);
        assert_eq!(most(RequestedTier::Auto), 2_000, "the project may be set to priority");
    }

    #[test]
    fn a_model_that_ends_says_when() {
        let ends = |name: &str| find(name).and_then(|model| model.shutdown_date).map(|day| day.to_string());
        assert_eq!(ends("gpt-4o-2024-08-06").as_deref(), Some("2027-01-14"));
        assert_eq!(ends("gpt-6-luna"), None);
        let end = date!(2027 - 01 - 14);
        for (today, urgency) in [
            (date!(2026 - 10 - 15), ShutdownUrgency::Far),
            (date!(2026 - 10 - 16), ShutdownUrgency::Near),
            (date!(2026 - 12 - 30), ShutdownUrgency::Near),
            (date!(2026 - 12 - 31), ShutdownUrgency::Imminent),
            (date!(2027 - 02 - 01), ShutdownUrgency::Imminent),
        ] {
            assert_eq!(ShutdownUrgency::on(today, end), urgency, "{today}");
        }
    }
}
