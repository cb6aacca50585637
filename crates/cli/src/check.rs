//! `leadline check`: everything that is wrong, at once.

use std::{path::Path, process::ExitCode};

use domain::{ObjectType, Playbook, playbook::FieldKind};
use runtime::{
    config::{Reader, Settings},
    playbooks,
};

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
    match Settings::load(file, Reader::Everything) {
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
    let folder = &settings.inference.playbooks;
    let playbooks = playbooks::load(folder);
    let names = |playbooks: &Vec<Playbook>| {
        let name = |playbook: &Playbook| format!("{}@{}", playbook.name, playbook.version);
        playbooks.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    report.say("playbooks", playbooks.as_ref().map(names).map_err(ToString::to_string));
    let playbooks = playbooks.unwrap_or_default();

    match connect::hubspot(settings) {
        Ok(client) => hubspot(settings, &client, &playbooks, report).await,
        Err(error) => report.say("HubSpot", Err(error)),
    }
    let mut models: Vec<_> =
        playbooks.iter().map(|playbook| playbook.model.name.clone().unwrap_or(settings.openai.model.clone())).collect();
    models.sort();
    models.dedup();
    match connect::openai(settings) {
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
            broker::Link::open(connect::broker(settings, "check")?, 0).await.map_err(|error| error.to_string())?;
        if link.is_ready() {
            Ok("reached, every queue is as it should be".to_owned())
        } else {
            Err("not reached".to_owned())
        }
    };
    report.say("broker", broker.await);
    let ledger = async {
        let ledger = connect::ledger(settings, "leadline check")?;
        ledger.check().await.map_err(|error| error.to_string())?;
        Ok("reached, the schema is up to date".to_owned())
    };
    report.say("ledger", ledger.await);
}

async fn hubspot(settings: &Settings, client: &hubspot::Client, playbooks: &[Playbook], report: &mut Report) {
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
            let missing: Vec<_> =
                needed_scopes(playbooks).into_iter().filter(|scope| !info.scopes.contains(scope)).collect();
            let scopes = if missing.is_empty() {
                Ok("all there".to_owned())
            } else {
                Err(format!("missing: {}", missing.join(", ")))
            };
            report.say("HubSpot scopes", scopes);
        }
        Err(error) => report.say("HubSpot token", Err(error.to_string())),
    }
    match client.properties(&ObjectType::Contact).await {
        Ok(known) => {
            for (name, kind) in needed_properties(playbooks) {
                let result = match known.iter().find(|property| property.name == name) {
                    None => Err(format!("`{name}` does not exist on contacts; create it with type {kind}")),
                    Some(property) if property.kind != kind => Err(format!(
                        "`{name}` has type {}, the playbook writes {kind}; name another property",
                        property.kind
                    )),
                    Some(_) => Ok(format!("`{name}` is a {kind}")),
                };
                report.say("HubSpot property", result);
            }
        }
        Err(error) => report.say("HubSpot properties", Err(error.to_string())),
    }
}

/// The scopes that reading and writing the playbooks' records takes.
fn needed_scopes(playbooks: &[Playbook]) -> Vec<String> {
    let types = playbooks.iter().flat_map(|playbook| &playbook.triggers).map(|trigger| &trigger.object_type);
    let mut scopes: Vec<String> = types
        .flat_map(|object_type| match object_type {
            ObjectType::Ticket => vec!["tickets".to_owned()],
            ObjectType::Company | ObjectType::Deal => {
                ["read", "write"].map(|access| format!("crm.objects.{}.{access}", object_type.path())).to_vec()
            }
            // Engagements go with the contacts' scopes.
            _ => ["read", "write"].map(|access| format!("crm.objects.contacts.{access}")).to_vec(),
        })
        .collect();
    scopes.push("crm.schemas.contacts.read".to_owned());
    scopes.sort();
    scopes.dedup();
    scopes
}

/// The properties that the playbooks write, with HubSpot's name of their type.
fn needed_properties(playbooks: &[Playbook]) -> Vec<(String, &'static str)> {
    let kind = |kind: &FieldKind| match kind {
        FieldKind::Integer { .. } | FieldKind::Number { .. } => "number",
        FieldKind::Text { .. } => "string",
        FieldKind::Boolean => "bool",
        FieldKind::Choice { .. } => "enumeration",
    };
    let stamp = |value| match value {
        domain::playbook::StampValue::ProcessedAt => "datetime",
        domain::playbook::StampValue::Model | domain::playbook::StampValue::Playbook => "string",
    };
    let of = |playbook: &Playbook| {
        let fields = playbook.fields.iter().map(|field| (field.property.clone(), kind(&field.kind)));
        let stamps = playbook.stamps.iter().map(|item| (item.property.clone(), stamp(item.value)));
        fields.chain(stamps).collect::<Vec<_>>()
    };
    playbooks.iter().flat_map(of).collect()
}
