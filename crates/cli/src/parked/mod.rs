//! `leadline parked`: what lies in the parking lots, and what becomes of it.

mod dead_letters;
mod filter;
mod parked_action;

use std::{path::Path, process::ExitCode};

use crate::operator::{Operator, clock, table};
use filter::Filter;
use retry::Reason;

/// What an operator does with it.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Lists it.
    List(Filter),
    /// Shows one: the message with its headers, and what the ledger knows.
    Show {
        /// The event's key, or the write command's id.
        id: String,
    },
    /// Lets it go on. Shows first what would; `--yes` does it. What went on already is not done again.
    Replay {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        apply_options: ApplyOptions,
    },
    /// Gives it up: it is dropped as `discarded`. Shows first what would be; `--yes` does it.
    Discard {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        apply_options: ApplyOptions,
    },
}

/// How much is done, and how fast.
#[derive(clap::Args, Clone, Copy)]
pub struct ApplyOptions {
    /// Do it.
    #[arg(long)]
    yes: bool,
    /// All of it, without any filter.
    #[arg(long)]
    all: bool,
    /// At most so many in a second: what failed once should not flood the fleet, or HubSpot.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    per_second: u32,
}

pub async fn run(command: &Command, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    match command {
        Command::List(filter) => list(&operator, filter).await,
        Command::Show { id } => show(&operator, id).await,
        Command::Replay { filter, apply_options } => {
            parked_action::decide(&operator, filter, *apply_options, parked_action::ParkedAction::Replay).await
        }
        Command::Discard { filter, apply_options } => {
            parked_action::decide(&operator, filter, *apply_options, parked_action::ParkedAction::Discard).await
        }
    }
}

async fn list(operator: &Operator, filter: &Filter) -> anyhow::Result<ExitCode> {
    let filter = filter.parse()?;
    let dead_letters = dead_letters::scan(operator, &filter).await?;
    print(&dead_letters.items);
    dead_letters.close().await;
    Ok(ExitCode::SUCCESS)
}

/// A line for each, and how many for each reason.
fn print(items: &[dead_letters::Item]) {
    let mut listed = table(&["parked", "stage", "reason", "playbook", "id", "detail"]);
    for item in items {
        listed.add_row([
            item.parked_at.map(clock).unwrap_or_default(),
            item.stage_name().to_owned(),
            item.reason.clone(),
            item.playbook.clone().unwrap_or_default(),
            item.id.clone(),
            item.detail.clone().unwrap_or_default(),
        ]);
    }
    if items.is_empty() {
        println!("nothing is parked that this asks for");
    } else {
        println!("{listed}\n{} parked", items.len());
    }
}

async fn show(operator: &Operator, id: &str) -> anyhow::Result<ExitCode> {
    let dead_letters = dead_letters::scan(operator, &filter::Wanted::one(id)).await?;
    for item in &dead_letters.items {
        println!("id        {}\nstage     {}", item.id, item.stage_name());
        let explanation = Reason::parse(&item.reason).map_or("", Reason::explanation);
        println!("reason    {} {explanation}", item.reason);
        if let Some(detail) = &item.detail {
            println!("detail    {detail}");
        }
        if let Some(at) = item.parked_at {
            println!("parked    {}", clock(at));
        }
        match &item.message {
            Some(parked) => println!(
                "attempts  {}\nmessage   {}",
                parked.message.attempts,
                String::from_utf8_lossy(&parked.message.body)
            ),
            None => println!("message   none: the parking lot does not hold it; a replay makes it anew"),
        }
        match &item.entry {
            Some(entry) => {
                if let Some(story) = operator.ledger.event_story(&entry.event_key).await? {
                    println!();
                    crate::event::print(&story, false);
                }
            }
            None => println!("ledger    knows nothing parked under this id"),
        }
    }
    let found = !dead_letters.items.is_empty();
    dead_letters.close().await;
    if !found {
        eprintln!("nothing is parked as `{id}`");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
