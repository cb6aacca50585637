//! `cargo xtask demo`: the main job at work, step by step, every outcome checked.

mod real;
mod show;
mod use_cases;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab::{
    Fleet, FleetPlan,
    cases::{Case, Expected, GUIDE_CONTACT, cases, declines},
};
use serde_json::{Value, json};
use simulator::admin::SendWebhook;
use testbed::{Services, TestNamespace, step};

/// What the demo can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Leave everything running and print the addresses, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Use the real APIs on one contact of your portal instead of the simulator. Writes to it.
    #[arg(long, value_name = "CONTACT_ID")]
    real: Option<i64>,
}

/// An event ends within this time, or something is wrong.
const WITHIN: Duration = Duration::from_secs(40);

/// Counts outcomes.
#[derive(Default)]
struct Score {
    expected: usize,
    surprises: Vec<String>,
}

impl Score {
    fn note(&mut self, what: &str, result: Result<(), String>) {
        match result {
            Ok(()) => self.expected += 1,
            Err(surprise) => self.surprises.push(format!("{what}: {surprise}")),
        }
    }
}

pub async fn run(options: &Options) -> Result<()> {
    if options.real.is_some() {
        real::settings()?;
    }
    let services = Services::up().await?;
    let namespace = TestNamespace::new(&services).await?;
    if let Some(contact) = options.real {
        return real::run(namespace, contact, options.keep).await;
    }
    // The portal lacks what the playbooks write, as a new customer's does.
    let simulator_arguments = vec!["--without-ai-properties".to_owned()];
    let plan = FleetPlan { simulator_arguments, ..FleetPlan::default() }.with("telemetry.log_format", "human");
    let fleet = step("simulator, receiver, inference and writer", Fleet::start(namespace, &plan)).await?;

    let started = Instant::now();
    let mut score = Score::default();
    println!(
        "\nleadline playbook provision\n{}",
        show::indented(&String::from_utf8_lossy(&fleet.leadline(&["playbook", "provision"]).await?.stdout))
    );
    println!(
        "\nleadline check\n{}",
        show::indented(&String::from_utf8_lossy(&fleet.leadline(&["check"]).await?.stdout))
    );
    let cases = cases();
    let contacts = cases.iter().filter_map(|case| case.contact.as_ref());
    for contact in contacts {
        fleet.simulator.put_contact(contact).await?;
    }
    fleet.simulator.fault(&declines()).await?;
    let before = fleet.simulator.contact(GUIDE_CONTACT).await?.context("the guide's contact")?;

    let guide_key = webhooks(&fleet, &cases, &mut score).await?;
    rejections(&fleet, &mut score).await?;
    outcomes(&fleet, &cases, &mut score).await?;
    step("waiting until the queues and retry queues are empty", fleet.until_idle(WITHIN)).await?;
    once(&fleet, &guide_key, &mut score).await?;
    use_cases::run(&fleet, &mut score).await?;
    use_cases::human_value(&fleet, &mut score).await?;

    let after = fleet.simulator.contact(GUIDE_CONTACT).await?.context("the guide's contact")?;
    show::before_and_after(GUIDE_CONTACT, &before, &after);
    show::by_sql(&fleet, &guide_key).await?;
    let parked = fleet.until_parked("leadline.events", 2, WITHIN).await;
    score.note("parking lot", parked.map_err(|error| error.to_string()));
    show::queues(&fleet).await?;
    operator(&fleet, &cases, &mut score).await?;

    println!("\nsummary");
    println!(
        "  {} outcomes as expected, {} not, in {:.1} s",
        score.expected,
        score.surprises.len(),
        started.elapsed().as_secs_f64()
    );
    for surprise in &score.surprises {
        println!("  SURPRISE {surprise}");
    }
    if options.keep {
        keep(&fleet).await;
    }
    let namespace = fleet.namespace.clone();
    let surprises = score.surprises.len();
    let logs = if surprises > 0 { fleet.logs() } else { String::new() };
    drop(fleet);
    namespace.remove().await?;
    if surprises > 0 {
        eprintln!("{logs}");
        bail!("{surprises} outcomes were not as expected");
    }
    Ok(())
}

