//! Whether the options of a playbook fit its model: what OpenAI would refuse is refused before a question is asked.

use domain::{inference::Effort, model::ModelApi};
use openai::models::{self, FunctionCalls, Model};
use playbook::{AnswerMode, Playbook};

/// The options that the playbooks' models refuse when they are asked through `api`, each with its playbook and line.
pub fn check_models<'a>(api: ModelApi, playbooks: impl IntoIterator<Item = (&'a Playbook, &'a Model)>) -> Vec<String> {
    playbooks.into_iter().flat_map(|(playbook, model)| refused_options(api, playbook, model)).collect()
}

fn refused_options(api: ModelApi, playbook: &Playbook, model: &Model) -> Vec<String> {
    let options = &playbook.model;
    let mut refused = Vec::new();
    let mut refuse = |line: Option<usize>, what: String| {
        let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
        refused.push(format!("the playbook `{}`{line}: {what}", playbook.name));
    };
    // Of a model that is not known, nothing is known to be refused.
    let is_known = models::find(&model.name).is_some();
    if let Some(tier) = options.service_tier
        && is_known
        && model.price.is_some_and(|price| !price.has_tier(tier))
    {
        refuse(options.lines.service_tier, format!("{} has no service_tier \"{tier}\"", model.name));
    }
    if let Some(verbosity) = options.verbosity.filter(|_| is_known && !model.verbosity) {
        refuse(options.lines.verbosity, format!("{} takes no verbosity; leave out \"{verbosity}\"", model.name));
    }
    let Some(reasoning) = &model.reasoning else {
        if let Some(effort) = options.effort.filter(|effort| *effort != Effort::None)
            && is_known
        {
            refuse(options.lines.effort, format!("{} does not reason; leave out effort = \"{effort}\"", model.name));
        }
        return refused;
    };
    let effort = model.effort(options.effort);
    if !reasoning.efforts.contains(&effort) {
        let known: Vec<_> = reasoning.efforts.iter().map(|effort| effort.as_str()).collect();
        refuse(options.lines.effort, format!("{} knows no effort `{effort}`, only {}", model.name, known.join(", ")));
    }
    if options.temperature.is_some() && effort != Effort::None {
        let what = format!("{} takes no temperature when it reasons (effort {effort}); leave it out", model.name);
        refuse(options.lines.temperature, what);
    }
    // Through the Responses API every model calls functions, however it reasons.
    let calls_function = options.mode == AnswerMode::Function && api == ModelApi::ChatCompletions;
    match reasoning.functions {
        FunctionCalls::Never if calls_function => {
            refuse(options.lines.mode, format!("{} calls no functions; {INSTEAD}", model.name));
        }
        FunctionCalls::WithoutReasoning if calls_function && effort != Effort::None => {
            let what =
                format!("{} calls functions only with effort = \"none\", and this is {effort}; {INSTEAD}", model.name);
            refuse(options.lines.mode, what);
        }
        _ => {}
    }
    refused
}

/// What to do about a function call that chat completions refuse.
const INSTEAD: &str = "use mode = \"schema\", or openai.api = \"responses\"";

#[cfg(test)]
mod tests {
    use domain::model::ModelApi;
    use openai::models;
    use playbook::Playbook;

    use super::check_models;

    const LEADS: &str = include_str!("../../../deploy/playbooks/lead-qualification.toml");

    /// What is refused of `options` in the shipped lead qualification, with this model through this API.
    fn refused(api: ModelApi, model: &str, options: &str) -> String {
        let text = LEADS.replace("mode = \"schema\"", options);
        let playbook = Playbook::parse("lead-qualification.toml", &text, &[]).expect("a valid playbook");
        let model = models::find(model).expect("known");
        check_models(api, [(&playbook, &model)]).join("\n")
    }

    #[test]
    fn what_a_model_refuses_is_refused_with_its_line() {
        let line = LEADS.lines().position(|line| line.starts_with("mode = ")).expect("there") + 1;
        for (model, options, expected) in [
            ("gpt-6-luna", "mode = \"schema\"", None),
            ("gpt-6-luna", "temperature = 0.0", Some("takes no temperature when it reasons (effort medium)")),
            ("gpt-6-luna", "temperature = 0.0\neffort = \"none\"", None),
            ("gpt-6.1-sol", "effort = \"none\"", Some("knows no effort `none`, only low, medium, high, xhigh, max")),
            ("gpt-6-luna", "mode = \"function\"", Some("only with effort = \"none\", and this is medium")),
            ("gpt-6-luna", "mode = \"function\"\neffort = \"none\"", None),
            ("gpt-6-astra", "mode = \"function\"", Some("calls no functions")),
            ("gpt-4o", "temperature = 0.0", None),
            ("gpt-4o", "effort = \"none\"", None),
            ("gpt-4o", "effort = \"low\"", Some("does not reason")),
            ("gpt-4o", "service_tier = \"flex\"", Some("gpt-4o has no service_tier \"flex\"")),
            ("gpt-4-turbo", "service_tier = \"fast\"", Some("has no service_tier \"priority\"")),
            ("gpt-4o", "service_tier = \"priority\"", None),
            ("gpt-6-luna", "service_tier = \"flex\"\nverbosity = \"low\"", None),
            ("gpt-4.1", "verbosity = \"low\"", Some("gpt-4.1 takes no verbosity")),
        ] {
            let said = refused(ModelApi::ChatCompletions, model, options);
            match expected {
                Some(expected) => {
                    assert!(said.contains(expected) && said.contains(&format!("line {line}:")), "{options}: {said}");
                }
                None => assert_eq!(said, "", "{model} {options}"),
            }
        }
    }

    #[test]
    fn through_the_responses_api_every_model_calls_functions_with_any_effort() {
        for (model, options) in [
            ("gpt-6-astra", "mode = \"function\""),
            ("gpt-6.1-sol", "mode = \"function\"\neffort = \"high\""),
            ("gpt-6-luna", "mode = \"function\""),
        ] {
            assert_eq!(refused(ModelApi::Responses, model, options), "", "{model} {options}");
            let said = refused(ModelApi::ChatCompletions, model, options);
            assert!(said.contains("openai.api = \"responses\""), "{said}");
        }
        assert!(refused(ModelApi::Responses, "gpt-6-luna", "temperature = 0.0").contains("takes no temperature"));
    }
}
