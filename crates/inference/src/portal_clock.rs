//! The present in the portal's time zone.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
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
    known: Arc<Mutex<Known>>,
}

/// What is known of the time zone, and the question that is under way.
#[derive(Default)]
struct Known {
    zone: Option<(Instant, PortalZone)>,
    question: Option<Question>,
}

/// A question that all who need its answer wait for together.
type Question = Shared<BoxFuture<'static, Result<PortalZone, Arc<HubSpotError>>>>;

impl PortalClock {
    /// A clock that asks `hubspot` for the time zone, at its first use and once an hour.
    pub fn new(hubspot: HubSpotClient) -> Self {
        Self { hubspot, known: Arc::default() }
    }

    /// The present. Where HubSpot does not say the time zone (any more), the last known one counts, and without one UTC.
    ///
    /// # Errors
    /// The time zone was never known, and HubSpot is away or its rate limit is reached.
    pub async fn now(&self) -> Result<LocalTime, Arc<HubSpotError>> {
        let fresh =
            self.known().zone.as_ref().filter(|(until, _)| *until > Instant::now()).map(|(_, zone)| zone.clone());
        let zone = match fresh {
            Some(zone) => zone,
            None => self.question().await?,
        };
        Ok(LocalTime::new(OffsetDateTime::now_utc(), zone))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The question that is under way, or a new one. All who wait for one that fails hear of it at once, and the next who needs the
    /// time zone asks again.
    fn question(&self) -> Question {
        let mut known = self.known();
        if let Some(question) = known.question.clone().filter(|question| question.peek().is_none()) {
            return question;
        }
        let last = known.zone.as_ref().map(|(_, zone)| zone.clone());
        let clock = self.clone();
        let question = async move { clock.ask(last).await.map_err(Arc::new) }.boxed().shared();
        known.question = Some(question.clone());
        question
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
        self.known().zone = Some((Instant::now() + ttl, zone.clone()));
        Ok(zone)
    }
}

/// Whether HubSpot will say the time zone later: it is away, or a rate limit is reached. A call that it knows nothing about is no
/// outage here: what the playbooks need comes from other calls.
fn is_temporary(error: &HubSpotError) -> bool {
    let is_limited = matches!(error.retry_action(), RetryAction::RateLimited { .. });
    is_limited || (error.outage().is_some() && error.reason() != Reason::HubSpotRefused)
}
