//! `leadline check`: lists every problem at once.

mod gates;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::ExitCode,
};

use domain::{ObjectType, write_command::DealStage};
use hubspot::{
    HubSpotClient,
    client::{Pipeline, TokenInfo},
};
use inference::SpendFindings;
use openai::{
    OpenAiClient,
    models::{Model, ShutdownUrgency},
};
use playbook::Playbook;
use settings::{ConfigScope, Settings};

use self::report::Report;
use crate::{
    needs,
    playbooks::{broken_rules, conflict},
};

/// Checks settings, playbooks, HubSpot, OpenAI, RabbitMQ and the ledger; with `asks` also whether the models answer. Fails when
/// there is a problem.
pub async fn run(file: Option<&Path>, asks: bool, is_json: bool) -> anyhow::Result<ExitCode> {
    let mut report = Report::new(is_json);
    let source =
        file.map_or_else(|| "the environment".to_owned(), |file| format!("{} and the environment", file.display()));
    match Settings::load(file, ConfigScope::Everything) {
        Ok(settings) => {
            report.ok("settings", format!("valid, from {source}"));
            check_all(&settings, asks, &mut report).await;
        }
        Err(findings) => report.problem("settings", findings),
    }
    report.conclude()
}

async fn check_all(settings: &Settings, asks: bool, report: &mut Report) {
    let playbooks = match playbook::load(&settings.inference.playbooks, &settings.inference.protected_properties) {
        Ok(playbooks) => {
            let name = |playbook: &Playbook| format!("{}@{}", playbook.name, playbook.version);
            report.ok("playbooks", playbooks.iter().map(name).collect::<Vec<_>>().join(", "));
            playbooks
        }
        Err(error) => {
            report.problem("playbooks", error);
            Vec::new()
        }
    };
    match bootstrap::hubspot_client(settings, bootstrap::CallHooks::default()) {
        Ok(client) => check_hubspot(settings, &client, &playbooks, report).await,
        Err(error) => report.problem("HubSpot", error),
    }
    check_channels(settings, &playbooks, report);
    check_models(settings, &playbooks, report);
    check_openai(settings, &playbooks, asks, report).await;
    check_broker(settings, report).await;
    check_ledger(settings, &playbooks, report).await;
}

async fn check_hubspot(settings: &Settings, client: &HubSpotClient, playbooks: &[Playbook], report: &mut Report) {
    match client.token_info().await {
        Ok(token) => check_token(settings, &token, playbooks, report),
        Err(error) => report.problem("HubSpot token", error),
    }
    let today = time::OffsetDateTime::now_utc().date();
    client.versions().ends().iter().filter(|end| end.is_near(today)).for_each(|end| report.warning("HubSpot API", end));
    check_properties(client, playbooks, report).await;
    check_stages(client, playbooks, report).await;
}

fn check_token(settings: &Settings, token: &TokenInfo, playbooks: &[Playbook], report: &mut Report) {
    let ids = [
        ("hubspot.portal_id", settings.hubspot.portal_id, token.hub_id.0),
        ("hubspot.app_id", settings.hubspot.app_id, token.app_id.0),
    ];
    for (key, setting, of_token) in ids {
        if setting == Some(of_token) {
            report.ok(key, of_token);
        } else {
            report.problem(key, format!("is {}, but the token's is {of_token}", setting.unwrap_or_default()));
        }
    }
    let needed = needs::scopes(playbooks);
    let missing: Vec<_> = needed.into_iter().filter(|scope| !token.scopes.contains(scope)).collect();
    if missing.is_empty() {
        report.ok("HubSpot scopes", "the token has every scope that the playbooks need");
    } else {
        report.problem("HubSpot scopes", format!("the token lacks {}", missing.join(", ")));
    }
}

async fn check_properties(client: &HubSpotClient, playbooks: &[Playbook], report: &mut Report) {
    let needed = needs::properties(playbooks);
    let kinds: BTreeSet<_> = needed.iter().map(|property| property.object_type.clone()).collect();
    for kind in kinds {
        let existing = match client.properties(&kind).await {
            Ok(existing) => existing,
            Err(error) => {
                report.problem("HubSpot properties", format!("{kind}: {error}"));
                continue;
            }
        };
        let rules = client.property_rules(&kind).await.unwrap_or_else(|error| {
            report.warning("HubSpot property rules", format!("{kind}: {error}"));
            Vec::new()
        });
        for property in needed.iter().filter(|property| property.object_type == kind) {
            for broken in broken_rules(property, &rules) {
                report.warning("HubSpot property rules", format!("`{kind}.{}`: {broken}", property.name));
            }
            let name = format!("{kind}.{}", property.name);
            let found = existing.iter().find(|existing| existing.name == property.name);
            match found.map(|existing| conflict(property, existing)) {
                None => report.problem(
                    "HubSpot property",
                    format!("`{name}` does not exist; `leadline playbook provision` creates it"),
                ),
                Some(Some(why)) => report.problem("HubSpot property", format!("`{name}` {why}")),
                Some(None) => report.ok("HubSpot property", format!("`{name}` has type {}", property.kind)),
            }
        }
    }
}

