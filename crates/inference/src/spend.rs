//! Whether the spend limits hold: every model that is asked has a price, and the limits are what an operator would expect.

use openai::models::{Model, Price};
use playbook::Playbook;
use settings::Settings;

use crate::question_request::{requested_tier, room};

/// What an operator should know about the spend limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpendFindings {
    /// A limit cannot hold. The service does not start.
    pub problems: Vec<String>,
    /// What the model costs has no limit, or a limit is lower than one question.
    pub warnings: Vec<String>,
}

/// Checks the spend limits of `settings` and of each playbook against the price of its model.
pub fn check_spending<'a>(
    settings: &Settings,
    playbooks: impl IntoIterator<Item = (&'a Playbook, &'a Model)>,
) -> SpendFindings {
    let mut findings = SpendFindings::default();
    for (playbook, model) in playbooks {
        findings.warnings.extend(changing_instructions(playbook));
        let limits: Vec<_> = limits_of(settings, playbook).into_iter().filter(|(_, limit)| *limit > 0).collect();
        let Some((name, limit)) = limits.iter().min_by_key(|(_, limit)| *limit) else { continue };
        match &model.price {
            None => findings.problems.push(format!(
                "the playbook `{}` asks `{}`, which has no price, so that {name} cannot hold; give its prices in \
                 openai.models (0 for a model that costs nothing)",
                playbook.name, model.name
            )),
            Some(price) => {
                let most = most_of_one_question(playbook, model, price);
                if most > *limit {
                    findings.warnings.push(format!(
                        "a question of the playbook `{}` may cost about {most} µ$, and {name} is {limit} µ$; such a \
                         question is parked (spend_limit_too_low)",
                        playbook.name
                    ));
                }
            }
        }
    }
    let unlimited = |limit, key, what| (limit == 0).then(|| format!("{key} is 0: {what} has no limit"));
    let spend = &settings.spend;
    let day = unlimited(spend.micro_dollars_per_day, "spend.micro_dollars_per_day", "what the model costs in a day");
    let record = unlimited(
        spend.micro_dollars_per_record_and_day,
        "spend.micro_dollars_per_record_and_day",
        "what the questions about one record cost in a day",
    );
    findings.warnings.extend(day.into_iter().chain(record));
    findings
}

/// Instructions that are dearer than they need be.
fn changing_instructions(playbook: &Playbook) -> Option<String> {
    let parts: Vec<_> = playbook.prompt.changing_instructions().iter().map(|part| part.as_str()).collect();
    (!parts.is_empty()).then(|| {
        format!(
            "the playbook `{}` has {{{{ today }}}} or {{{{ record }}}} in prompt.{}, so that OpenAI cannot cache it; name them in \
             prompt.user",
            playbook.name,
            parts.join(" and prompt.")
        )
    })
}

/// Every limit that a playbook's questions have, by the name of its setting, in micro-dollars; 0 or absent: no limit.
fn limits_of(settings: &Settings, playbook: &Playbook) -> [(&'static str, i64); 4] {
    let (spend, model) = (&settings.spend, &playbook.model);
    [
        ("its max_micro_dollars_per_day", model.max_micro_dollars_per_day.unwrap_or(0)),
        ("its max_micro_dollars_per_record_and_day", model.max_micro_dollars_per_record_and_day.unwrap_or(0)),
        ("spend.micro_dollars_per_day", spend.micro_dollars_per_day),
        ("spend.micro_dollars_per_record_and_day", spend.micro_dollars_per_record_and_day),
    ]
}

/// Tokens of instructions and schema, generously.
const INSTRUCTIONS: usize = 2_000;

fn most_of_one_question(playbook: &Playbook, model: &Model, price: &Price) -> i64 {
    let prompt_tokens = i64::try_from(playbook.context.max_tokens + INSTRUCTIONS).unwrap_or(i64::MAX);
    let usage = openai::TokenUsage {
        prompt_tokens,
        cached_tokens: 0,
        cache_write_tokens: prompt_tokens,
        completion_tokens: room(playbook, model).into(),
    };
    price.most(&usage, requested_tier(playbook, model))
}

#[cfg(test)]
mod tests {
    use openai::models::{self, Model};
    use playbook::Playbook;
    use settings::Settings;

    use super::check_spending;

    const LEADS: &str = include_str!("../../../deploy/playbooks/lead-qualification.toml");

    fn playbook(limit: &str) -> Playbook {
        let text = LEADS.replace("max_output_tokens = 600", &format!("max_output_tokens = 600\n{limit}"));
        Playbook::parse("lead-qualification.toml", &text, &[]).expect("a valid playbook")
    }

    fn settings(day: i64, record: i64) -> Settings {
        let mut settings = Settings::default();
        settings.spend.micro_dollars_per_day = day;
        settings.spend.micro_dollars_per_record_and_day = record;
        settings
    }

    fn without_price() -> Model {
        Model { window: 32_000, max_output: 4_096, ..Model::unknown("my-model") }
    }

    fn gpt_4o() -> Model {
        models::find("gpt-4o").expect("known")
    }

    #[test]
    fn a_limit_and_a_model_without_a_price_are_refused() {
        let refused = |settings: &Settings, limit: &str| {
            check_spending(settings, [(&playbook(limit), &without_price())]).problems
        };
        for limit in ["max_micro_dollars_per_day = 1_000_000", "max_micro_dollars_per_record_and_day = 1_000_000"] {
            let problems = refused(&settings(0, 0), limit);
            let name = limit.split_once(' ').expect("a key").0;
            assert!(
                problems.len() == 1 && problems[0].contains(name) && problems[0].contains("my-model"),
                "{problems:?}"
            );
        }
        assert_eq!(refused(&Settings::default(), "").len(), 1, "the limits that hold by default");
        assert_eq!(refused(&settings(0, 0), "").len(), 0, "no limit at all");
    }

    #[test]
    fn money_without_a_limit_is_a_warning_and_the_defaults_are_none() {
        let warnings = |settings: &Settings| check_spending(settings, [(&playbook(""), &gpt_4o())]).warnings;
        assert_eq!(warnings(&Settings::default()), [""; 0]);
        let unlimited = warnings(&settings(0, 0));
        assert!(unlimited.len() == 2 && unlimited[0].contains("spend.micro_dollars_per_day is 0"), "{unlimited:?}");
    }

    #[test]
    fn instructions_that_change_from_event_to_event_are_a_warning() {
        let text = LEADS.replace("Answer with JSON only.", "Today is {{ today }}. Answer with JSON only.");
        let changing = Playbook::parse("lead-qualification.toml", &text, &[]).expect("a valid playbook");
        let warnings = |playbook| check_spending(&Settings::default(), [(playbook, &gpt_4o())]).warnings;
        let said = warnings(&changing);
        assert!(said.len() == 1 && said[0].contains("{{ today }}") && said[0].contains("prompt.system"), "{said:?}");
        assert_eq!(warnings(&playbook("")), [""; 0], "the shipped one does not");
    }

    #[test]
    fn a_limit_below_the_cost_of_one_question_is_a_warning() {
        let playbook = playbook("max_micro_dollars_per_record_and_day = 20_000");
        let findings = check_spending(&Settings::default(), [(&playbook, &gpt_4o())]);
        assert!(findings.problems.is_empty() && findings.warnings.len() == 1, "{findings:?}");
        assert!(findings.warnings[0].contains("20000 µ$"), "{findings:?}");
    }
}