fn key_of(event: &Value) -> Result<String> {
    let body = json!([event]).to_string();
    let elements = hubspot::webhook::parse(body.as_bytes())?;
    let event = elements.into_iter().next().context("one element")?.event?;
    Ok(event.key.to_string())
}

/// Posts every event, signed: the guide's alone, the others as one batch, and the guide's once more.
async fn webhooks(fleet: &Fleet, cases: &[Case], score: &mut Score) -> Result<String> {
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
        let delivery =
            fleet.simulator.webhook(&SendWebhook { events: events.clone(), forged: false, url: None }).await?;
        show::delivery(what, &delivery);
        score.note(what, if delivery.status == 200 { Ok(()) } else { Err(delivery.answer.clone()) });
    }
    key_of(&guide[0])
}

/// A forged signature, and an event of an unknown type in a batch.
async fn rejections(fleet: &Fleet, score: &mut Score) -> Result<()> {
    let event = json!({"eventId": 1, "portalId": 9_876_543, "occurredAt": 1_764_000_000_000_i64, "subscriptionType": "contact.creation", "objectId": 1});
    let forged = fleet.simulator.webhook(&SendWebhook { events: vec![event.clone()], forged: true, url: None }).await?;
    show::delivery("a forged signature", &forged);
    score.note(
        "a forged signature",
        if forged.status == 401 { Ok(()) } else { Err(format!("was answered {}", forged.status)) },
    );

    let mut unknown = event.clone();
    unknown["subscriptionType"] = json!("contact.teleported");
    let mut unrelated = event;
    unrelated["subscriptionType"] = json!("contact.propertyChange");
    unrelated["propertyName"] = json!("jobtitle");
    let key = key_of(&unrelated)?;
    let mixed =
        fleet.simulator.webhook(&SendWebhook { events: vec![unknown, unrelated], forged: false, url: None }).await?;
    show::delivery("an unknown type beside a property no playbook asks about", &mixed);
    let parked_one = mixed.status == 200 && mixed.answer.contains("\"parked\":1");
    score.note("an unknown event type", if parked_one { Ok(()) } else { Err(mixed.answer) });
    let story = fleet.until_event(&key, domain::EventState::is_final, WITHIN).await?;
    score.note("a property no playbook asks about", ends_as(&story, "skipped", "no_playbook"));
    Ok(())
}

fn ends_as(story: &ledger::EventStory, state: &str, reason: &str) -> Result<(), String> {
    if story.state.as_str() == state && story.reason.is_some_and(|known| known.as_str() == reason) {
        Ok(())
    } else {
        Err(format!(
            "ended {} ({}), not {state} ({reason})",
            story.state,
            story.reason.map_or("-", domain::Reason::as_str)
        ))
    }
}

/// What became of each event.
/// The operator looks at what is parked, and replays what the model declined, now that it does not any more.
async fn operator(fleet: &Fleet, cases: &[Case], score: &mut Score) -> Result<()> {
    println!("\nthe model declines no more; the operator replays what is parked for that reason");
    fleet.simulator.clear_faults().await?;
    for arguments in [&["parked", "list"][..], &["parked", "replay", "--reason", "refused", "--yes"]] {
        let output = fleet.leadline(arguments).await?;
        println!("\nleadline {}\n{}", arguments.join(" "), show::indented(&String::from_utf8_lossy(&output.stdout)));
    }
    for case in cases.iter().filter(|case| matches!(case.expected, Expected::Ends("parked", _))) {
        let key = key_of(&case.event())?;
        let written = fleet.until_event(&key, |state| state == domain::EventState::Written, WITHIN).await;
        score.note("the replay", written.map(drop).map_err(|error| error.to_string()));
    }
    let output = fleet.leadline(&["status"]).await?;
    println!("\nleadline status\n{}", show::indented(&String::from_utf8_lossy(&output.stdout)));
    Ok(())
}

