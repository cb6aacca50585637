//! `leadline parked`: lists, shows, replays and discards what is in the parking lots.

mod dead_letters;
mod decide;
mod filter;
mod item;

use std::{path::Path, process::ExitCode};

use domain::Reason;
use serde_json::Value;

use crate::{
    event,
    operator::Operator,
    print::{self, Format, Page},
    times::utc,
};
use decide::{ApplyOptions, ParkedAction};
use filter::ParkedFilter;
use item::{ParkedItem, items_table, stage_name};

#[derive(clap::Subcommand)]
pub enum ParkedCommand {
    /// Lists parked events and write commands.
    List {
        #[command(flatten)]
        filter: ParkedFilter,
        #[command(flatten)]
        format: Format,
    },
    /// Shows one item: its message with the headers, and what the ledger knows about it.
    Show {
        /// The event's key or the write command's id.
        id: String,
        #[command(flatten)]
        format: Format,
    },
    /// Lets items continue at the stage in which they failed. It lists them first; with `--yes` it replays them. Nothing
    /// is done twice: an item that has continued already is only removed from the parking lot.
    Replay {
        #[command(flatten)]
        filter: ParkedFilter,
        #[command(flatten)]
        options: ApplyOptions,
    },
    /// Drops items for good, with the reason `discarded`. It lists them first; with `--yes` it discards them.
    Discard {
        #[command(flatten)]
        filter: ParkedFilter,
        #[command(flatten)]
        options: ApplyOptions,
    },
}

pub async fn run(command: ParkedCommand, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    match command {
        ParkedCommand::List { filter, format } => list(&operator, &filter, format).await,
        ParkedCommand::Show { id, format } => show(&operator, &id, format).await,
        ParkedCommand::Replay { filter, options } => {
            decide::run(&operator, &filter, options, ParkedAction::Replay).await
        }
        ParkedCommand::Discard { filter, options } => {
            decide::run(&operator, &filter, options, ParkedAction::Discard).await
        }
    }
}

async fn list(operator: &Operator, filter: &ParkedFilter, format: Format) -> anyhow::Result<ExitCode> {
    let dead_letters = dead_letters::scan(operator, filter).await?;
    print_items(&dead_letters.items, format)?;
    dead_letters.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Prints one row for each item, and for people their number.
fn print_items(items: &[ParkedItem], format: Format) -> serde_json::Result<()> {
    print::list(&items_table(items), format, "nothing is parked that matches the filter")?;
    if !format.json && !items.is_empty() {
        print::line(format_args!("{} parked", items.len()));
    }
    Ok(())
}

async fn show(operator: &Operator, id: &str, format: Format) -> anyhow::Result<ExitCode> {
    let dead_letters = dead_letters::scan(operator, &ParkedFilter::by_id(id)).await?;
    let mut all = Vec::new();
    for item in &dead_letters.items {
        let story = match &item.entry {
            Some(entry) => operator.ledger.event_story(&entry.event_key).await?,
            None => None,
        };
        if format.json {
            let mut json = item_page(item).json();
            json["event"] = story.map_or(Value::Null, |story| event::story_json(&story, false));
            all.push(json);
            continue;
        }
        item_page(item).print(format)?;
        if let Some(story) = story {
            print::blank();
            event::print_story(&story, format)?;
        }
    }
    let is_found = !dead_letters.items.is_empty();
    dead_letters.close().await;
    if !is_found {
        print::error(format_args!("nothing is parked under the id `{id}`"));
        return Ok(ExitCode::FAILURE);
    }
    if format.json {
        print::json(&all)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn item_page(item: &ParkedItem) -> Page {
    let reason = match Reason::parse(&item.reason) {
        Some(reason) => format!("reason    {reason}: {}", reason.explanation()),
        None => format!("reason    {}", item.reason),
    };
    let message = item.message.as_ref().map(|parked| String::from_utf8_lossy(&parked.message.body).into_owned());
    let detail = item.detail.as_ref().map(|detail| format!("detail    {detail}"));
    let parked_at = item.parked_at.map(|at| format!("parked    {} UTC", utc(at)));
    let attempts = item.message.as_ref().map(|parked| parked.message.attempts);
    let message_sentence = match &message {
        Some(message) => format!("message   {message}"),
        None => "message   not in the parking lot; a replay makes a new one from the ledger".to_owned(),
    };
    let unknown = if item.entry.is_none() { "ledger    has nothing parked under this id" } else { "" };
    Page::default()
        .fact("id", item.id.clone(), format!("id        {}", item.id))
        .fact("stage", stage_name(item.stage), format!("stage     {}", stage_name(item.stage)))
        .fact("reason", item.reason.clone(), reason)
        .fact("detail", item.detail.clone(), detail.unwrap_or_default())
        .fact("parked_at", item.parked_at, parked_at.unwrap_or_default())
        .fact("attempts", attempts, attempts.map(|attempts| format!("attempts  {attempts}")).unwrap_or_default())
        .fact("message", message, message_sentence)
        .fact("playbook", item.playbook.clone(), unknown)
}
