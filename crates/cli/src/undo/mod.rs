//! `leadline undo`: puts back what the fleet wrote.
//!
//! Write commands of their own carry it out, so that it is done once, in the order of writes, within the rate limits, and goes on
//! after a crash like any other write.

mod pages;
mod plan;
mod survey;

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use broker::{Route, Stage};
use domain::{PortalId, UndoId, WriteCommandId};
use ledger::{DoneAction, UndoProgress, UndoRequest, UndoSelection};
use time::OffsetDateTime;

use self::{
    pages::Pages,
    plan::{Left, Plan},
};
use crate::{
    operator::Operator,
    print::{self, Cell, Format, Page, Progress, Table, column},
    record, times,
};

/// Write commands that are recorded in one transaction, and whose messages are published together.
const MAX_TOGETHER: usize = 200;

/// How often it is looked how far the writers have come.
const LOOK_EVERY: Duration = Duration::from_millis(300);

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["event", "playbook", "record", "since"]))]
pub struct UndoOptions {
    /// What was written because of an event, by its key or id.
    #[arg(long, value_name = "KEY")]
    event: Option<String>,
    /// What a playbook wrote, or one of its versions: `lead-qualification`, `lead-qualification@decbc69`.
    #[arg(long, value_name = "PLAYBOOK[@VERSION]")]
    playbook: Option<String>,
    /// What was written to a record, like contact/123.
    #[arg(long)]
    record: Option<String>,
    /// What was written since then: 2026-11-24T10:00:00Z, 2026-11-24, or how long ago, like 6h.
    #[arg(long, value_parser = times::parse, value_name = "TIME")]
    since: Option<OffsetDateTime>,
    /// What was written until then.
    #[arg(long, value_parser = times::parse, value_name = "TIME")]
    until: Option<OffsetDateTime>,
    /// Undo it. Without it, the command only shows what it would do.
    #[arg(long)]
    yes: bool,
    /// Do not wait until the writers have done it.
    #[arg(long, requires = "yes")]
    no_wait: bool,
    /// Why, for the history. Name nobody: the text stays when a person is erased.
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Who asks for it, for the history; by default the user of this shell.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    format: Format,
}

