//! `demo --running`: the cases of the demo on a fleet that runs already, for example in containers.

use std::time::Instant;

use anyhow::{Result, ensure};
use lab::{
    SimulatorClient,
    cases::{cases, declines},
};
use settings::{ConfigScope, Settings};

use super::{outcomes, score::Score, webhooks};

pub async fn run(simulator: &str) -> Result<()> {
    let settings = Settings::load(None, ConfigScope::LedgerOnly)?;
    let ledger = bootstrap::connect_ledger(&settings, "leadline-demo").map_err(anyhow::Error::msg)?;
    let simulator = SimulatorClient::new(simulator.to_owned());
    let started = Instant::now();
    let cases = cases();
    for contact in cases.iter().filter_map(|case| case.contact.as_ref()) {
        simulator.put_contact(contact).await?;
    }
    simulator.fault(&declines()).await?;
    let mut score = Score::default();
    webhooks(&simulator, &cases, &mut score).await?;
    outcomes(&ledger, &cases, &mut score).await?;
    score.print(started.elapsed());
    ensure!(score.unexpected.is_empty(), "{} outcomes were not as expected", score.unexpected.len());
    Ok(())
}
