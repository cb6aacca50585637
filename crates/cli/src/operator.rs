//! What every operator's command on the running fleet needs: the ledger, RabbitMQ, and how tables scan.

use std::path::Path;

use anyhow::Context;
use broker::{Connection, Publisher};
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use ledger::Ledger;
use settings::{ConfigScope, Settings};
use time::{OffsetDateTime, macros::format_description};

/// Connections of one command.
pub struct Operator {
    pub settings: Settings,
    pub ledger: Ledger,
    pub link: Connection,
    pub publisher: Publisher,
}

impl Operator {
    /// Connects, and says so when RabbitMQ is not there: an operator should not wait for it.
    pub async fn connect(file: Option<&Path>) -> anyhow::Result<Self> {
        let settings = Settings::load(file, ConfigScope::LedgerAndBroker)?;
        let ledger = ledger(&settings)?;
        let broker = bootstrap::broker_settings(&settings, "leadline").map_err(anyhow::Error::msg)?;
        let link = Connection::open(broker.clone()).await?;
        anyhow::ensure!(link.is_ready(), "RabbitMQ is not reached (broker.url), or blocks publishers");
        let publisher = Publisher::open(broker).await?;
        Ok(Self { settings, ledger, link, publisher })
    }
}

/// The ledger alone.
pub fn ledger(settings: &Settings) -> anyhow::Result<Ledger> {
    bootstrap::connect_ledger(settings, "leadline").map_err(anyhow::Error::msg)
}

/// The settings of a command that needs only the ledger, and the ledger.
pub fn with_ledger(file: Option<&Path>) -> anyhow::Result<(Settings, Ledger)> {
    let settings = Settings::load(file, ConfigScope::LedgerOnly).context("settings")?;
    let ledger = ledger(&settings)?;
    Ok((settings, ledger))
}

/// A table with this header.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header.iter().copied());
    table
}

/// A moment, in UTC, to the millisecond.
pub fn clock(at: OffsetDateTime) -> String {
    at.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:3]"))
        .unwrap_or_default()
}
