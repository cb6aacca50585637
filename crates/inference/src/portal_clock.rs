//! The present in the portal's time zone.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use batcher::SharedCall;
use hubspot::{HubSpotClient, HubSpotError};
use playbook::{LocalTime, PortalZone};
use retry::{Failure, Reason, RetryAction};
use time::OffsetDateTime;

/// How long the portal's time zone is taken for granted. People rarely change it.
const TTL: Duration = Duration::from_secs(3_600);

/// How long HubSpot is not asked again after it has not said the time zone.
const FALLBACK_TTL: Duration = Duration::from_secs(60);

/// Knows the portal's time zone. Cheap to clone; clones share what they know.
#[derive(Clone)]
pub struct PortalClock {
    hubspot: HubSpotClient,
    /// The time zone, and until when it is taken for granted.
    known: Arc<Mutex<Option<(Instant, PortalZone)>>>,
    question: Arc<SharedCall<PortalZone, HubSpotError>>,
}

impl PortalClock {
    /// A clock that asks `hubspot` for the time zone, at its first use and once an hour.
    pub fn new(hubspot: HubSpotClient) -> Self {
        Self { hubspot, known: Arc::default(), question: Arc::default() }
    }

    /// The present. Where HubSpot does not say the time zone (any more), the last known one counts, and without one UTC.
    ///
    /// # Errors
    /// The time zone was never known, and HubSpot is away or its rate limit is reached.
    pub async fn now(&self) -> Result<LocalTime, Arc<HubSpotError>> {
        let last = self.known().clone();
        let zone = match last {
            Some((until, zone)) if until > Instant::now() => zone,
            last => {
                let clock = self.clone();
                let ask = async move { clock.ask(last.map(|(_, zone)| zone)).await };
                // Boxed: it is asked once an hour.
                Box::pin(self.question.join(ask)).await?
            }
        };
        Ok(LocalTime::new(OffsetDateTime::now_utc(), zone))
    }

    fn known(&self) -> MutexGuard<'_, Option<(Instant, PortalZone)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, last: Option<PortalZone>) -> Result<PortalZone, HubSpotError> {
        let (zone, ttl) = match self.hubspot.account().await.map(|account| account.time_zone) {
            Ok(Some(name)) => match PortalZone::named(&name) {
                Ok(zone) => (zone, TTL),
                Err(error) => {
                    tracing::warn!(%error, "the portal's days are counted in UTC");
                    (PortalZone::utc(), TTL)
                }
            },
            Ok(None) => {
                tracing::warn!("HubSpot's description of the portal has no time zone");
                (last.unwrap_or_else(PortalZone::utc), FALLBACK_TTL)
            }
            Err(error) => {
                let otherwise = last.or_else(|| (!is_temporary(&error)).then(PortalZone::utc));
                tracing::warn!(%error, zone = ?otherwise, "HubSpot does not say the portal's time zone");
                (otherwise.ok_or(error)?, FALLBACK_TTL)
            }
        };
        *self.known() = Some((Instant::now() + ttl, zone.clone()));
        Ok(zone)
    }
}

/// Whether HubSpot will say the time zone later: it is away, or a rate limit is reached. A call that it knows nothing about is no
/// outage here: what the playbooks need comes from other calls.
fn is_temporary(error: &HubSpotError) -> bool {
    let is_limited = matches!(error.retry_action(), RetryAction::RateLimited { .. });
    is_limited || (error.outage().is_some() && error.reason() != Reason::HubSpotRefused)
}
