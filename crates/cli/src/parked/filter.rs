//! Which parked items a command is about.

use broker::Stage;
use domain::Reason;
use time::OffsetDateTime;

use super::item::{ParkedItem, stage_name};
use crate::{names::one_of, times};

/// Selects the items that meet every given condition; without any, all items.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct ParkedFilter {
    /// Parked for this reason.
    #[arg(long, value_parser = one_of(Reason::ALL, Reason::as_str), hide_possible_values = true)]
    reason: Option<Reason>,
    /// Of this playbook.
    #[arg(long)]
    playbook: Option<String>,
    /// Parked at this time or later: 2026-11-24T10:00:00Z, 2026-11-24, or how long ago, like 6h.
    #[arg(long, value_parser = times::parse, value_name = "TIME")]
    since: Option<OffsetDateTime>,
    /// Parked before this time.
    #[arg(long, value_parser = times::parse, value_name = "TIME")]
    until: Option<OffsetDateTime>,
    /// An event's key or a write command's id; may be given several times.
    #[arg(long)]
    id: Vec<String>,
    /// Parked by this stage.
    #[arg(long, value_parser = one_of(&Stage::ALL, stage_name))]
    stage: Option<Stage>,
}

impl ParkedFilter {
    /// Selects the item with this id.
    pub fn by_id(id: &str) -> Self {
        Self { id: vec![id.to_owned()], ..Self::default() }
    }

    /// Whether the filter has no condition.
    pub fn is_empty(&self) -> bool {
        let Self { reason, playbook, since, until, id, stage } = self;
        reason.is_none() && playbook.is_none() && since.is_none() && until.is_none() && id.is_empty() && stage.is_none()
    }

    /// Whether the item meets every condition.
    pub fn matches(&self, item: &ParkedItem) -> bool {
        self.reason.is_none_or(|reason| item.reason == reason.as_str())
            && self.playbook.as_ref().is_none_or(|playbook| item.playbook.as_ref() == Some(playbook))
            && self.since.is_none_or(|since| item.parked_at.is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| item.parked_at.is_some_and(|at| at < until))
            && (self.id.is_empty() || self.id.contains(&item.id))
            && self.stage.is_none_or(|stage| item.stage == stage)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use domain::Reason;

    use super::ParkedFilter;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        filter: ParkedFilter,
    }

    fn parse(arguments: &[&str]) -> Result<ParkedFilter, clap::Error> {
        Arguments::try_parse_from([&["list"], arguments].concat()).map(|arguments| arguments.filter)
    }

    #[test]
    fn an_unknown_reason_or_stage_is_an_error_that_lists_the_known_ones() {
        assert_eq!(parse(&["--reason", "refused"]).expect("a reason").reason, Some(Reason::Refused));
        let error = parse(&["--reason", "refusd"]).expect_err("no reason").to_string();
        assert!(error.contains("a similar value exists: 'refused'") && error.contains("validation_error"), "{error}");
        assert!(parse(&["--stage", "writes"]).is_ok());
        let error = parse(&["--stage", "write"]).expect_err("no stage").to_string();
        assert!(error.contains("events, backfill, erasures, writes"), "{error}");
    }

    #[test]
    fn a_filter_without_conditions_is_empty() {
        assert!(parse(&[]).expect("no arguments").is_empty());
        assert!(!parse(&["--since", "6h"]).expect("a time").is_empty());
    }
}
