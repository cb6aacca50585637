//! `leadline check`: everything that is wrong, at once.

use std::{collections::BTreeSet, path::Path, process::ExitCode};

use domain::ObjectType;
use playbook::Playbook;
use settings::{ConfigScope, Settings};

use crate::{needs, playbooks::conflict};

struct Report {
    wrong: usize,
}

impl Report {
    fn say(&mut self, what: &str, result: Result<String, String>) {
        match result {
            Ok(detail) => println!("ok     {what}: {detail}"),
            Err(problem) => {
                self.wrong += 1;
                for (index, line) in problem.lines().enumerate() {
                    println!(
                        "{}  {}",
                        if index == 0 { format!("WRONG  {what}:") } else { "      ".to_owned() },
                        line.trim()
                    );
                }
            }
        }
    }
}

/// Checks settings, playbooks, HubSpot, OpenAI, broker and ledger. Fails when anything is wrong.
pub async fn run(file: Option<&Path>) -> ExitCode {
    let mut report = Report { wrong: 0 };
    let from =
        file.map_or_else(|| "the environment".to_owned(), |file| format!("{} and the environment", file.display()));
    match Settings::load(file, ConfigScope::Everything) {
        Ok(settings) => {
            report.say("settings", Ok(from));
            everything(&settings, &mut report).await;
        }
        Err(findings) => report.say("settings", Err(findings.to_string())),
    }
    if report.wrong == 0 {
        println!("everything is right");
        ExitCode::SUCCESS
    } else {
        println!("{} wrong", report.wrong);
        ExitCode::FAILURE
    }
}

async fn everything(settings: &Settings, report: &mut Report) {
    let playbooks = playbook::load(&settings.inference.playbooks, &settings.inference.protected_properties);
    let names = |playbooks: &Vec<Playbook>| {
        let name = |playbook: &Playbook| format!("{}@{}", playbook.name, playbook.version);
        playbooks.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    report.say("playbooks", playbooks.as_ref().map(names).map_err(ToString::to_string));
    let playbooks = playbooks.unwrap_or_default();

    match bootstrap::hubspot(settings, bootstrap::CallHooks::default()) {
        Ok(client) => hubspot(settings, &client, &playbooks, report).await,
        Err(error) => report.say("HubSpot", Err(error)),
    }
    let mut models: Vec<_> =
        playbooks.iter().map(|playbook| playbook.model.name.clone().unwrap_or(settings.openai.model.clone())).collect();
    models.sort();
    models.dedup();
    match bootstrap::openai(settings, bootstrap::CallHooks::default()) {
        Ok(client) => {
            for model in models {
                let result = client.check(&model).await.map_err(|error| error.to_string());
                report.say("OpenAI", result.map(|()| format!("the key may use {model}")));
            }
        }
        Err(error) => report.say("OpenAI", Err(error)),
    }

    let broker = async {
        let link =
            broker::Connection::open(bootstrap::broker(settings, "check")?).await.map_err(|error| error.to_string())?;
        if link.is_ready() {
            Ok("reached, every queue is as it should be".to_owned())
        } else {
            Err("not reached".to_owned())
        }
    };
    report.say("broker", broker.await);
    let ledger = async {
        let ledger = bootstrap::ledger(settings, "leadline check")?;
        ledger.check().await.map_err(|error| error.to_string())?;
        Ok("reached, the schema is up to date".to_owned())
    };
    report.say("ledger", ledger.await);
}

async fn hubspot(settings: &Settings, client: &hubspot::HubSpotClient, playbooks: &[Playbook], report: &mut Report) {
    match client.token_info().await {
        Ok(info) => {
            let ids = [
                ("hubspot.portal_id", settings.hubspot.portal_id, info.hub_id.0),
                ("hubspot.app_id", settings.hubspot.app_id, info.app_id.0),
            ];
            for (key, ours, theirs) in ids {
                let matches = ours == Some(theirs);
                let wrong = || format!("is {}, the token's is {theirs}", ours.unwrap_or_default());
                report.say(key, if matches { Ok(theirs.to_string()) } else { Err(wrong()) });
            }
            let needed = needs::scopes(playbooks);
            let missing: Vec<_> = needed.into_iter().filter(|scope| !info.scopes.contains(scope)).collect();
            let scopes = if missing.is_empty() {
                Ok("all there".to_owned())
            } else {
                Err(format!("missing: {}", missing.join(", ")))
            };
            report.say("HubSpot scopes", scopes);
        }
        Err(error) => report.say("HubSpot token", Err(error.to_string())),
    }
    properties(client, playbooks, report).await;
    let stages = needs::stages(playbooks);
    if !stages.is_empty() {
        match client.pipelines(&ObjectType::Deal).await {
            Ok(pipelines) => {
                for stage in stages {
                    let having: Vec<_> = pipelines.iter().filter(|pipeline| pipeline.stage(stage).is_some()).collect();
                    let names: Vec<_> = having.iter().map(|pipeline| pipeline.label.as_str()).collect();
                    let missing = || format!("no deal pipeline has a stage `{stage}`; a deal would be parked there");
                    let found = (!names.is_empty()).then(|| format!("`{stage}` is in {}", names.join(", ")));
                    report.say("HubSpot stage", found.ok_or_else(missing));
                }
            }
            Err(error) => report.say("HubSpot pipelines", Err(error.to_string())),
        }
    }
    for channel in needs::channels(playbooks) {
        let is_set = settings.notify.contains_key(channel);
        let missing = || format!("notify.{channel} is not set; nobody would be told");
        report.say("channel", is_set.then(|| format!("`{channel}` has a URL")).ok_or_else(missing));
    }
}

async fn properties(client: &hubspot::HubSpotClient, playbooks: &[Playbook], report: &mut Report) {
    let needed = needs::properties(playbooks);
    let kinds: BTreeSet<_> = needed.iter().map(|property| property.object_type.clone()).collect();
    for kind in kinds {
        let known = match client.properties(&kind).await {
            Ok(known) => known,
            Err(error) => {
                report.say("HubSpot properties", Err(format!("{kind}: {error}")));
                continue;
            }
        };
        for property in needed.iter().filter(|property| property.object_type == kind) {
            let name = format!("{kind}.{}", property.name);
            let result = match known.iter().find(|known| known.name == property.name) {
                None => Err(format!("`{name}` does not exist; `leadline playbook provision` creates it")),
                Some(existing) => match conflict(property, existing) {
                    Some(why) => Err(format!("`{name}` {why}")),
                    None => Ok(format!("`{name}` is a {}", property.kind)),
                },
            };
            report.say("HubSpot property", result);
        }
    }
}