async fn outcomes(fleet: &Fleet, cases: &[Case], score: &mut Score) -> Result<()> {
    println!("\nwhat became of each event");
    for case in cases {
        let key = key_of(&case.event())?;
        let story = fleet.until_event(&key, domain::EventState::is_final, WITHIN).await;
        let result = match &story {
            Ok(story) => judge(case, story),
            Err(error) => Err(error.to_string()),
        };
        show::outcome(case, story.as_ref().ok(), &result);
        score.note(case.what, result);
    }
    Ok(())
}

fn judge(case: &Case, story: &ledger::EventStory) -> Result<(), String> {
    let Expected::Written { score: (low, high), budget } = case.expected else {
        let Expected::Ends(state, reason) = case.expected else { return Ok(()) };
        return ends_as(story, state, reason);
    };
    if story.state != domain::EventState::Written {
        return Err(format!("ended {} ({})", story.state, story.detail.as_deref().unwrap_or("-")));
    }
    let after =
        |property: &str| story.writes.iter().find(|write| write.property == property).map(|write| write.after.as_str());
    let scored: i64 = after("lead_score").and_then(|score| score.parse().ok()).ok_or("no score was written")?;
    if !(low..=high).contains(&scored) {
        return Err(format!("score {scored} is not within {low}–{high}"));
    }
    let found = after("ai_budget_estimate").and_then(|budget| budget.parse().ok());
    if found != budget {
        return Err(format!("budget {found:?}, not {budget:?}"));
    }
    let leaks = ["HACKED", "contact/", "crm_data"];
    match story
        .writes
        .iter()
        .find(|write| leaks.iter().any(|leak| write.after.contains(leak)) && case.event_id == 1_009)
    {
        Some(write) => Err(format!("{} holds what the note ordered", write.property)),
        None => Ok(()),
    }
}

/// The duplicate had no effect, and the echoes of our own writes started nothing.
async fn once(fleet: &Fleet, guide_key: &str, score: &mut Score) -> Result<()> {
    println!("\nonce, and no loop");
    let story = fleet.ledger.event_story(guide_key).await?.context("the guide's event")?;
    let contact = fleet.simulator.contact(GUIDE_CONTACT).await?.context("the guide's contact")?;
    let writes = contact.changes.iter().filter(|change| change.property == "lead_score").count();
    println!("  the duplicate: {} inference, lead_score written {writes} time in HubSpot", story.inferences.len());
    let is_once = story.inferences.len() == 1 && writes == 1;
    score.note("the duplicate", if is_once { Ok(()) } else { Err("had an effect".to_owned()) });

    let counts = fleet.ledger.event_counts().await?;
    let echoes = counts.iter().find(|count| count.reason == Some(domain::Reason::Echo)).map_or(0, |count| count.events);
    let calls = fleet.simulator.calls(0).await?;
    let questions = calls.iter().filter(|call| call.path == "/v1/chat/completions").count();
    let asked =
        cases().iter().filter(|case| !matches!(case.expected, Expected::Ends("skipped" | "dropped", _))).count();
    println!(
        "  echoes of our own writes: {echoes} came back, all dropped; {questions} questions for {asked} contacts worth one"
    );
    let result =
        if echoes > 0 && questions == asked { Ok(()) } else { Err(format!("{echoes} echoes, {questions} questions")) };
    score.note("echoes", result);
    Ok(())
}

async fn keep(fleet: &Fleet) {
    let (management, login) = fleet.namespace.management_login();
    println!("\neverything stays up until Ctrl-C");
    println!("  RabbitMQ management UI  {management}/#/queues/{}  ({login})", fleet.namespace.name);
    println!("  Postgres                psql {}", fleet.namespace.postgres_url);
    for receiver in fleet.receivers() {
        println!("  receiver                {receiver}");
    }
    for member in &fleet.members {
        println!("  {:<23} {}/metrics", member.process.name(), member.admin_url);
    }
    std::future::pending::<()>().await;
}