async fn check_stages(client: &HubSpotClient, playbooks: &[Playbook], report: &mut Report) {
    let stages = needs::stages(playbooks);
    if stages.is_empty() {
        return;
    }
    let pipelines = match client.pipelines(&ObjectType::Deal).await {
        Ok(pipelines) => pipelines,
        Err(error) => return report.problem("HubSpot pipelines", error),
    };
    for stage in stages {
        check_stage(&pipelines, stage, report);
    }
}

/// In which pipelines the stage of an action is, and what becomes of the deals in the others.
fn check_stage(pipelines: &[Pipeline], DealStage { stage, pipeline: only }: &DealStage, report: &mut Report) {
    let is_looked_at = |pipeline: &&Pipeline| only.as_deref().is_none_or(|only| pipeline.is_called(only));
    let (with, without): (Vec<_>, Vec<_>) =
        pipelines.iter().filter(is_looked_at).partition(|pipeline| pipeline.stage(stage).is_some());
    let labels = |pipelines: &[&Pipeline]| {
        pipelines.iter().map(|pipeline| format!("`{}`", pipeline.label)).collect::<Vec<_>>().join(", ")
    };
    let (with_labels, without_labels) = (labels(&with), labels(&without));
    let mut problem = |text: String| report.problem("HubSpot stage", text);
    match (with.len(), only) {
        (0, None) => problem(format!("no deal pipeline has a stage `{stage}`; no deal would be moved there")),
        (0, Some(only)) if without.is_empty() => problem(format!("there is no deal pipeline `{only}`")),
        (0, Some(_)) => problem(format!("the deal pipeline {without_labels} has no stage `{stage}`")),
        (1, _) if without.is_empty() => report.ok("HubSpot stage", format!("`{stage}` is in {with_labels}")),
        (1, _) => report.ok(
            "HubSpot stage",
            format!(
                "`{stage}` is in {with_labels}; deals of {without_labels}, which has no such stage, stay where they are"
            ),
        ),
        _ => problem(format!("`{stage}` is a stage of {with_labels}; name the one that is meant with `pipeline`")),
    }
}

fn check_channels(settings: &Settings, playbooks: &[Playbook], report: &mut Report) {
    for channel in needs::channels(playbooks) {
        if settings.notify.contains_key(channel) {
            report.ok("notification channel", format!("`{channel}` has a URL"));
        } else {
            report.problem(
                "notification channel",
                format!("notify.{channel} is not set; its notifications would be skipped"),
            );
        }
    }
}

fn check_models(settings: &Settings, playbooks: &[Playbook], report: &mut Report) {
    let (findings, refused) = model_findings(settings, playbooks);
    if findings.problems.is_empty() {
        let spend = &settings.spend;
        let (day, record) = (spend.micro_dollars_per_day, spend.micro_dollars_per_record_and_day);
        report.ok("spend limits", format!("{day} µ$ a day, {record} µ$ a day for one record (0: no limit)"));
    }
    findings.problems.iter().for_each(|problem| report.problem("spend limits", problem));
    findings.warnings.iter().for_each(|warning| report.warning("spend limits", warning));
    refused.iter().for_each(|problem| report.problem("model options", problem));
}

/// What is to be said about the spend limits of these playbooks, and the options of theirs that their models refuse.
pub fn model_findings(settings: &Settings, playbooks: &[Playbook]) -> (SpendFindings, Vec<String>) {
    let models: Vec<_> = playbooks.iter().flat_map(|playbook| with_models(settings, playbook)).collect();
    let models = || models.iter().map(|(playbook, model)| (*playbook, model));
    (inference::check_spending(settings, models()), inference::check_models(settings.openai.api, models()))
}

/// A playbook with each of its models.
fn with_models<'a>(settings: &Settings, playbook: &'a Playbook) -> Vec<(&'a Playbook, Model)> {
    let own = inference::model_of(settings, playbook);
    let fallbacks = inference::fallbacks_of(settings, playbook);
    std::iter::once(own).chain(fallbacks).map(|model| (playbook, model)).collect()
}

