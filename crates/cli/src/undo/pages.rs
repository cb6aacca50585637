//! What is to be undone, some records at a time, so that an undo of very much takes little memory.

use domain::{PortalId, RecordRef};
use hubspot::HubSpotClient;
use ledger::{Ledger, UndoSelection};

use super::{plan::Plan, survey};
use crate::{
    operator::{self, Operator},
    print::Progress,
};

/// Records whose writes are planned together.
const RECORDS_AT_ONCE: usize = 1_000;

/// The plans for a selection, one for each page of its records. All that is known of a record is on one page.
pub struct Pages<'a> {
    ledger: &'a Ledger,
    hubspot: HubSpotClient,
    portal: PortalId,
    selection: &'a UndoSelection,
    records: Vec<RecordRef>,
    done: usize,
    progress: Progress,
}

impl<'a> Pages<'a> {
    /// Finds out which records are concerned.
    ///
    /// # Errors
    /// The ledger does not answer, or the settings are wrong.
    pub async fn of(operator: &'a Operator, portal: PortalId, selection: &'a UndoSelection) -> anyhow::Result<Self> {
        let Operator { ledger, settings, .. } = operator;
        let hubspot = operator::patient_hubspot(settings, ledger)?;
        let records = ledger.records_to_undo(portal, selection).await?;
        let progress = Progress::start("records looked at", records.len());
        Ok(Self { ledger, hubspot, portal, selection, records, done: 0, progress })
    }

    /// The next plan, compared with what HubSpot holds; `None` when there is none.
    ///
    /// # Errors
    /// The ledger or HubSpot does not answer.
    pub async fn next(&mut self) -> anyhow::Result<Option<Plan>> {
        let Some(records) = self.records[self.done..].chunks(RECORDS_AT_ONCE).next() else { return Ok(None) };
        let writes = self.ledger.writes_to_undo(self.portal, self.selection, records).await?;
        let actions = self.ledger.actions_to_undo(self.portal, self.selection, records).await?;
        let mut plan = Plan::new(&writes, actions);
        survey::survey(&self.hubspot, &mut plan).await?;
        self.done += records.len();
        self.progress.tell(self.done);
        Ok(Some(plan))
    }
}
