//! `cargo xtask demo`: the main job at work, step by step, every outcome checked.

mod hubspot_cases;
mod keep;
mod real;
mod running;
mod score;
mod show;
mod use_cases;

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use domain::EventState;
use lab::{
    Fleet, FleetPlan, SimulatorClient,
    cases::{Case, Expected, GUIDE_CONTACT, cases, declines},
    fleet::until_event,
};
use ledger::Ledger;
use serde_json::{Value, json};
use simulator::admin::SendWebhook;
use testbed::{Services, TestNamespace, step};

use score::{Score, WITHIN, ended_as, ended_as_expected, key_of};

/// The options of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct DemoOptions {
    /// Leave everything running and print the addresses, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Use the real APIs on one contact of your portal instead of the simulator. Writes to it.
    #[arg(long, value_name = "CONTACT_ID")]
    real: Option<i64>,
    /// Use a fleet that runs already, on the simulator at this URL and the ledger that `LEADLINE__LEDGER__URL` names, as in containers.
    #[arg(long, value_name = "SIMULATOR_URL", conflicts_with_all = ["keep", "real"])]
    running: Option<String>,
}

pub async fn run(options: &DemoOptions) -> Result<()> {
    if let Some(simulator) = &options.running {
        return running::run(simulator).await;
    }
    if options.real.is_some() {
        real::settings()?;
    }
    let services = Services::up().await?;
    let namespace = TestNamespace::new(&services).await?;
    if let Some(contact) = options.real {
        return real::run(namespace, contact, options.keep).await;
    }
    // As in a new customer's portal, the properties that the playbooks write do not exist yet.
    let simulator_arguments = vec!["--without-ai-properties".to_owned()];
    let plan = FleetPlan { simulator_arguments, ..FleetPlan::default() }
        .with("telemetry.log_format", "human")
        // All records of the demo are young, and those without any text would wait for theirs for a minute.
        .with("inference.association_wait_seconds", "15");
    let fleet = step("simulator, receiver, inference and writer", Fleet::start(namespace, &plan)).await?;

    let started = Instant::now();
    let score = show_all(&fleet).await?;
    score.print(started.elapsed());
    if options.keep {
        keep::until_stopped(&fleet).await;
    }
    let namespace = fleet.namespace.clone();
    let unexpected = score.unexpected.len();
    let logs = if unexpected > 0 { fleet.logs() } else { String::new() };
    drop(fleet);
    namespace.remove().await?;
    eprint!("{logs}");
    ensure!(unexpected == 0, "{unexpected} outcomes were not as expected");
    Ok(())
}

/// Every step of the demo, in the order in which it is printed.
async fn show_all(fleet: &Fleet) -> Result<Score> {
    let mut score = Score::default();
    show::command(fleet, &["playbook", "provision"]).await?;
    show::command(fleet, &["check", "--no-questions"]).await?;
    let cases = cases();
    let contacts = cases.iter().filter_map(|case| case.contact.as_ref());
    for contact in contacts {
        fleet.simulator.put_contact(contact).await?;
    }
    fleet.simulator.fault(&declines()).await?;
    let before = guide_contact(fleet).await?;

    let guide_key = webhooks(&fleet.simulator, &cases, &mut score).await?;
    rejections(fleet, &mut score).await?;
    outcomes(&fleet.ledger, &cases, &mut score).await?;
    step("waiting until the queues and retry queues are empty", fleet.until_idle(WITHIN)).await?;
    duplicates_and_echoes(fleet, &guide_key, &mut score).await?;
    use_cases::run(fleet, &mut score).await?;
    use_cases::human_value(fleet, &mut score).await?;
    hubspot_cases::run(fleet, &mut score).await?;

    show::before_and_after(GUIDE_CONTACT, &before, &guide_contact(fleet).await?);
    show::by_sql(fleet, &guide_key).await?;
    score.note("parking lot", &fleet.until_parked("leadline.events", 2, WITHIN).await);
    show::queues(fleet).await?;
    operator(fleet, &cases, &mut score).await?;
    Ok(score)
}

async fn guide_contact(fleet: &Fleet) -> Result<simulator::admin::ObjectView> {
    fleet.simulator.contact(GUIDE_CONTACT).await?.context("the guide's contact does not exist")
}

