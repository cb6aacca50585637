//! `leadline backfill`: what changed in HubSpot and no webhook told of, because nobody took it for a day.
//!
//! HubSpot gives up on a webhook after 24 hours. Records that changed since are searched, and what the ledger has not seen
//! is queued as if it had been delivered, on a lane of its own.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Context;
use bootstrap::CallHooks;
use broker::{Message, Route, Stage};
use domain::{ObjectId, ObjectType, PortalId, event::EventKind};
use hubspot::{HubSpotClient, client::SearchTime};
use ledger::Happened;
use limits::{Lane, RateLimiters};
use playbook::{Playbook, Trigger};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{operator::Operator, when};

/// A webhook's time and the property's history may differ by so much.
const TOLERANCE: Duration = Duration::from_secs(1);

/// How long a call waits for its turn, in seconds.
const MAX_WAIT_SECONDS: u64 = 600;

/// Records asked for in one go.
const AT_ONCE: usize = 50;

/// Tries of each call to HubSpot.
const ATTEMPTS: usize = 20;

/// Events published at once: confirms come in flights.
const FLIGHT: usize = 100;

#[derive(clap::Args)]
pub struct Options {
    /// The playbook whose triggers are looked for.
    #[arg(long)]
    playbook: String,
    /// Since when: 2026-11-24T10:00:00Z, 2026-11-24, or how long ago, like 36h.
    #[arg(long)]
    since: String,
    /// Until when; now by default.
    #[arg(long)]
    until: Option<String>,
    /// Only say what would be queued.
    #[arg(long)]
    dry_run: bool,
}

/// Something that happened and may not have been told.
struct Change {
    happened: Happened,
    value: Option<String>,
    source: String,
    source_id: Option<String>,
}

pub async fn run(file: Option<&Path>, options: &Options) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let settings = &operator.settings;
    let portal = PortalId(settings.hubspot.portal_id.context("hubspot.portal_id is not set")?);
    // The fleet works beside it: it waits out HubSpot's limit rather than giving up for it.
    let mut patient = settings.clone();
    patient.hubspot.attempts = ATTEMPTS;
    patient.rate_limit.max_wait_seconds = MAX_WAIT_SECONDS;
    let rate_limiter =
        RateLimiters::new(&patient, &operator.ledger).map_err(anyhow::Error::msg)?.hubspot(Lane::Backfill);
    let hubspot =
        bootstrap::hubspot(&patient, CallHooks { rate_limiter, ..CallHooks::default() }).map_err(anyhow::Error::msg)?;
    let playbook = playbook::load(&settings.inference.playbooks, &settings.inference.protected_properties)?
        .into_iter()
        .find(|playbook| playbook.name == options.playbook)
        .with_context(|| {
            format!("{} has no playbook `{}`", settings.inference.playbooks.display(), options.playbook)
        })?;
    let since = when::parse(&options.since)?;
    let until = options.until.as_deref().map_or_else(|| Ok(OffsetDateTime::now_utc()), when::parse)?;
    anyhow::ensure!(since < until, "--since is not before --until");
    println!(
        "{} from {} until {}",
        playbook.name,
        since.format(&Rfc3339).unwrap_or_default(),
        until.format(&Rfc3339).unwrap_or_default()
    );
    let mut queued = 0;
    for trigger in &playbook.triggers {
        let changes = changes(&hubspot, trigger, since, until).await?;
        let happened: Vec<_> = changes.iter().map(|change| change.happened.clone()).collect();
        let unseen = operator.ledger.unseen(portal, &trigger.object_type, &happened, TOLERANCE).await?;
        println!(
            "  {}.{}: {} happened, {} of them were told",
            trigger.object_type.name(),
            trigger.kind,
            changes.len(),
            changes.len() - unseen.len()
        );
        if !options.dry_run {
            let missed = changes.iter().filter(|change| unseen.contains(&change.happened));
            let messages: Vec<_> = missed
                .map(|change| maintenance::payload_message(&payload(portal, trigger, change)))
                .collect::<Result<_, _>>()?;
            publish(&operator, &messages).await?;
        }
        queued += unseen.len();
    }
    if options.dry_run {
        println!("{queued} events would be queued in {}", Stage::Backfill.queue());
    } else {
        println!("{queued} events queued in {}", Stage::Backfill.queue());
    }
    explain(&playbook);
    Ok(ExitCode::SUCCESS)
}

fn explain(playbook: &Playbook) {
    if playbook.triggers.iter().any(|trigger| trigger.kind == EventKind::PropertyChange) {
        println!("of several changes of one property the last one counts: the playbook reads the record as it is now");
    }
}

/// What happened since, by HubSpot itself.
async fn changes(
    hubspot: &HubSpotClient,
    trigger: &Trigger,
    since: OffsetDateTime,
    until: OffsetDateTime,
) -> anyhow::Result<Vec<Change>> {
    let kind = &trigger.object_type;
    if trigger.kind == EventKind::Creation {
        let created = hubspot.changed(kind, SearchTime::Created, since, until).await?;
        let change = |(id, at): (ObjectId, OffsetDateTime)| Change {
            happened: Happened { object_id: id.0, property: None, at: whole(at) },
            value: None,
            source: "CRM".to_owned(),
            source_id: None,
        };
        return Ok(created.into_iter().map(change).collect());
    }
    let modified = hubspot.changed(kind, SearchTime::Modified, since, until).await?;
    let ids: Vec<_> = modified.into_iter().map(|(id, _)| id).collect();
    let mut changes = Vec::new();
    for ids in ids.chunks(AT_ONCE) {
        for object in hubspot.read_history(kind, ids, &trigger.properties).await?.found {
            let newest = trigger.properties.iter().filter_map(|name| Some((name, object.history.get(name)?.first()?)));
            for (name, set) in newest.filter(|(_, set)| (since..=until).contains(&set.timestamp)) {
                changes.push(Change {
                    happened: Happened {
                        object_id: object.id.0,
                        property: Some(name.clone()),
                        at: whole(set.timestamp),
                    },
                    value: Some(set.value.clone()),
                    source: set.source_type.clone(),
                    source_id: set.source_id.clone(),
                });
            }
        }
    }
    Ok(changes)
}

/// Webhooks have milliseconds.
fn whole(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_millisecond(at.millisecond()).unwrap_or(at)
}

/// The webhook that HubSpot would have sent. Its event id is 0: a second backfill makes the same event.
fn payload(portal: PortalId, trigger: &Trigger, change: &Change) -> serde_json::Value {
    let kind = &trigger.object_type;
    let object = if kind.is_engagement() || matches!(kind, ObjectType::Other(_)) { "object" } else { kind.name() };
    let at = change.happened.at;
    let mut payload = json!({
        "eventId": 0, "portalId": portal.0, "subscriptionType": format!("{object}.{}", trigger.kind),
        "objectTypeId": kind.type_id(), "objectId": change.happened.object_id,
        "occurredAt": i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0),
        "changeSource": change.source, "attemptNumber": 0,
    });
    let mut set = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            payload[name] = json!(value);
        }
    };
    set("propertyName", &change.happened.property);
    set("propertyValue", &change.value);
    set("sourceId", &change.source_id);
    payload
}

async fn publish(operator: &Operator, messages: &[Message]) -> anyhow::Result<()> {
    for flight in messages.chunks(FLIGHT) {
        let route = Route::Queue(Stage::Backfill);
        let confirms = flight.iter().map(|message| operator.publisher.publish(route, message));
        futures_util::future::try_join_all(confirms).await?;
    }
    Ok(())
}
