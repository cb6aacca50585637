//! Tells a channel what waits for approval, with a link to each proposal's page. Names only, and no values: those were written by
//! strangers, and the channel is not the place for them.

use std::{fmt::Write, sync::Arc};

use domain::ActionId;
use ledger::{Ledger, LedgerError, ProposalEntry, ProposalFilter};
use secrecy::SecretString;
use time::OffsetDateTime;

use crate::{
    notify::{Channels, NotifyError},
    review::links::ReviewLinks,
};

/// How many proposals one message tells of. The next ones come with the next message.
const MAX_IN_MESSAGE: i64 = 20;

/// Why a channel was not told.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The channel.
    #[error(transparent)]
    Channel(#[from] NotifyError),
}

/// Tells a channel of proposals that it was not told of yet.
#[derive(Clone)]
pub struct ReviewDigest {
    /// The proposals.
    pub ledger: Ledger,
    /// Sends the message.
    pub channels: Arc<Channels>,
    /// The channel's URL.
    pub channel: SecretString,
    /// The links; `None` tells without.
    pub links: Option<ReviewLinks>,
}

impl ReviewDigest {
    /// Tells of at most [`MAX_IN_MESSAGE`] proposals. At least once: a process that dies in between tells of them again.
    ///
    /// # Errors
    /// The ledger or the channel does not answer.
    pub async fn pass(&self) -> Result<(), DigestError> {
        let filter = ProposalFilter { unannounced: Some(MAX_IN_MESSAGE), ..ProposalFilter::default() };
        let proposals = self.ledger.proposals(&filter).await?;
        if proposals.is_empty() {
            return Ok(());
        }
        let text = message(&proposals, self.links.as_ref(), OffsetDateTime::now_utc());
        self.channels.send(&self.channel, ActionId::new(), &text).await?;
        let told: Vec<_> = proposals.iter().map(|proposal| (proposal.id, proposal.attempt)).collect();
        self.ledger.record_announced(&told).await?;
        Ok(())
    }
}

fn message(proposals: &[ProposalEntry], links: Option<&ReviewLinks>, now: OffsetDateTime) -> String {
    let mut text = format!("{} waiting for approval:", proposals.len());
    for proposal in proposals {
        let ProposalEntry { id, attempt, record, playbook, .. } = proposal;
        let properties = proposal.properties.iter().map(|property| property.property.as_str());
        let what: Vec<_> = properties.chain(proposal.actions.iter().map(|action| action.name.as_str())).collect();
        let changed = if proposal.is_changed { ", changed since it was approved" } else { "" };
        let _ = write!(text, "\n• {playbook}: {record} ({}{changed})", what.join(", "));
        let _ = match links {
            Some(links) => write!(text, " <{}|decide>", links.url(*id, *attempt, now)),
            None => write!(text, " leadline review show {id}"),
        };
    }
    text
}
