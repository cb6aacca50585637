//! May the fleet make this call, or spend this money? Limits that all replicas share: calls to HubSpot, requests and tokens
//! of a model, money.
//!
//! Replicas acquire small grants. The arithmetic is in the SQL functions `acquire_quota` and `observe_rate_limit`
//! (migrations), by the database's clock, under a lock for each limit. A call that is granted nothing, and reports
//! nothing, writes nothing.

use std::time::Duration;

use time::OffsetDateTime;

use crate::{Ledger, LedgerError, milliseconds, seconds};

/// A limit as it is configured.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimitTerms {
    /// Its name, for example `hubspot/9876543/10s`.
    pub name: String,
    /// The time span that the quota is for.
    pub window: Window,
    /// What the other side allows within the window. The quota that its answers name outweighs this.
    pub quota: i64,
    /// The part of the quota that the fleet takes at most, above 0 and up to 1.
    pub share: f64,
}

/// The time span that a quota is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Every span of this length.
    Rolling(Duration),
    /// A calendar day in UTC.
    Day,
}

impl Window {
    /// Slices of a rolling window. A grant is valid in two of them.
    const SLICES: u32 = 200;

    /// How long a slice is. A day is not sliced.
    pub fn slice(self) -> Option<Duration> {
        match self {
            Self::Rolling(length) => Some(length / Self::SLICES),
            Self::Day => None,
        }
    }

    fn columns(self) -> (i64, i32) {
        match self {
            Self::Rolling(length) => {
                (i64::try_from(length.as_millis()).unwrap_or(i64::MAX), Self::SLICES.cast_signed())
            }
            Self::Day => (86_400_000, 1),
        }
    }
}

/// What a caller wants to acquire from several limits at once, and what it knows about them. All lists but `refunds` are
/// in the order of `names`.
#[derive(Debug, Clone)]
pub struct AcquireRequest<'a> {
    /// The names of the limits.
    pub names: &'a [String],
    /// The least amount of each; nothing is granted of any limit unless all can give this.
    pub need: &'a [i64],
    /// The largest amount of each.
    pub want: &'a [i64],
    /// The part of each limit that this caller may use up, above 0 and up to 1; below 1 for backfill, which leaves the rest
    /// to live events.
    pub usable_share: f64,
    /// What answers said of quota and remaining since the last call.
    pub observed: &'a [Option<ObservedQuota>],
    /// After a rejection (429) because of the first limit: for how long nothing is to be granted of it.
    pub pause: Option<Duration>,
    /// What was acquired before and not used.
    pub refunds: &'a [Refund],
}

/// What an answer said about a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedQuota {
    /// The quota.
    pub quota: i64,
    /// What was left of it.
    pub remaining: i64,
    /// How long ago the call was sent that the answer is for.
    pub age: Duration,
}

/// An amount that is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refund {
    /// The index of the limit in `AcquireRequest::names`, from 0.
    pub limit: usize,
    /// The slice in which it was acquired.
    pub slice: i64,
    /// The amount; negative when more was used than was acquired.
    pub amount: i64,
}

/// What was granted.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The amount of each limit; all zero when at least one could not give what was needed.
    pub granted: Vec<i64>,
    /// The slice of each limit that the amount is booked in; a [`Refund`] names it.
    pub slices: Vec<i64>,
    /// For how long each amount may be used, counted from the moment before the call.
    pub valid: Vec<Duration>,
    /// What the fleet takes within each window at the moment.
    pub allowed: Vec<i64>,
    /// Which part of what it may take the fleet had taken within the window when this call began: 0 is nothing, 1 is all of it, also where
    /// it may take nothing. It is more than 1 after `allowed` has become less.
    pub used_share: Vec<f64>,
    /// When to call again, if nothing was granted.
    pub wait: Duration,
}

/// The usage of a limit on calls or tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimitEntry {
    /// Its name.
    pub name: String,
    /// What the other side allows within the window.
    pub quota: i64,
    /// What the fleet takes within the window at most, at the moment.
    pub allowed: i64,
    /// What it has taken within the window that ends now.
    pub used: i64,
    /// Nothing is granted until then, after a rejection.
    pub held_until: Option<OffsetDateTime>,
    /// How often the other side rejected a call because of it.
    pub rejections: i64,
}

