//! How fast the fleet is, what takes long, and what today has cost.

use std::time::Duration;

use ledger::{CostToday, EventEntry, FinishedEvent, Ledger, Throughput};

use crate::{
    event,
    print::{Cell, Page, Table, column},
};

/// What came and ended is counted over this time.
const MINUTE: Duration = Duration::from_secs(60);

/// The slowest are looked for among what ended within this time.
const RECENTLY: Duration = Duration::from_secs(600);

/// So many of the oldest and of the slowest are shown.
const SHOWN: i64 = 20;

/// What the ledger says about the last minutes and about today.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    /// Of the last minute.
    pub throughput: Throughput,
    /// Unfinished events, the oldest first.
    pub oldest: Vec<EventEntry>,
    /// Events that ended lately, the slowest first.
    pub slowest: Vec<FinishedEvent>,
    /// By playbook and model.
    pub cost_today: Vec<CostToday>,
}

impl Pace {
    /// Asks the ledger.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn measure(ledger: &Ledger) -> anyhow::Result<Self> {
        Ok(Self {
            throughput: ledger.throughput(MINUTE).await?,
            oldest: ledger.oldest_events(SHOWN).await?,
            slowest: ledger.slowest_events(RECENTLY, SHOWN).await?,
            cost_today: ledger.cost_today().await?,
        })
    }

    /// How many events ended within the last minute.
    pub fn finished(&self) -> i64 {
        self.throughput.finished.iter().map(|(_, events)| events).sum()
    }

    /// What today has cost, as far as prices are known.
    pub fn micro_dollars_today(&self) -> i64 {
        self.cost_today.iter().filter_map(|cost| cost.micro_dollars).sum()
    }

    /// The page with all of it at its end.
    pub fn add_to(&self, page: Page) -> Page {
        let claimed = self.throughput.claimed;
        page.section("finished_last_minute", "events that ended within the last minute", self.finished_table())
            .fact("claimed_last_minute", claimed, format!("{claimed} events were taken up within the last minute"))
            .section("oldest_events", "the oldest unfinished events", self.oldest_table())
            .section(
                "slowest_events",
                "the slowest events that ended within the last ten minutes",
                self.slowest_table(),
            )
            .section("cost_today", "cost of the answers of today (in UTC)", self.cost_table())
    }

    /// What ended, by state.
    pub fn finished_table(&self) -> Table {
        let mut table = Table::new([column("state", "state"), column("events a minute", "events")]);
        for (state, events) in &self.throughput.finished {
            table.add([(*state).into(), (*events).into()]);
        }
        table
    }

    /// The oldest unfinished events.
    pub fn oldest_table(&self) -> Table {
        let mut table = Table::new([
            column("age", "first_claimed_at"),
            column("state", "state"),
            column("reason", "reason"),
            column("record", "record"),
            column("key", "event_key").whole(),
        ]);
        for entry in &self.oldest {
            table.add([
                entry.first_claimed_at.into(),
                entry.status.state.into(),
                entry.status.reason.into(),
                entry.object_id.map(|id| event::record(&entry.object_type, id)).into(),
                entry.key.clone().into(),
            ]);
        }
        table
    }

    /// The slowest of the events that ended lately.
    pub fn slowest_table(&self) -> Table {
        let mut table = Table::new([
            column("took", "took_seconds"),
            column("ended", "finished_at"),
            column("state", "state"),
            column("key", "event_key").whole(),
        ]);
        for event in &self.slowest {
            table.add([event.took.into(), event.finished_at.into(), event.state.into(), event.key.clone().into()]);
        }
        table
    }

    /// What today has cost, by playbook and model.
    pub fn cost_table(&self) -> Table {
        let mut table = Table::new([
            column("playbook", "playbook"),
            column("model", "model"),
            column("answers", "inferences"),
            column("cost", "micro_dollars"),
        ]);
        for cost in &self.cost_today {
            table.add([
                cost.playbook.clone().into(),
                cost.model.clone().into(),
                cost.inferences.into(),
                cost.micro_dollars.map_or(Cell::Unknown, Cell::MicroDollars),
            ]);
        }
        table
    }
}