/// Posts every event, signed: the guide's alone, the others as one batch, and the guide's once more.
async fn webhooks(simulator: &SimulatorClient, cases: &[Case], score: &mut Score) -> Result<String> {
    println!("\nwebhooks, correctly signed");
    let (guide, others): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| case.event_id == GUIDE_CONTACT);
    let guide: Vec<Value> = guide.into_iter().map(Case::event).collect();
    let others: Vec<Value> = others.into_iter().map(Case::event).collect();
    let sends = [
        ("the guide's own payload", &guide),
        ("a batch of events", &others),
        ("the guide's payload again: a duplicate", &guide),
    ];
    for (what, events) in sends {
        let delivery = simulator.webhook(&SendWebhook { events: events.clone(), forged: false, url: None }).await?;
        show::delivery(what, &delivery);
        score.check(what, delivery.status == 200, || delivery.answer.clone());
    }
    key_of(&guide[0])
}

/// A forged signature, and an event of an unknown type in a batch.
async fn rejections(fleet: &Fleet, score: &mut Score) -> Result<()> {
    let event = json!({"eventId": 1, "portalId": 9_876_543, "occurredAt": 1_764_000_000_000_i64, "subscriptionType": "contact.creation", "objectId": 1});
    let forged = fleet.simulator.webhook(&SendWebhook { events: vec![event.clone()], forged: true, url: None }).await?;
    show::delivery("a forged signature", &forged);
    score.check("a forged signature", forged.status == 401, || format!("was answered {}", forged.status));

    let mut unknown = event.clone();
    unknown["subscriptionType"] = json!("contact.teleported");
    let mut unrelated = event;
    unrelated["subscriptionType"] = json!("contact.propertyChange");
    unrelated["propertyName"] = json!("jobtitle");
    let key = key_of(&unrelated)?;
    let mixed =
        fleet.simulator.webhook(&SendWebhook { events: vec![unknown, unrelated], forged: false, url: None }).await?;
    show::delivery("an unknown type beside a property that no playbook waits for", &mixed);
    let parked_one = mixed.status == 200 && mixed.answer.contains("\"parked\":1");
    score.check("an unknown event type", parked_one, || mixed.answer.clone());
    let story = fleet.until_event(&key, EventState::is_final, WITHIN).await?;
    score.note("a property that no playbook waits for", &ended_as(&story, "skipped", "no_playbook"));
    Ok(())
}

/// How each event ended.
async fn outcomes(ledger: &Ledger, cases: &[Case], score: &mut Score) -> Result<()> {
    println!("\nwhat became of each event");
    for case in cases {
        let key = key_of(&case.event())?;
        let story = until_event(ledger, &key, EventState::is_final, WITHIN).await;
        let result = story.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"));
        let result = result.and_then(|story| ended_as_expected(case, story));
        show::outcome(case, story.as_ref().ok(), &result);
        score.note(case.what, &result);
    }
    Ok(())
}

/// The duplicate had no effect, and the echoes of the fleet's own writes started nothing.
async fn duplicates_and_echoes(fleet: &Fleet, guide_key: &str, score: &mut Score) -> Result<()> {
    println!("\nonce, and no loop");
    let story = fleet.ledger.event_story(guide_key).await?.context("the guide's event is not in the ledger")?;
    let contact = guide_contact(fleet).await?;
    let writes = contact.changes.iter().filter(|change| change.property == "lead_score").count();
    println!("  the duplicate: {} inference, lead_score written {writes} time in HubSpot", story.inferences.len());
    score.check("the duplicate", story.inferences.len() == 1 && writes == 1, || "had an effect".to_owned());

    let counts = fleet.ledger.event_counts().await?;
    let echoes = counts.iter().find(|count| count.reason == Some(domain::Reason::Echo)).map_or(0, |count| count.events);
    let calls = fleet.simulator.calls(0).await?;
    let completions = calls.iter().filter(|call| call.path == "/v1/chat/completions").count();
    let needed =
        cases().iter().filter(|case| !matches!(case.expected, Expected::Ends("skipped" | "dropped", _))).count();
    println!(
        "  echoes of our own writes: {echoes} came back, all dropped; {completions} model calls for {needed} contacts that need one"
    );
    let is_expected = echoes > 0 && completions == needed;
    score.check("echoes", is_expected, || format!("{echoes} echoes, {completions} model calls"));
    Ok(())
}

/// The operator lists what is parked, and replays what the model declined, now that it does not any more.
async fn operator(fleet: &Fleet, cases: &[Case], score: &mut Score) -> Result<()> {
    println!("\nthe model declines no more; the operator replays what is parked for that reason");
    fleet.simulator.clear_faults().await?;
    show::command(fleet, &["parked", "list"]).await?;
    show::command(fleet, &["parked", "replay", "--reason", "refused", "--yes"]).await?;
    for case in cases.iter().filter(|case| matches!(case.expected, Expected::Ends("parked", _))) {
        let key = key_of(&case.event())?;
        let written = fleet.until_event(&key, |state| state == EventState::Written, WITHIN).await;
        score.note("the replay", &written.map(drop));
    }
    show::command(fleet, &["status"]).await
}
