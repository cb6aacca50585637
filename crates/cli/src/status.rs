//! `leadline status`: what the fleet has to do, what it uses of its limits, and what is wrong.

use std::{path::Path, process::ExitCode};

use ledger::WaitingProposals;

use crate::{operator::Operator, print::Format, snapshot::Snapshot, times};

/// Prints queues, unfinished work by state and age, what is parked, limits, circuit breakers that are not closed, and what waits for
/// approval.
pub async fn run(file: Option<&Path>, format: Format) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let snapshot = Snapshot::take(&operator).await?;
    let WaitingProposals { count, oldest } = operator.ledger.waiting_proposals().await?;
    let waiting = match count {
        0 => String::new(),
        _ => {
            format!("{count} waiting for approval, the oldest for {} (`leadline review list`)", times::duration(oldest))
        }
    };
    let page = snapshot.page().fact("proposals_waiting", count, waiting).fact("oldest_proposal_seconds", oldest, "");
    page.print(format)?;
    Ok(ExitCode::SUCCESS)
}
