//! `leadline review`: what playbooks propose, and what people decide about it.

mod decide;
mod filter;
mod shown;

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use anyhow::{Context, bail};
use domain::WriteCommandId;
use ledger::{ProposalEntry, Verdict};
use uuid::Uuid;

use crate::{
    operator::{self, Operator},
    print::{self, Format},
};
use decide::{ChangedOption, DecideOptions, approve, decide};
use filter::ReviewFilter;

#[derive(clap::Subcommand)]
pub enum ReviewCommand {
    /// Lists the proposals that wait for approval.
    List {
        #[command(flatten)]
        filter: ReviewFilter,
        #[command(flatten)]
        format: Format,
    },
    /// Shows one proposal: values before and after with their quotations, actions, model, cost, and earlier decisions.
    Show {
        /// The proposal's id.
        id: Uuid,
        #[command(flatten)]
        format: Format,
    },
    /// Has proposals carried out. It lists them first; with `--yes` it approves them. Nothing is written twice, and what
    /// somebody has changed since is proposed again.
    Approve {
        #[command(flatten)]
        filter: ReviewFilter,
        #[command(flatten)]
        changed: ChangedOption,
        #[command(flatten)]
        options: DecideOptions,
    },
    /// Gives proposals up. It lists them first; with `--yes` it rejects them.
    Reject {
        #[command(flatten)]
        filter: ReviewFilter,
        /// Why, in a few words: what the playbook got wrong.
        #[arg(long)]
        why: String,
        #[command(flatten)]
        options: DecideOptions,
    },
    /// Approves one proposal with other values. The ledger keeps the proposed ones beside them.
    Edit {
        /// The proposal's id.
        id: Uuid,
        /// The value of a property; may be given several times.
        #[arg(long, required = true, value_name = "PROPERTY=VALUE", value_parser = parse_edit)]
        set: Vec<(String, String)>,
        #[command(flatten)]
        changed: ChangedOption,
        #[command(flatten)]
        options: DecideOptions,
    },
}

fn parse_edit(text: &str) -> Result<(String, String), String> {
    let (property, value) = text.split_once('=').ok_or("write it as PROPERTY=VALUE")?;
    Ok((property.to_owned(), value.to_owned()))
}

pub async fn run(command: ReviewCommand, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    match command {
        ReviewCommand::List { filter, format } => {
            let ledger = operator::ledger_only(file)?;
            let settings = settings::Settings::load(file, settings::ConfigScope::LedgerOnly)?;
            let proposals = filter.select(&ledger, &settings).await?;
            print::list(&shown::table(&proposals), format, "no proposal waits that matches the filter")?;
            Ok(ExitCode::SUCCESS)
        }
        ReviewCommand::Show { id, format } => show(file, id, format).await,
        ReviewCommand::Approve { filter, changed, options } => {
            let operator = Operator::connect(file).await?;
            let proposals = filter.select_for_change(&operator).await?;
            approve(&operator, proposals, BTreeMap::new(), (changed, &options)).await
        }
        ReviewCommand::Reject { filter, why, options } => {
            anyhow::ensure!(!why.trim().is_empty(), "--why is empty: say why not");
            let operator = Operator::connect(file).await?;
            let proposals = filter.select_for_change(&operator).await?;
            decide(&operator, &proposals, &Verdict::Reject(why), &options).await
        }
        ReviewCommand::Edit { id, set, changed, options } => {
            let operator = Operator::connect(file).await?;
            let proposal = one(&operator.ledger, id).await?;
            let edits = checked(&operator.settings, &proposal, set)?;
            approve(&operator, vec![proposal], edits, (changed, &options)).await
        }
    }
}

async fn show(file: Option<&Path>, id: Uuid, format: Format) -> anyhow::Result<ExitCode> {
    let ledger = operator::ledger_only(file)?;
    let proposal = one(&ledger, id).await?;
    let reviews = ledger.reviews(proposal.id).await?;
    shown::page(&proposal, &reviews).print(format)?;
    Ok(ExitCode::SUCCESS)
}

/// The waiting proposal with this id.
async fn one(ledger: &ledger::Ledger, id: Uuid) -> anyhow::Result<ProposalEntry> {
    let filter = ledger::ProposalFilter { ids: vec![WriteCommandId(id)], ..ledger::ProposalFilter::default() };
    if let Some(proposal) = ledger.proposals(&filter).await?.pop() {
        return Ok(proposal);
    }
    match ledger.command_state(WriteCommandId(id)).await? {
        Some(state) => bail!("the proposal {id} does not wait for approval any more: it is {state}"),
        None => bail!("the ledger has no proposal {id}"),
    }
}

/// The values of an edit, each checked by the rules of its playbook.
fn checked(
    settings: &settings::Settings,
    proposal: &ProposalEntry,
    set: Vec<(String, String)>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let playbooks = playbook::load(&settings.inference.playbooks, &settings.inference.protected_properties)
        .context("the playbooks, whose rules hold for edited values")?;
    let of_proposal = playbooks.iter().find(|playbook| playbook.name == proposal.playbook);
    let playbook = of_proposal.with_context(|| format!("there is no playbook `{}` any more", proposal.playbook))?;
    let mut edits = BTreeMap::new();
    for (property, value) in set {
        if !proposal.properties.iter().any(|proposed| proposed.property == property) {
            bail!("the proposal does not set `{property}`");
        }
        let value = playbook.checked_value(&property, &value)?;
        edits.insert(property, value);
    }
    Ok(edits)
}
