//! Which of what is parked is meant.

use anyhow::bail;
use broker::Stage;
use retry::Reason;
use time::OffsetDateTime;

use super::dead_letters::Item;
use crate::when;

/// Which of what is parked.
#[derive(clap::Args, Clone, Default)]
pub struct Filter {
    /// Parked for this reason.
    #[arg(long)]
    reason: Option<String>,
    /// Of this playbook.
    #[arg(long)]
    playbook: Option<String>,
    /// Parked at this time or later: 2026-11-24T10:00:00Z, 2026-11-24, or how long ago, like 6h.
    #[arg(long)]
    since: Option<String>,
    /// Parked before this time.
    #[arg(long)]
    until: Option<String>,
    /// An event's key or a write command's id; may be given several times.
    #[arg(long)]
    id: Vec<String>,
    /// `events`, `backfill` or `writes`.
    #[arg(long)]
    stage: Option<String>,
}

/// The same, understood.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    reason: Option<String>,
    playbook: Option<String>,
    since: Option<OffsetDateTime>,
    until: Option<OffsetDateTime>,
    ids: Vec<String>,
    stage: Option<Stage>,
}

impl Filter {
    /// Whether nothing is narrowed down.
    pub fn is_everything(&self) -> bool {
        let Self { reason, playbook, since, until, id, stage } = self;
        reason.is_none() && playbook.is_none() && since.is_none() && until.is_none() && id.is_empty() && stage.is_none()
    }

    pub fn parse(&self) -> anyhow::Result<Wanted> {
        let stage = match self.stage.as_deref() {
            None => None,
            Some(name) => match Stage::ALL.into_iter().find(|stage| stage.queue() == format!("leadline.{name}")) {
                Some(stage) => Some(stage),
                None => bail!("`{name}` is no stage: events, backfill or writes"),
            },
        };
        if let Some(name) = &self.reason
            && Reason::parse(name).is_none()
        {
            let known: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
            bail!("`{name}` is no reason for which anything is parked; known are {}", known.join(", "));
        }
        Ok(Wanted {
            reason: self.reason.clone(),
            playbook: self.playbook.clone(),
            since: self.since.as_deref().map(when::parse).transpose()?,
            until: self.until.as_deref().map(when::parse).transpose()?,
            ids: self.id.clone(),
            stage,
        })
    }
}

impl Wanted {
    /// The one with this id.
    pub fn one(id: &str) -> Self {
        Self { ids: vec![id.to_owned()], ..Self::default() }
    }

    pub fn is_met_by(&self, item: &Item) -> bool {
        self.reason.as_ref().is_none_or(|reason| item.reason == *reason)
            && self.playbook.as_ref().is_none_or(|playbook| item.playbook.as_ref() == Some(playbook))
            && self.since.is_none_or(|since| item.parked_at.is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| item.parked_at.is_some_and(|at| at < until))
            && (self.ids.is_empty() || self.ids.contains(&item.id))
            && self.stage.is_none_or(|stage| item.stage == stage)
    }
}