/// The usage of a limit on money, for the current day in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendLimitEntry {
    /// Its name.
    pub name: String,
    /// The playbook; `None` for the limit of all playbooks together.
    pub playbook: Option<String>,
    /// The limit, in 10⁻⁶ $.
    pub micro_dollars_per_day: i64,
    /// What was spent or is set aside, in 10⁻⁶ $.
    pub micro_dollars_spent: i64,
}

impl Ledger {
    /// Creates limits that do not exist, and changes the settings of those that do. What was learnt from answers stays.
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
        .fetch_all(&self.connections)
        .await?;
        Ok(())
    }

    /// Acquires amounts of limits, and reports what the caller knows about them.
    ///
    /// # Errors
    /// Also when a limit was not defined before by [`Ledger::define_rate_limits`].
    pub async fn acquire_quota(&self, request: &AcquireRequest<'_>) -> Result<Grant, LedgerError> {
        let quotas: Vec<_> = request.observed.iter().map(|seen| seen.map(|seen| seen.quota)).collect();
        let remaining: Vec<_> = request.observed.iter().map(|seen| seen.map(|seen| seen.remaining)).collect();
        let ages: Vec<_> = request.observed.iter().map(|seen| seen.map(|seen| milliseconds(seen.age))).collect();
        let index = |refund: &Refund| i32::try_from(refund.limit + 1).unwrap_or(i32::MAX);
        let row = sqlx::query!(
            r#"select granted as "granted!", slices as "slices!", allowed as "allowed!", valid_ms as "valid_ms!",
                      wait_ms as "wait_ms!",
                      array(select coalesce(quota_used(l, now_slice - l.slices, now_slice)::float8 / nullif(l.allowed, 0), 1)
                            from unnest($1::text[]) with ordinality as asked (name, place)
                            join rate_limit l using (name),
                            lateral (select greatest(l.slice, floor(extract(epoch from clock_timestamp()) * 1000 * l.slices
                                            / l.window_ms)::bigint) as now_slice) as now
                            order by place) as "used_share!"
               from acquire_quota($1::text[], $2::bigint[], $3::bigint[], $4::float8, $5::bigint[], $6::bigint[], $7::float8[],
                           $8::float8, $9::int[], $10::bigint[], $11::bigint[])"#,
            request.names,
            request.need,
            request.want,
            request.usable_share,
            &quotas as &[Option<i64>],
            &remaining as &[Option<i64>],
            &ages as &[Option<f64>],
            request.pause.map(milliseconds) as Option<f64>,
            &request.refunds.iter().map(index).collect::<Vec<_>>(),
            &request.refunds.iter().map(|refund| refund.slice).collect::<Vec<_>>(),
            &request.refunds.iter().map(|refund| refund.amount).collect::<Vec<_>>(),
        )
        .fetch_one(&self.connections)
        .await?;
        let duration = |milliseconds: f64| seconds(milliseconds / 1_000.0);
        Ok(Grant {
            granted: row.granted,
            slices: row.slices,
            allowed: row.allowed,
            used_share: row.used_share,
            valid: row.valid_ms.into_iter().map(duration).collect(),
            wait: duration(row.wait_ms),
        })
    }

    /// The usage of every limit on calls and tokens.
    pub async fn rate_limits(&self) -> Result<Vec<RateLimitEntry>, LedgerError> {
        Ok(sqlx::query_as!(
            RateLimitEntry,
            r#"select name as "name!", quota as "quota!", allowed as "allowed!", used as "used!", held_until,
                      rejections as "rejections!"
               from rate_limits order by name"#
        )
        .fetch_all(&self.connections)
        .await?)
    }

    /// The usage of every limit on money.
    pub async fn spend_limits(&self) -> Result<Vec<SpendLimitEntry>, LedgerError> {
        Ok(sqlx::query_as!(
            SpendLimitEntry,
            r#"select name as "name!", playbook, micro_dollars_per_day as "micro_dollars_per_day!",
                      micro_dollars_spent as "micro_dollars_spent!"
               from spend_limits order by name"#
        )
        .fetch_all(&self.connections)
        .await?)
    }
}