async fn check_openai(settings: &Settings, playbooks: &[Playbook], asks: bool, report: &mut Report) {
    let client = match bootstrap::openai_client(settings, bootstrap::CallHooks::default()) {
        Ok(client) => client,
        Err(error) => return report.problem("OpenAI", error),
    };
    let asked: Vec<_> = playbooks.iter().flat_map(|playbook| with_models(settings, playbook)).collect();
    let mut models: BTreeMap<&String, Vec<&str>> = BTreeMap::new();
    for (playbook, model) in &asked {
        models.entry(&model.name).or_default().push(&playbook.name);
    }
    let today = time::OffsetDateTime::now_utc().date();
    let mut is_reached = false;
    for (model, playbooks) in models {
        let playbooks = playbooks.join(", ");
        let described = client.describe(model).await;
        is_reached |= described.is_ok();
        // OpenAI's own word counts; compatible servers say nothing.
        let known = bootstrap::model_facts(settings, model).unwrap_or_else(|| Model::unknown(model)).shutdown_date;
        let shutdown = described.as_ref().ok().and_then(|model| model.shutdown_date).or(known);
        report.check("OpenAI", described.map(|_| format!("the API key may use {model} ({playbooks})")));
        if let Some(day) = shutdown {
            let what =
                format!("OpenAI shuts {model} down on {day}; name another model in {playbooks} or in openai.model");
            match ShutdownUrgency::on(today, day) {
                ShutdownUrgency::Far => report.ok("OpenAI model", what),
                ShutdownUrgency::Near => report.warning("OpenAI model", what),
                ShutdownUrgency::Imminent => report.problem("OpenAI model", what),
            }
        }
    }
    // A wrong key is one problem, and not one for each question.
    if asks && is_reached {
        ask_models(&client, &asked, report).await;
    }
}

/// Whether each playbook's request is one that its models take: facts may be out of date, and the key's project may lack a model.
async fn ask_models(client: &OpenAiClient, asked: &[(&Playbook, Model)], report: &mut Report) {
    for (playbook, model) in asked {
        let answer = inference::try_model(client, playbook, model).await;
        let answer = answer.map(|()| format!("{} answers {}", model.name, playbook.name));
        let explained =
            answer.map_err(|error| format!("{}: {}", playbook.name, inference::explain_refusal(model, &error)));
        report.check("OpenAI question", explained);
    }
}

async fn check_broker(settings: &Settings, report: &mut Report) {
    let broker = match bootstrap::broker_settings(settings, "check") {
        Ok(broker) => broker,
        Err(error) => return report.problem("RabbitMQ", error),
    };
    match broker::Connection::open(broker).await {
        Ok(connection) if connection.is_ready() => {
            report.ok("RabbitMQ", "connected; every queue is declared as needed");
            check_policies(settings, connection.settings(), report).await;
        }
        Ok(_) => report.problem("RabbitMQ", "cannot be reached (broker.url), or blocks publishers"),
        Err(error) => report.problem("RabbitMQ", error),
    }
}

/// Whether RabbitMQ's policies leave the queues as they were declared.
async fn check_policies(settings: &Settings, broker: &broker::BrokerSettings, report: &mut Report) {
    let Some(url) = &settings.broker.management_url else {
        return report.ok("RabbitMQ policies", "not looked at: broker.management_url is not set");
    };
    match broker::harmful_policies(url, broker).await {
        Ok(harmful) if harmful.is_empty() => report.ok("RabbitMQ policies", "none changes a queue"),
        Ok(harmful) => harmful.iter().for_each(|harmful| report.problem("RabbitMQ policies", harmful)),
        Err(error) => report.problem("RabbitMQ policies", error),
    }
}

async fn check_ledger(settings: &Settings, playbooks: &[Playbook], report: &mut Report) {
    let ledger = match bootstrap::connect_ledger(settings, "leadline check") {
        Ok(ledger) => ledger,
        Err(error) => return report.problem("ledger", error),
    };
    let checked = ledger.check().await;
    let is_reached = checked.is_ok();
    report.check("ledger", checked.map(|()| "connected; the schema is up to date"));
    if is_reached {
        check_connections(settings, &ledger, report).await;
        gates::check(settings, playbooks, &ledger, report).await;
    }
}

/// The fewest processes of a fleet: a receiver, which does not connect, an inference worker, a writer, and the command line.
const FEWEST_PROCESSES: i32 = 3;

/// Whether the server has room for the connections of the processes.
async fn check_connections(settings: &Settings, ledger: &ledger::Ledger, report: &mut Report) {
    let room = match ledger.server_connections().await {
        Ok(room) => room,
        Err(error) => return report.problem("ledger connections", error),
    };
    let maintenance = ledger::MAINTENANCE_CONNECTIONS;
    let each = i32::try_from(settings.ledger.max_connections + maintenance).unwrap_or(i32::MAX);
    let processes = room / each;
    let text = format!(
        "the server takes {room}, a process up to {each} (ledger.max_connections, and {maintenance} for maintenance): enough for \
         {processes} inference workers, writers and commands together"
    );
    if processes < FEWEST_PROCESSES {
        report.problem("ledger connections", text);
    } else {
        report.ok("ledger connections", text);
    }
}
