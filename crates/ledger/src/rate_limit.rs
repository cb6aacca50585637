//! "May I call?" — allowances that the whole fleet shares: calls to HubSpot, requests and tokens of a model, money.
//!
//! Replicas acquire small lots; the arithmetic is in the SQL functions `acquire_quota` and `hear` (migrations), under one row
//! lock for each ask, by the database's clock.

use std::time::Duration;

use time::OffsetDateTime;

use crate::{Ledger, LedgerError, milliseconds};

/// What a budget is, before anything was learnt about it.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimitTerms {
    /// For example `hubspot/9876543/10s`.
    pub name: String,
    /// What the quota is for.
    pub window: Window,
    /// What the other side allows within the window. What its answers say outweighs this.
    pub quota: i64,
    /// The part of the quota that the fleet takes at most, above 0 and up to 1.
    pub share: f64,
}

/// What a quota is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Any time span of this length.
    Rolling(Duration),
    /// A day of the calendar, in UTC.
    Day,
}

impl Window {
    /// Slices of a rolling window: an allotment is for two of them.
    const SLICES: i32 = 200;

    fn columns(self) -> (i64, i32) {
        match self {
            Self::Rolling(length) => (i64::try_from(length.as_millis()).unwrap_or(i64::MAX), Self::SLICES),
            Self::Day => (86_400_000, 1),
        }
    }
}

/// A wish to acquire from several budgets at once, and news about them. All lists are in the order of the budgets.
#[derive(Debug, Clone)]
pub struct AcquireRequest<'a> {
    /// Their names.
    pub names: &'a [String],
    /// At least this much of each, or nothing of any.
    pub need: &'a [i64],
    /// At most this much of each.
    pub want: &'a [i64],
    /// The part of the budgets that this lane may use up: what is left is for others.
    pub usable_share: f64,
    /// What the other side said.
    pub observed: &'a [Option<ObservedQuota>],
    /// How long nobody may acquire, after a refusal.
    pub pause: Option<Duration>,
    /// What was acquired and not used.
    pub refunds: &'a [Refund],
}

/// What an answer said about a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedQuota {
    /// The quota.
    pub quota: i64,
    /// What is left of it.
    pub remaining: i64,
    /// How long ago the call was sent that was answered.
    pub age: Duration,
}

/// Something that is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refund {
    /// The budget's place in the list of names, from 0.
    pub limit: usize,
    /// The slice in which it was acquired.
    pub slice: i64,
    /// How much; negative when more was used than acquired.
    pub amount: i64,
}

/// What was lent.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// Of each budget; all zero when at least one could not give what was needed.
    pub granted: Vec<i64>,
    /// The slices that it was acquired in.
    pub slices: Vec<i64>,
    /// How long each is worth anything, from the moment of the ask.
    pub valid: Vec<Duration>,
    /// What the fleet takes within each window, now.
    pub allowed: Vec<i64>,
    /// When to ask again, if nothing was lent.
    pub wait: Duration,
}

/// How a budget stands.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimitEntry {
    /// Its name.
    pub name: String,
    /// What the other side allows within the window.
    pub quota: i64,
    /// What the fleet takes at most, now.
    pub allowed: i64,
    /// What it has taken within the window.
    pub used: i64,
    /// Until when nobody may acquire, after a refusal.
    pub held_until: Option<OffsetDateTime>,
    /// How often the other side refused.
    pub rejections: i64,
}

impl Ledger {
    /// Makes budgets known. Those that exist keep what they have learnt.
    pub async fn define_rate_limits(&self, terms: &[RateLimitTerms]) -> Result<(), LedgerError> {
        let windows = || terms.iter().map(|terms| terms.window.columns());
        sqlx::query!(
            r#"select define_rate_limit(input.name, input.window_ms, input.slices, input.share, input.quota)::text as "_done"
               from unnest($1::text[], $2::bigint[], $3::int[], $4::float8[], $5::bigint[])
                    as input (name, window_ms, slices, share, quota)
               order by input.name"#,
            &terms.iter().map(|terms| terms.name.clone()).collect::<Vec<_>>(),
            &windows().map(|(length, _)| length).collect::<Vec<_>>(),
            &windows().map(|(_, slices)| slices).collect::<Vec<_>>(),
            &terms.iter().map(|terms| terms.share).collect::<Vec<_>>(),
            &terms.iter().map(|terms| terms.quota).collect::<Vec<_>>(),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(())
    }

    /// Borrows, and passes on the news.
    ///
    /// # Errors
    /// Also when a budget is not known: [`Ledger::define_rate_limits`] comes first.
    pub async fn acquire_quota(&self, ask: &AcquireRequest<'_>) -> Result<Grant, LedgerError> {
        let quotas: Vec<_> = ask.observed.iter().map(|heard| heard.map(|heard| heard.quota)).collect();
        let remaining: Vec<_> = ask.observed.iter().map(|heard| heard.map(|heard| heard.remaining)).collect();
        let ages: Vec<_> = ask.observed.iter().map(|heard| heard.map(|heard| milliseconds(heard.age))).collect();
        let place = |back: &Refund| i32::try_from(back.limit + 1).unwrap_or(i32::MAX);
        let row = sqlx::query!(
            r#"select granted as "granted!", slices as "slices!", allowances as "allowances!", valid_ms as "valid_ms!",
                      wait_ms as "wait_ms!"
               from acquire_quota($1::text[], $2::bigint[], $3::bigint[], $4::float8, $5::bigint[], $6::bigint[], $7::float8[],
                           $8::float8, $9::int[], $10::bigint[], $11::bigint[])"#,
            ask.names,
            ask.need,
            ask.want,
            ask.usable_share,
            &quotas as &[Option<i64>],
            &remaining as &[Option<i64>],
            &ages as &[Option<f64>],
            ask.pause.map(milliseconds) as Option<f64>,
            &ask.refunds.iter().map(place).collect::<Vec<_>>(),
            &ask.refunds.iter().map(|back| back.slice).collect::<Vec<_>>(),
            &ask.refunds.iter().map(|back| back.amount).collect::<Vec<_>>(),
        )
        .fetch_one(&self.pool)
        .await?;
        let duration = |milliseconds: f64| Duration::from_secs_f64(milliseconds.max(0.0) / 1_000.0);
        Ok(Grant {
            granted: row.granted,
            slices: row.slices,
            allowed: row.allowances,
            valid: row.valid_ms.into_iter().map(duration).collect(),
            wait: duration(row.wait_ms),
        })
    }

    /// How all budgets stand.
    pub async fn rate_limits(&self) -> Result<Vec<RateLimitEntry>, LedgerError> {
        Ok(sqlx::query_as!(
            RateLimitEntry,
            r#"select name as "name!", quota as "quota!", allowed as "allowed!", used as "used!", held_until,
                      rejections as "rejections!"
               from rate_limits order by name"#
        )
        .fetch_all(&self.pool)
        .await?)
    }
}
