//! Decides about proposals: first in the ledger, then, of those that were approved, in the queue.
//!
//! When the command dies in between, the reconciler finds a command that is recorded without a message.

use std::{collections::BTreeMap, process::ExitCode};

use broker::{Route, Stage};
use ledger::{ProposalEntry, Verdict};

use super::shown;
use crate::{
    operator::Operator,
    print::{self, Format, Progress, say},
};

/// Whether it is done, and who decides.
#[derive(clap::Args, Debug, Clone)]
pub struct DecideOptions {
    /// Do it. Without it, the command only lists the proposals.
    #[arg(long)]
    yes: bool,
    /// Who decides, for the ledger.
    #[arg(long, env = "USER", default_value = "operator")]
    by: String,
}

/// Whether an approval is also about proposals that ask again.
#[derive(clap::Args, Debug, Clone, Copy)]
pub struct ChangedOption {
    /// Also those that were approved before and ask again, because a value is another one than the reviewer saw.
    #[arg(long)]
    changed: bool,
}

/// Approves proposals with these values in place of the proposed ones. Unless it is asked for, those that ask again are left out: who
/// approves by id or by a filter has seen what was there before, and not what is there now. Fails when one was left out.
pub async fn approve(
    operator: &Operator,
    proposals: Vec<ProposalEntry>,
    edits: BTreeMap<String, String>,
    (changed, options): (ChangedOption, &DecideOptions),
) -> anyhow::Result<ExitCode> {
    let is_left_out = |proposal: &ProposalEntry| proposal.is_changed && !changed.changed;
    let (left_out, proposals): (Vec<_>, Vec<_>) = proposals.into_iter().partition(is_left_out);
    let code = decide(operator, &proposals, &Verdict::Approve(edits), options).await?;
    for proposal in &left_out {
        let reviews = operator.ledger.reviews(proposal.id).await?;
        let ProposalEntry { id, record, .. } = proposal;
        let difference = shown::difference(&proposal.changed_values(&reviews));
        say!("left out: {id} ({record}) asks again, since {difference}; --changed approves it, too");
    }
    Ok(if left_out.is_empty() || !options.yes { code } else { ExitCode::FAILURE })
}

/// Lists proposals and, with `--yes`, commits the verdict about each. Fails when one does not wait any more.
pub async fn decide(
    operator: &Operator,
    proposals: &[ProposalEntry],
    verdict: &Verdict,
    options: &DecideOptions,
) -> anyhow::Result<ExitCode> {
    print::list(&shown::table(proposals), Format::default(), "no proposal waits that matches the filter")?;
    let (verb, edits) = match verdict {
        Verdict::Approve(edits) => ("approved", Some(edits)),
        Verdict::Reject(_) => ("rejected", None),
    };
    for (property, value) in edits.into_iter().flatten() {
        say!("with {property} = {value}");
    }
    if !options.yes {
        let hint = if proposals.is_empty() { "" } else { "; run it with --yes to do it" };
        say!("nothing was {verb}{hint}");
        return Ok(ExitCode::SUCCESS);
    }
    let (mut decided, mut gone) = (0, 0);
    let progress = Progress::start(verb, proposals.len());
    for (done, proposal) in proposals.iter().enumerate() {
        progress.tell(done);
        let ProposalEntry { id, attempt, .. } = proposal;
        if !operator.ledger.decide_proposal(*id, *attempt, verdict, &options.by).await? {
            say!("{id} does not wait any more: it was decided about, replaced or proposed anew");
            gone += 1;
            continue;
        }
        if edits.is_some() {
            let message = maintenance::command_message(*id);
            operator.publisher.publish(Route::Queue(Stage::Writes), &message).await?;
        }
        decided += 1;
    }
    drop(progress);
    say!("{decided} {verb}, {gone} did not wait any more");
    Ok(if gone == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
