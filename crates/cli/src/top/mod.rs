//! `leadline top`: the fleet as it is now, again and again.

mod live;
mod pace;
mod queues;
mod view;

use std::{
    io::{self, IsTerminal},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use self::{
    pace::Pace,
    queues::{Depths, QueuePace},
};
use crate::{
    operator::Operator,
    print::{Format, Page},
    snapshot::Snapshot,
};

#[derive(clap::Args)]
pub struct TopOptions {
    /// Print how it is now, and end. So it does, too, where no terminal is.
    #[arg(long)]
    once: bool,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    interval: u64,
    #[command(flatten)]
    format: Format,
}

/// How long `--once` watches the queues.
const WATCHED: Duration = Duration::from_secs(1);

/// The fleet at one moment, and what happened before it.
#[derive(Debug, Clone)]
pub struct Fleet {
    snapshot: Snapshot,
    pace: Pace,
    queues: Vec<QueuePace>,
}

impl Fleet {
    /// Asks the broker and the ledger, and compares the queues with what was seen before.
    async fn look(operator: &Operator, before: Option<&Depths>) -> anyhow::Result<(Self, Depths)> {
        let snapshot = Snapshot::take(operator).await?;
        let depths = Depths::now(snapshot.queues.clone());
        let queues = depths.since(before);
        Ok((Self { snapshot, pace: Pace::measure(&operator.ledger).await?, queues }, depths))
    }

    fn page(&self) -> Page {
        self.pace.add_to(self.snapshot.page()).section(
            "queue_pace",
            "how fast the queues change",
            queues::table(&self.queues),
        )
    }
}

pub async fn run(file: Option<&Path>, options: TopOptions) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let TopOptions { once, interval, format } = options;
    if once || format.json || !io::stdout().is_terminal() {
        let before = Depths::now(operator.connection.queue_depths().await?);
        tokio::time::sleep(WATCHED).await;
        let (fleet, _) = Fleet::look(&operator, Some(&before)).await?;
        fleet.page().print(format)?;
    } else {
        live::run(operator, Duration::from_secs(interval), format).await?;
    }
    Ok(ExitCode::SUCCESS)
}
