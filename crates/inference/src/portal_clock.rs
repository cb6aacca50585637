//! The present in the portal's time zone.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hubspot::{HubSpotClient, HubSpotError};
use playbook::{LocalTime, PortalZone};
use retry::{Failure, RetryAction};
use time::OffsetDateTime;
use tokio::sync::Mutex;

/// How long the portal's time zone is taken for granted. People rarely change it.
const TTL: Duration = Duration::from_secs(3_600);

/// Knows the portal's time zone. Cheap to clone; clones share what they know.
#[derive(Clone)]
pub struct PortalClock {
    hubspot: HubSpotClient,
    zone: Arc<Mutex<Option<(Instant, PortalZone)>>>,
}

impl PortalClock {
    /// A clock that asks `hubspot` for the time zone, at its first use and once an hour.
    pub fn new(hubspot: HubSpotClient) -> Self {
        Self { hubspot, zone: Arc::default() }
    }

    /// The present. Where HubSpot does not say the time zone (any more), the last known one counts, and without one UTC.
    ///
    /// # Errors
    /// The time zone was never known, and HubSpot may say it later.
    pub async fn now(&self) -> Result<LocalTime, HubSpotError> {
        let mut known = self.zone.lock().await;
        let zone = match &*known {
            Some((asked_at, zone)) if asked_at.elapsed() < TTL => zone.clone(),
            stale => {
                let last = stale.as_ref().map(|(_, zone)| zone.clone());
                let zone = self.ask(last).await?;
                *known = Some((Instant::now(), zone.clone()));
                zone
            }
        };
        Ok(LocalTime::new(OffsetDateTime::now_utc(), zone))
    }

    async fn ask(&self, last: Option<PortalZone>) -> Result<PortalZone, HubSpotError> {
        let account = match self.hubspot.account().await {
            Ok(account) => account,
            Err(error) => {
                let is_refused = error.retry_action() == RetryAction::Park;
                let otherwise = last.or_else(|| is_refused.then(PortalZone::utc));
                tracing::warn!(%error, zone = ?otherwise, "HubSpot does not say the portal's time zone");
                return otherwise.ok_or(error);
            }
        };
        Ok(PortalZone::named(&account.time_zone).unwrap_or_else(|error| {
            tracing::warn!(%error, "the portal's days are counted in UTC");
            PortalZone::utc()
        }))
    }
}
