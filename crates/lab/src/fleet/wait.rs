//! Waiting until a fleet has done something.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use domain::EventState;
use ledger::{EventStory, Ledger};

use super::Fleet;

/// A service that is not ready after this time has failed to start.
const READY_WITHIN: Duration = Duration::from_secs(120);

impl Fleet {
    /// Waits until every service reports that it is ready.
    pub async fn until_ready(&mut self) -> Result<()> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
        let started = Instant::now();
        if let Some(simulator) = &mut self.simulator_process {
            while self.simulator.deliveries().await.is_err() {
                simulator.still_runs()?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        for member in &mut self.members {
            loop {
                member.process.still_runs()?;
                let url = format!("{}/readyz", member.admin_url);
                let missing = match http.get(url).send().await {
                    Ok(response) if response.status().is_success() => break,
                    Ok(response) => response.text().await.unwrap_or_default(),
                    Err(error) => error.to_string(),
                };
                if started.elapsed() > READY_WITHIN {
                    bail!("{} is not ready: {missing}\n{}", member.process.name(), member.process.last_lines(25));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Waits until an event is in a state that `until` accepts, and returns what the ledger has about it.
    pub async fn until_event(
        &self,
        key: &str,
        until: impl Fn(EventState) -> bool,
        within: Duration,
    ) -> Result<EventStory> {
        until_event(&self.ledger, key, until, within).await
    }

    /// Waits until every event in the ledger is finished and all queues but the parking lots are empty.
    pub async fn until_idle(&self, within: Duration) -> Result<()> {
        let started = Instant::now();
        let mut idle_checks = 0;
        // A message that moves from one queue to the next is in neither for a moment, so one check is not enough.
        while idle_checks < 5 {
            let mut busy = self.depths().await?;
            busy.retain(|(name, depth)| !name.ends_with(".parked") && *depth > 0);
            let counts = self.ledger.event_counts().await?;
            let open: Vec<_> = counts.iter().filter(|count| !count.state.is_final()).collect();
            idle_checks = if busy.is_empty() && open.is_empty() { idle_checks + 1 } else { 0 };
            if started.elapsed() > within {
                bail!("after {within:?} there is still work: queues {busy:?}, events {open:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Waits until the parking lot of a stage (`leadline.events` or `leadline.writes`) holds `count` messages.
    pub async fn until_parked(&self, stage: &str, count: u32, within: Duration) -> Result<()> {
        self.until_holds(&format!("{stage}.parked"), count, within).await
    }

    /// Waits until a queue holds `count` messages.
    pub async fn until_holds(&self, name: &str, count: u32, within: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            let found =
                self.depths().await?.into_iter().find(|(queue, _)| *queue == name).map_or(0, |(_, depth)| depth);
            if found == count {
                return Ok(());
            }
            if started.elapsed() > within {
                bail!("after {within:?} {name} holds {found} messages, not {count}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The number of messages in each queue.
    async fn depths(&self) -> Result<Vec<(String, u32)>> {
        let (broker, _) = self.broker.as_ref().context("the fleet has not started")?;
        Ok(broker.queue_depths().await?.into_iter().map(|(route, depth)| (route.to_string(), depth)).collect())
    }
}

/// Waits until an event in the ledger of any fleet is in a state that `until` accepts, and returns what the ledger has about it.
pub async fn until_event(
    ledger: &Ledger,
    key: &str,
    until: impl Fn(EventState) -> bool,
    within: Duration,
) -> Result<EventStory> {
    let started = Instant::now();
    loop {
        let story = ledger.event_story(key).await?;
        if let Some(story) = &story
            && until(story.state)
        {
            return Ok(story.clone());
        }
        if started.elapsed() > within {
            let state = story.map_or_else(|| "not in the ledger".to_owned(), |story| story.state.to_string());
            bail!("after {within:?} the event {key} is {state}");
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
