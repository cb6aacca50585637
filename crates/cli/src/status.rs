//! `leadline status`: what the fleet has to do, what it uses of its limits, and what is wrong.

use std::{path::Path, process::ExitCode};

use crate::{operator::Operator, print::Format, snapshot::Snapshot};

/// Prints queues, unfinished work by state and age, what is parked, limits, and circuit breakers that are not closed.
pub async fn run(file: Option<&Path>, format: Format) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    Snapshot::take(&operator).await?.page().print(format)?;
    Ok(ExitCode::SUCCESS)
}
