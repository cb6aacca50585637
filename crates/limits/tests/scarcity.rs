//! How much longer batches wait where calls to HubSpot are scarce.
#![allow(clippy::expect_used, reason = "these are tests")]

use std::time::{Duration, Instant};

use ledger::{Ledger, LedgerSettings, PoolMode};
use limits::{Lane, RateLimiters};
use retry::{HUBSPOT_ASSOCIATIONS, SharedRateLimiter};
use settings::Settings;

const MINUTE: Duration = Duration::from_secs(60);

/// The key of calls that count against the limit of all calls alone.
const ALL: &str = "";

/// Limiters of a portal that allows a thousand calls in ten seconds, and eight of the association endpoints.
async fn limiters() -> RateLimiters {
    let ledger = Ledger::connect(&LedgerSettings {
        url: testbed::database().await.expect("a database").url.into(),
        application_name: "tests".to_owned(),
        max_connections: 4,
        acquire_timeout: MINUTE,
        statement_timeout: MINUTE,
        pool_mode: PoolMode::Session,
    });
    let mut settings = Settings::default();
    settings.hubspot.portal_id = Some(1);
    settings.rate_limit.hubspot_calls_per_10s = 1_000;
    settings.rate_limit.hubspot_association_calls_per_10s = 8;
    settings.rate_limit.hubspot_share = 1.0;
    settings.rate_limit.batch_linger_at_limit_ms = 5_000;
    RateLimiters::new(&settings, &ledger.expect("a URL")).expect("a portal")
}

/// Makes calls of the association endpoints until batches of them wait longer.
async fn make_scarce(limiter: &SharedRateLimiter) {
    let began = Instant::now();
    while limiter.extra_linger(HUBSPOT_ASSOCIATIONS).is_zero() {
        assert!(began.elapsed() < MINUTE, "calls are scarce within a minute");
        limiter.acquire(HUBSPOT_ASSOCIATIONS, 1).await.expect("a call");
    }
}

#[tokio::test]
async fn batches_wait_where_a_limit_is_nearly_used_up_and_only_those_that_it_is_for() {
    let limiters = limiters().await;
    let limiter = limiters.hubspot(Lane::Live);
    limiter.acquire(HUBSPOT_ASSOCIATIONS, 1).await.expect("a call");
    assert_eq!(limiter.extra_linger(HUBSPOT_ASSOCIATIONS), Duration::ZERO, "little is used");
    make_scarce(&limiter).await;
    assert_eq!(limiter.extra_linger(ALL), Duration::ZERO, "of the limit of all calls little is used");
}

#[tokio::test]
async fn calls_of_a_backfill_are_scarce_where_its_part_of_the_limit_is_used() {
    let limiters = limiters().await;
    let (live, backfill) = (limiters.hubspot(Lane::Live), limiters.hubspot(Lane::Backfill));
    // Half of the limit is the backfill's, which takes more than half of it.
    make_scarce(&backfill).await;
    live.acquire(HUBSPOT_ASSOCIATIONS, 1).await.expect("a call");
    assert_eq!(live.extra_linger(HUBSPOT_ASSOCIATIONS), Duration::ZERO, "live calls may use all of it");
}
