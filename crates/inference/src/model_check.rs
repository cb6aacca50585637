//! Whether the options of a playbook fit its model: what OpenAI would refuse is refused before a question is asked.

use domain::inference::Effort;
use openai::models::{self, FunctionCalls, Model};
use playbook::{AnswerMode, Playbook};

/// The options that the playbooks' models refuse, each with its playbook and line.
pub fn check_models<'a>(playbooks: impl IntoIterator<Item = (&'a Playbook, &'a Model)>) -> Vec<String> {
    playbooks.into_iter().flat_map(|(playbook, model)| refused_options(playbook, model)).collect()
}

fn refused_options(playbook: &Playbook, model: &Model) -> Vec<String> {
    let options = &playbook.model;
    let mut refused = Vec::new();
    let mut refuse = |line: Option<usize>, what: String| {
        let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
        refused.push(format!("the playbook `{}`{line}: {what}", playbook.name));
    };
    let Some(reasoning) = &model.reasoning else {
        if let Some(effort) = options.effort.filter(|effort| *effort != Effort::None)
            && models::find(&model.name).is_some()
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
    let calls_function = options.mode == AnswerMode::Function;
    match reasoning.functions {
        FunctionCalls::Never if calls_function => {
            refuse(options.lines.mode, format!("{} calls no functions; use mode = \"schema\"", model.name));
        }
        FunctionCalls::WithoutReasoning if calls_function && effort != Effort::None => {
            let what = format!(
                "{} calls functions only with effort = \"none\", and this is {effort}; use mode = \"schema\"",
                model.name
            );
            refuse(options.lines.mode, what);
        }
        _ => {}
    }
    refused
}

#[cfg(test)]
mod tests {
    use openai::models;
    use playbook::Playbook;

    use super::check_models;

    const LEADS: &str = include_str!("../../../deploy/playbooks/lead-qualification.toml");

    /// What is refused of `options` in the shipped lead qualification, with this model.
    fn refused(model: &str, options: &str) -> String {
        let text = LEADS.replace("mode = \"schema\"", options);
        let playbook = Playbook::parse("lead-qualification.toml", &text, &[]).expect("a valid playbook");
        let model = models::find(model).expect("known");
        check_models([(&playbook, &model)]).join("\n")
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
        ] {
            let said = refused(model, options);
            match expected {
                Some(expected) => {
                    assert!(said.contains(expected) && said.contains(&format!("line {line}:")), "{options}: {said}");
                }
                None => assert_eq!(said, "", "{model} {options}"),
            }
        }
    }
}