pub async fn run(file: Option<&Path>, options: &UndoOptions) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let portal = PortalId(operator.settings.hubspot.portal_id.context("hubspot.portal_id is not set")?);
    let selection = selection(&operator, options).await?;
    let unfinished = operator.ledger.unfinished_undo_commands(portal).await?;
    let mut pages = Pages::of(&operator, portal, &selection).await?;
    if !options.yes {
        return show(pages, options.format).await;
    }
    let request = UndoRequest {
        id: UndoId::new(),
        asked_by: asked_by(options),
        why: options.why.clone(),
        selection: in_words(options, &selection),
    };
    // An earlier run may have been interrupted before it published these, and a message twice does no harm.
    publish(&operator, &unfinished).await?;
    let (mut commands, mut rest) = (Vec::new(), Plan::default());
    while let Some(page) = pages.next().await? {
        commands.extend(record_and_publish(&operator, &request, &page).await?);
        // What is recorded is in the ledger now; what is left is told at the end.
        add(&mut rest, Plan { changes: Vec::new(), removals: Vec::new(), ..page });
    }
    drop(pages);
    let recorded = commands.len();
    commands.extend(unfinished);
    let progress = if options.no_wait {
        operator.ledger.undo_progress(&commands).await?
    } else {
        wait(&operator, &commands).await?
    };
    let mut page = result(&request, recorded, &progress).section("left", "left as it is", left_table(&rest.left));
    let by_writers = operator.ledger.left_by_undo(&commands).await?;
    let mut meanwhile = Table::new(left_meanwhile_columns());
    for left in by_writers {
        meanwhile.add([
            left.record.to_string().into(),
            left.property.into(),
            value(left.current_value.as_deref()),
            left.reason.into(),
        ]);
    }
    page = page.optional_section("left_meanwhile", "changed meanwhile, and left as it is", meanwhile);
    page = page.optional_section("without_effect", "not undone", without_effect(&operator, &commands).await?);
    page.optional_section("notifications", "sent, and cannot be taken back", actions_table(&rest.notifications))
        .print(options.format)?;
    Ok(if progress.parked > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Shows what would be done.
async fn show(mut pages: Pages<'_>, format: Format) -> anyhow::Result<ExitCode> {
    let mut plan = Plan::default();
    while let Some(page) = pages.next().await? {
        add(&mut plan, page);
    }
    preview(&plan).print(format)?;
    if !format.json && !plan.is_empty() {
        print::blank();
        print::line("nothing was changed; run it with --yes to undo it");
    }
    Ok(ExitCode::SUCCESS)
}

async fn selection(operator: &Operator, options: &UndoOptions) -> anyhow::Result<UndoSelection> {
    let event = match &options.event {
        Some(key) => match operator.ledger.event_id(key).await? {
            Some(id) => Some(id),
            None => bail!("the ledger has no event `{key}`"),
        },
        None => None,
    };
    let (playbook, playbook_version) = match options.playbook.as_deref().map(|name| name.split_once('@')) {
        Some(Some((name, version))) => (Some(name.to_owned()), Some(version.to_owned())),
        Some(None) => (options.playbook.clone(), None),
        None => (None, None),
    };
    let records = match &options.record {
        Some(name) => Some(operator.ledger.known_as(&record::parse(name, &operator.settings)?).await?),
        None => None,
    };
    Ok(UndoSelection { event, playbook, playbook_version, records, since: options.since, until: options.until })
}

/// Adds the plan of another page.
fn add(plan: &mut Plan, page: Plan) {
    plan.changes.extend(page.changes);
    plan.removals.extend(page.removals);
    plan.left.extend(page.left);
    plan.notifications.extend(page.notifications);
}

fn asked_by(options: &UndoOptions) -> String {
    let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
    options.by.clone().or_else(user).unwrap_or_else(|| "unknown".to_owned())
}

/// The selection without the record and the event: whoever is erased is not named here.
fn in_words(options: &UndoOptions, selection: &UndoSelection) -> String {
    let playbook = options.playbook.as_ref().map(|playbook| format!("playbook {playbook}"));
    let event = selection.event.map(|_| "one event".to_owned());
    let record = selection.records.as_ref().map(|_| "one record".to_owned());
    let since = options.since.map(|since| format!("since {}", times::utc(since)));
    let until = options.until.map(|until| format!("until {}", times::utc(until)));
    [event, playbook, record, since, until].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

async fn record_and_publish(
    operator: &Operator,
    request: &UndoRequest,
    plan: &Plan,
) -> anyhow::Result<Vec<WriteCommandId>> {
    let mut recorded = Vec::new();
    for chunk in plan.commands().chunks(MAX_TOGETHER) {
        let now = operator.ledger.record_undo(request, chunk).await?;
        publish(operator, &now).await?;
        recorded.extend(now);
    }
    Ok(recorded)
}

async fn publish(operator: &Operator, commands: &[WriteCommandId]) -> anyhow::Result<()> {
    for chunk in commands.chunks(MAX_TOGETHER) {
        let messages: Vec<_> = chunk.iter().map(|command| maintenance::command_message(*command)).collect();
        let confirms = messages.iter().map(|message| operator.publisher.publish(Route::Queue(Stage::Writes), message));
        futures_util::future::try_join_all(confirms).await?;
    }
    Ok(())
}

/// Waits until the writers have ended all commands. A message that is lost meanwhile is published again by the fleet.
async fn wait(operator: &Operator, commands: &[WriteCommandId]) -> anyhow::Result<UndoProgress> {
    let total = i64::try_from(commands.len()).unwrap_or(i64::MAX);
    let shown = Progress::start("undone", commands.len());
    loop {
        let asked_at = Instant::now();
        let progress = operator.ledger.undo_progress(commands).await?;
        if progress.ended >= total {
            return Ok(progress);
        }
        shown.tell(u64::try_from(progress.ended).unwrap_or(0));
        // Of many commands the question takes its time.
        tokio::time::sleep(LOOK_EVERY.max(asked_at.elapsed() * 4)).await;
    }
}

fn preview(plan: &Plan) -> Page {
    let mut changes = Table::new([
        column("record", "record").whole(),
        column("property", "property"),
        column("now", "now"),
        column("goes back to", "goes_back_to"),
        column("written by", "playbook"),
        column("version", "playbook_version"),
        column("event", "event_key"),
    ]);
    for change in &plan.changes {
        changes.add([
            change.record.to_string().into(),
            change.property.clone().into(),
            value(Some(&change.from)),
            value(change.to.as_deref()),
            change.author.playbook.clone().into(),
            change.author.playbook_version.clone().into(),
            change.author.event_key.clone().into(),
        ]);
    }
    Page::default()
        .section("changes", "goes back", changes)
        .optional_section("deleted", "is deleted", actions_table(&plan.removals))
        .optional_section("left", "left as it is", left_table(&plan.left))
        .optional_section("notifications", "sent, and cannot be taken back", actions_table(&plan.notifications))
}

fn result(request: &UndoRequest, recorded: usize, progress: &UndoProgress) -> Page {
    let UndoProgress { ended, restored, actions_undone, parked } = progress;
    let sentence = match (recorded, ended) {
        (0, 0) => "there is nothing to undo".to_owned(),
        _ => format!(
            "{restored} properties put back; {actions_undone} tasks, notes and deal moves taken back; {parked} write commands parked"
        ),
    };
    Page::default()
        .fact("undo_id", (recorded > 0).then(|| request.id.to_string()), "")
        .fact("asked_by", request.asked_by.clone(), "")
        .fact("why", request.why.clone(), "")
        .fact("write_commands", recorded, "")
        .fact("properties_restored", *restored, sentence)
        .fact("actions_undone", *actions_undone, "")
        .fact("parked", *parked, "")
}

fn left_table(left: &[Left]) -> Table {
    let mut table = Table::new([
        column("record", "record").whole(),
        column("what", "what"),
        column("we wrote", "wrote"),
        column("now", "now"),
        column("why", "reason"),
        column("written by", "playbook"),
        column("event", "event_key"),
    ]);
    for left in left {
        table.add([
            left.record.to_string().into(),
            left.what.clone().into(),
            left.wrote.clone().into(),
            left.now.clone().into(),
            left.reason.into(),
            left.author.playbook.clone().into(),
            left.author.event_key.clone().into(),
        ]);
    }
    table
}

fn left_meanwhile_columns() -> [print::Column; 4] {
    [column("record", "record").whole(), column("what", "what"), column("now", "now"), column("why", "reason")]
}

fn actions_table(actions: &[DoneAction]) -> Table {
    let mut table = Table::new([
        column("record", "record").whole(),
        column("what", "what"),
        column("action", "action"),
        column("made by", "playbook"),
        column("event", "event_key"),
    ]);
    for action in actions {
        table.add([
            action.record.to_string().into(),
            plan::made(action).into(),
            action.name.clone().into(),
            action.author.playbook.clone().into(),
            action.author.event_key.clone().into(),
        ]);
    }
    table
}

async fn without_effect(operator: &Operator, commands: &[WriteCommandId]) -> anyhow::Result<Table> {
    let mut table = Table::new([
        column("record", "record").whole(),
        column("write command", "write_command_id").whole(),
        column("state", "state"),
        column("why", "reason"),
    ]);
    for command in operator.ledger.undo_without_effect(commands).await? {
        table.add([
            command.record.to_string().into(),
            command.id.to_string().into(),
            command.state.into(),
            command.reason.into(),
        ]);
    }
    Ok(table)
}

fn value(value: Option<&str>) -> Cell {
    value.filter(|value| !value.is_empty()).map_or(Cell::EmptyValue, Cell::from)
}
