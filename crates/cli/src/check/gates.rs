//! What a worker that starts now would run of each playbook with a gate.

use inference::gate::{GateDecision, StandIn};
use ledger::{AskedVersion, Ledger};
use playbook::Playbook;
use settings::Settings;

use super::report::Report;

/// Says it for each of them.
pub async fn check(settings: &Settings, playbooks: &[Playbook], ledger: &Ledger, report: &mut Report) {
    for playbook in playbooks.iter().filter(|playbook| playbook.is_gated()) {
        let others: Vec<_> = playbooks.iter().filter(|other| other.name != playbook.name).collect();
        let model = inference::model_of(settings, playbook);
        let AskedVersion { version, model, effort, .. } = inference::gate::asked_version(playbook, &model);
        let wanted = format!("{}@{version} with {model} (effort {effort})", playbook.name);
        match inference::gate::decide(settings, ledger, playbook, &others).await {
            Ok(GateDecision::Open) => report.ok("gate", format!("{wanted} has passed and would run")),
            Ok(GateDecision::Behind(StandIn { passed, .. })) => {
                let AskedVersion { version, model, .. } = &passed.asked;
                report.warning("gate", format!("{wanted} has not passed; {version} with {model} would run instead"));
            }
            Ok(GateDecision::Closed { why }) => {
                report.problem("gate", format!("{wanted} has not passed, and its events would wait: {why}"));
            }
            Err(error) => report.problem("gate", format!("{wanted}: {error}")),
        }
    }
}
