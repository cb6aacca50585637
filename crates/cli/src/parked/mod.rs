//! `leadline parked`: lists, shows, replays and discards what is in the parking lots.

mod dead_letters;
mod decide;
mod filter;
mod item;

use std::{path::Path, process::ExitCode};

use domain::Reason;

use crate::{
    event,
    operator::Operator,
    print::{self, say},
    times::utc,
};
use decide::{ApplyOptions, ParkedAction};
use filter::ParkedFilter;
use item::{ParkedItem, print_items, stage_name};

#[derive(clap::Subcommand)]
pub enum ParkedCommand {
    /// Lists parked events and write commands.
    List(ParkedFilter),
    /// Shows one item: its message with the headers, and what the ledger knows about it.
    Show {
        /// The event's key or the write command's id.
        id: String,
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
        ParkedCommand::List(filter) => list(&operator, &filter).await,
        ParkedCommand::Show { id } => show(&operator, &id).await,
        ParkedCommand::Replay { filter, options } => {
            decide::run(&operator, &filter, options, ParkedAction::Replay).await
        }
        ParkedCommand::Discard { filter, options } => {
            decide::run(&operator, &filter, options, ParkedAction::Discard).await
        }
    }
}

async fn list(operator: &Operator, filter: &ParkedFilter) -> anyhow::Result<ExitCode> {
    let dead_letters = dead_letters::scan(operator, filter).await?;
    print_items(&dead_letters.items);
    dead_letters.close().await;
    Ok(ExitCode::SUCCESS)
}

async fn show(operator: &Operator, id: &str) -> anyhow::Result<ExitCode> {
    let dead_letters = dead_letters::scan(operator, &ParkedFilter::by_id(id)).await?;
    for item in &dead_letters.items {
        print_item(item);
        if let Some(entry) = &item.entry
            && let Some(story) = operator.ledger.event_story(&entry.event_key).await?
        {
            print::blank();
            event::print(&story, false);
        }
    }
    let is_found = !dead_letters.items.is_empty();
    dead_letters.close().await;
    if !is_found {
        print::error(format_args!("nothing is parked under the id `{id}`"));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_item(item: &ParkedItem) {
    say!("id        {}", item.id);
    say!("stage     {}", stage_name(item.stage));
    match Reason::parse(&item.reason) {
        Some(reason) => say!("reason    {reason}: {}", reason.explanation()),
        None => say!("reason    {}", item.reason),
    }
    if let Some(detail) = &item.detail {
        say!("detail    {detail}");
    }
    if let Some(at) = item.parked_at {
        say!("parked    {} UTC", utc(at));
    }
    match &item.message {
        Some(parked) => {
            say!("attempts  {}", parked.message.attempts);
            say!("message   {}", String::from_utf8_lossy(&parked.message.body));
        }
        None => say!("message   not in the parking lot; a replay makes a new one from the ledger"),
    }
    if item.entry.is_none() {
        say!("ledger    has nothing parked under this id");
    }
}
