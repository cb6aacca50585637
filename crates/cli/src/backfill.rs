//! `leadline backfill`: queues the changes in HubSpot for which no webhook arrived.
//!
//! HubSpot stops delivering a webhook after 24 hours. The command searches HubSpot for records that changed since a given
//! time, and queues every change that the ledger does not know as an event, in a queue of its own so that live events are
//! not delayed.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Context;
use broker::{Message, Route, Stage};
use domain::{ObjectId, PortalId, event::EventKind};
use hubspot::{HubSpotClient, client::SearchTime};
use ledger::RecordChange;
use playbook::Trigger;
use serde_json::json;
use time::OffsetDateTime;

use crate::{
    operator::{self, Operator},
    print::{Cell, Format, Page, Progress, Table, column},
    times,
};

/// The most by which the times of a webhook and of the property's history differ for the same change.
const TOLERANCE: Duration = Duration::from_secs(1);

/// Records whose history is read in one call.
const MAX_RECORDS: usize = 50;

/// Events that are published before their confirms are waited for.
const MAX_UNCONFIRMED: usize = 100;

#[derive(clap::Args)]
pub struct BackfillOptions {
    /// The playbook for whose triggers changes are searched.
    #[arg(long)]
    playbook: String,
    /// The time of the earliest change: 2026-11-24T10:00:00Z, 2026-11-24, or how long ago, like 36h.
    #[arg(long, value_parser = times::parse, value_name = "TIME")]
    since: OffsetDateTime,
    /// The time of the latest change; now by default.
    #[arg(long, value_parser = times::parse, value_name = "TIME")]
    until: Option<OffsetDateTime>,
    /// Only print what would be queued.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: Format,
}

/// A change in HubSpot, as its property's history shows it.
struct Change {
    happened: RecordChange,
    value: Option<String>,
    source: String,
    source_id: Option<String>,
}

pub async fn run(file: Option<&Path>, options: &BackfillOptions) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let settings = &operator.settings;
    let portal = PortalId(settings.hubspot.portal_id.context("hubspot.portal_id is not set")?);
    let hubspot = operator::patient_hubspot(settings, &operator.ledger)?;
    let playbook = playbook::load(&settings.inference.playbooks, &settings.inference.protected_properties)?
        .into_iter()
        .find(|playbook| playbook.name == options.playbook)
        .with_context(|| {
            format!("{} has no playbook `{}`", settings.inference.playbooks.display(), options.playbook)
        })?;
    let since = options.since;
    let until = options.until.unwrap_or_else(OffsetDateTime::now_utc);
    anyhow::ensure!(since < until, "--since is not before --until");
    let mut table = Table::new([
        column("trigger", "trigger"),
        column("in hubspot", "in_hubspot"),
        column("in the ledger", "in_ledger"),
        column("missing", "missing"),
        column("note", "note"),
    ]);
    let mut queued = 0;
    for trigger in &playbook.selection.triggers {
        let name = format!("{}.{}", trigger.object_type.name(), trigger.kind);
        if trigger.kind == EventKind::AssociationChange {
            table.add([name.into(), Cell::Unknown, Cell::Unknown, Cell::Unknown, NOT_SEARCHED.into()]);
            continue;
        }
        let changes = changes(&hubspot, trigger, since, until).await?;
        let happened: Vec<_> = changes.iter().map(|change| change.happened.clone()).collect();
        let unseen = operator.ledger.changes_without_event(portal, &trigger.object_type, &happened, TOLERANCE).await?;
        let known = changes.len() - unseen.len();
        table.add([name.into(), changes.len().into(), known.into(), unseen.len().into(), note(trigger).into()]);
        if !options.dry_run {
            let missing = changes.iter().filter(|change| unseen.contains(&change.happened));
            let messages: Vec<_> = missing
                .map(|change| maintenance::payload_message(&payload(portal, trigger, change)))
                .collect::<Result<_, _>>()?;
            publish(&operator, &messages).await?;
        }
        queued += unseen.len();
    }
    let queue = Stage::Backfill.queue();
    let (missing, published, sentence) = if options.dry_run {
        (queued, 0, format!("{queued} events would be queued in {queue}"))
    } else {
        (queued, queued, format!("{queued} events queued in {queue}"))
    };
    let title = format!("changes for {} from {} until {} UTC", playbook.name, times::utc(since), times::utc(until));
    Page::default()
        .fact("playbook", playbook.name.as_str(), "")
        .fact("since", since, "")
        .fact("until", until, "")
        .section("triggers", &title, table)
        .fact("missing", missing, "")
        .fact("queued", published, sentence)
        .print(options.format)?;
    Ok(ExitCode::SUCCESS)
}

/// What is not counted.
const NOT_SEARCHED: &str = "HubSpot cannot be searched for it";

/// What the numbers of a trigger leave out.
fn note(trigger: &Trigger) -> Option<&'static str> {
    (trigger.kind == EventKind::PropertyChange)
        .then_some("of several changes of one property only the last: the playbook reads the current record")
}

/// Searches HubSpot for the changes that the trigger is about.
async fn changes(
    hubspot: &HubSpotClient,
    trigger: &Trigger,
    since: OffsetDateTime,
    until: OffsetDateTime,
) -> anyhow::Result<Vec<Change>> {
    let kind = &trigger.object_type;
    if trigger.kind == EventKind::Creation {
        let _searching = Progress::start("searches HubSpot", 0);
        let created = hubspot.changed(kind, SearchTime::Created, since, until).await?;
        let change = |(id, at): (ObjectId, OffsetDateTime)| Change {
            happened: RecordChange { object_id: id.0, property: None, at: to_milliseconds(at) },
            value: None,
            source: "CRM".to_owned(),
            source_id: None,
        };
        return Ok(created.into_iter().map(change).collect());
    }
    let searching = Progress::start("searches HubSpot", 0);
    let modified = hubspot.changed(kind, SearchTime::Modified, since, until).await?;
    drop(searching);
    let ids: Vec<_> = modified.into_iter().map(|(id, _)| id).collect();
    let mut changes = Vec::new();
    let progress = Progress::start("histories read", ids.len());
    for (chunk, ids) in ids.chunks(MAX_RECORDS).enumerate() {
        progress.tell(chunk * MAX_RECORDS);
        for object in hubspot.read_history(kind, ids, &trigger.properties).await? {
            let newest = trigger.properties.iter().filter_map(|name| Some((name, object.history.get(name)?.first()?)));
            for (name, set) in newest.filter(|(_, set)| (since..=until).contains(&set.timestamp)) {
                changes.push(Change {
                    happened: RecordChange {
                        object_id: object.id.0,
                        property: Some(name.clone()),
                        at: to_milliseconds(set.timestamp),
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

/// Cuts a time to milliseconds, the precision of webhooks.
fn to_milliseconds(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_millisecond(at.millisecond()).unwrap_or(at)
}

/// The webhook that HubSpot would have sent. Its event id is always 0, so that a second backfill makes an event with the same
/// key.
fn payload(portal: PortalId, trigger: &Trigger, change: &Change) -> serde_json::Value {
    let kind = &trigger.object_type;
    let object = kind.subscription_object();
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
    let progress = Progress::start("events queued", messages.len());
    for (batch_number, batch) in messages.chunks(MAX_UNCONFIRMED).enumerate() {
        progress.tell(batch_number * MAX_UNCONFIRMED);
        let route = Route::Queue(Stage::Backfill);
        let confirms = batch.iter().map(|message| operator.publisher.publish(route, message));
        futures_util::future::try_join_all(confirms).await?;
    }
    Ok(())
}
