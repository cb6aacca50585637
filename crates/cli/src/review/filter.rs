//! Which proposals a command is about.

use anyhow::bail;
use domain::{
    WriteCommandId,
    review::{ApprovalRule, ReviewTerms},
};
use ledger::{Ledger, ProposalEntry, ProposalFilter};
use playbook::{ProposedChange, approving_rule};
use settings::Settings;
use uuid::Uuid;

use crate::{operator::Operator, record};

/// Selects the proposals that meet every given condition; without any, all proposals.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct ReviewFilter {
    /// Proposals, by their ids.
    id: Vec<Uuid>,
    /// Of this playbook.
    #[arg(long)]
    playbook: Option<String>,
    /// For this record, like contact/123.
    #[arg(long)]
    record: Option<String>,
    /// For which this condition holds, written as those of a playbook's `[[review.approve_if]]`: "verified and empty".
    #[arg(long, value_name = "CONDITION")]
    rule: Option<String>,
    /// Allow a change without a filter, of all proposals.
    #[arg(long)]
    all: bool,
}

impl ReviewFilter {
    /// The proposals that match.
    pub async fn select(&self, ledger: &Ledger, settings: &Settings) -> anyhow::Result<Vec<ProposalEntry>> {
        let record = self.record.as_ref().map(|record| record::parse(record, settings)).transpose()?;
        let ids = self.id.iter().copied().map(WriteCommandId).collect();
        let filter = ProposalFilter { ids, playbook: self.playbook.clone(), record, unannounced: None };
        let mut matching = Vec::new();
        for proposal in ledger.proposals(&filter).await? {
            if self.rule.as_ref().map_or(Ok(true), |rule| holds(rule, &proposal))? {
                matching.push(proposal);
            }
        }
        Ok(matching)
    }

    /// The same, for a command that changes them: all proposals have to be asked for.
    pub async fn select_for_change(&self, operator: &Operator) -> anyhow::Result<Vec<ProposalEntry>> {
        let Self { id, playbook, record, rule, all } = self;
        if id.is_empty() && playbook.is_none() && record.is_none() && rule.is_none() && !all {
            bail!("give ids or a filter (--playbook, --record, --rule), or --all for all proposals");
        }
        self.select(&operator.ledger, &operator.settings).await
    }
}

/// Whether a condition holds for a proposal.
fn holds(condition: &str, proposal: &ProposalEntry) -> anyhow::Result<bool> {
    let rule = ApprovalRule { name: "--rule".to_owned(), when: condition.to_owned() };
    let terms = ReviewTerms { approve_if: vec![rule], ..proposal.terms.clone() };
    let mut changes = Vec::new();
    for property in &proposal.properties {
        let (before, after) = (property.before.as_deref(), property.after());
        changes.push(ProposedChange { property: &property.property, before, after });
    }
    let actions: Vec<_> = proposal.actions.iter().map(|action| action.name.as_str()).collect();
    Ok(approving_rule(&terms, &changes, &actions)?.is_some())
}
