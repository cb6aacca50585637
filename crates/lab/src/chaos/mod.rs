//! `cargo xtask chaos`: the real fleet under a steady load, fault after fault, and the invariants checked at the end:
//! nothing lost, nothing twice.

mod account;
mod cluster;
mod faults;
mod invariants;
mod load;
mod phases;
mod plan;
mod report;
mod reviewer;
mod schedule;
mod trust;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use lab::{Fleet, cases::declines};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use sqlx::PgPool;
use testbed::{On, Replication, Role, Services, TestNamespace, step};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use cluster::ClusterFault;
use faults::{ChaosFault, GRACEFUL, Injected, Targets};
use load::{Load, Sent};
use phases::Refused;
use plan::Proxies;
use schedule::Schedule;

/// The options of `cargo xtask chaos`.
#[derive(clap::Args, Clone)]
pub struct ChaosOptions {
    /// How long faults are injected.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The seed of the random choices: the same seed gives the same sequence of faults. A run prints its seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Only faults whose name contains this, for example `RabbitMQ`.
    #[arg(long)]
    only: Option<String>,
    /// Postgres has a standby with synchronous replication, and promoting it is one of the faults.
    #[arg(long, conflicts_with_all = ["cluster", "on"])]
    standby: bool,
    /// Events per second.
    #[arg(long, default_value_t = 15.0)]
    load: f64,
    /// RabbitMQ has three nodes, and the faults are those of such a cluster.
    #[arg(long, conflicts_with = "on")]
    cluster: bool,
    /// What RabbitMQ and Postgres run on: `containers`, `private`, `environment`, or their URLs, separated by commas. Those that run
    /// already are not killed.
    #[arg(long)]
    on: Option<On>,
}

impl ChaosOptions {
    /// The faults of a run on `services`.
    fn faults(&self, services: &Services) -> Vec<ChaosFault> {
        if self.cluster {
            return ClusterFault::ALL.map(ChaosFault::Cluster).into();
        }
        let (possible, left_out): (Vec<_>, Vec<_>) =
            ChaosFault::ALL.into_iter().partition(|fault| services.may_be_killed() || !fault.breaks_services());
        let possible =
            possible.into_iter().filter(|fault| self.standby || *fault != ChaosFault::PromoteStandby).collect();
        for fault in left_out {
            println!("  left out, because others may use the services: {fault}");
        }
        possible
    }

    /// The arguments that choose what it runs on.
    fn target(&self) -> String {
        match &self.on {
            Some(On::Urls(_)) => " --on URLS".to_owned(),
            Some(on) => format!(" --on {on}"),
            None if self.cluster => " --cluster".to_owned(),
            None if self.standby => " --standby".to_owned(),
            None => String::new(),
        }
    }
}

/// The next event is written within this time after a fault, or the run fails.
const RECOVERED_WITHIN: Duration = Duration::from_secs(60);

/// What is unfinished after the last fault is finished within this time, or the run fails.
const SETTLED_WITHIN: Duration = Duration::from_secs(180);

pub async fn run(options: &ChaosOptions) -> Result<()> {
    let seed = options.seed.unwrap_or_else(|| OffsetDateTime::now_utc().unix_timestamp().unsigned_abs());
    println!("chaos for {} minutes, seed {seed}", options.minutes);
    let result = run_with_seed(options, seed).await;
    if result.is_err() {
        let target = options.target();
        eprintln!("\nto repeat it: cargo xtask chaos --minutes {} --seed {seed}{target}", options.minutes);
    }
    result
}

async fn run_with_seed(options: &ChaosOptions, seed: u64) -> Result<()> {
    let mut services = if options.cluster {
        Services::private_cluster().await?
    } else if options.standby {
        Services::with_standby(Replication::Synchronous).await?
    } else {
        Services::for_chaos(options.on.as_ref()).await?
    };
    let schedule = Schedule::new(options.faults(&services), options.only.as_deref());
    let schedule = schedule.context("no fault has such a name")?;
    let namespace = TestNamespace::new(&services).await?;
    let simulator_port = testbed::free_port()?;
    let proxies = Proxies::start(&namespace, simulator_port).await?;
    let plan = plan::plan(&namespace, simulator_port, &proxies)?;
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(4).connect_lazy(&namespace.postgres_url)?;
    let what = "2 receivers, 3 inferences, 2 writers, the simulator";
    let mut fleet = step(what, Fleet::start(namespace, &plan)).await?;
    fleet.simulator.fault(&declines()).await?;

    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let load = Load::prepare(fleet.simulator.clone(), fleet.receivers()).await?;
    let start = trust::contacts(&fleet).await?;
    let stop_sending = CancellationToken::new();
    let sending = {
        let (load, random, stop, rate) = (load.clone(), random.fork(), stop_sending.clone(), options.load);
        tokio::spawn(async move { load.run(random, rate, stop).await })
    };
    let stop_reviewing = CancellationToken::new();
    let stops = (stop_sending.clone(), stop_reviewing.clone());
    let reviewing =
        tokio::spawn(reviewer::decide(fleet.leadline_of(Role::Operator)?, pool.clone(), random.fork(), stops));
    let deadline = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let mut targets = Targets { services: &mut services, fleet: &mut fleet, proxies };
    let injected = inject_until(deadline, schedule, &mut targets, &load, &pool, &mut random).await;
    stop_sending.cancel();
    let stopped_sending = Instant::now();
    let logs = format!("the logs are in target/fleet/{}", targets.fleet.namespace.name);
    let injected = injected.inspect_err(|_| targets.fleet.keep_logs()).context(logs.clone())?;
    let answered = step("every webhook is answered 200", async {
        tokio::time::timeout(SETTLED_WITHIN, sending).await.context("some webhooks are still refused")??
    });
    let settled = async {
        answered.await?;
        step("no event is unfinished and no proposal waits", targets.fleet.until_idle(SETTLED_WITHIN)).await?;
        step("no record is to be verified", until_verified(&pool)).await
    };
    // Not returned at once: the report of the invariants shows what is unfinished.
    let unsettled = settled.await.err();
    stop_reviewing.cancel();
    reviewing.await?;
    let sent = load.all_sent();
    let mut invariants = invariants::check(targets.fleet, &pool, &sent).await?;
    let is_settled = unsettled.is_none();
    invariants.wrong.extend(unsettled.map(|error| format!("{error:#}")));
    if is_settled {
        let what = "every value is explained, and everything is undone";
        let trust = step(what, trust::check(targets.fleet, &pool, start, &mut invariants.wrong)).await?;
        println!("  {trust}");
    }
    for one in injected.iter().filter(|one| one.course.stop.is_some_and(|stop| stop.was_killed)) {
        invariants.wrong.push(format!("{}: the process did not end within {GRACEFUL:?}", one.fault));
    }
    let refused = refused(&injected, &sent, stopped_sending);
    for (fault, refused) in refused.iter().filter(|(_, refused)| refused.until > refused.bound) {
        let (until, bound) = (refused.until.as_secs_f64(), refused.bound);
        invariants.wrong.push(format!("{fault}: webhooks were refused for {until:.2} s, and may be for {bound:?}"));
    }
    let memory = targets.fleet.peak_memory("leadline-receiver");
    let is_clean = report::print(&injected, &refused, &invariants, &sent, memory);
    if !is_clean {
        targets.fleet.keep_logs();
        bail!("an event was lost or doubled, or an invariant does not hold; {logs}");
    }
    if !services.may_be_killed() {
        let namespace = fleet.namespace.clone();
        drop(fleet);
        namespace.remove().await?;
    }
    Ok(())
}

/// Injects one fault after the other until `deadline`.
async fn inject_until(
    deadline: Instant,
    mut schedule: Schedule,
    targets: &mut Targets<'_>,
    load: &Load,
    ledger: &PgPool,
    random: &mut Xoshiro256PlusPlus,
) -> Result<Vec<Injected>> {
    let mut injected = Vec::new();
    // Events have to be in flight at the first fault.
    tokio::time::sleep(Duration::from_secs(3)).await;
    while Instant::now() < deadline {
        let fault = schedule.next(random);
        let in_flight = in_flight(load, ledger).await?;
        let course = targets.inject(fault, random).await.with_context(|| fault.to_string())?;
        let recovery = recovery(ledger).await.with_context(|| format!("after {fault}"))?;
        eprintln!("  ⚡ {fault}: {} in flight, recovered after {:.1} s", in_flight.len(), recovery.as_secs_f64());
        injected.push(Injected { fault, in_flight, recovery, course });
        tokio::time::sleep(Duration::from_millis(random.random_range(500..2_500))).await;
    }
    Ok(injected)
}

/// How long webhooks were refused by a fleet whose cluster had a majority, in each phase of each fault.
fn refused(injected: &[Injected], sent: &Sent, end: Instant) -> Vec<(ChaosFault, Refused)> {
    let phases: Vec<_> =
        injected.iter().flat_map(|one| one.course.phases.iter().map(|phase| (one.fault, *phase))).collect();
    let (faults, phases): (Vec<_>, Vec<_>) = phases.into_iter().unzip();
    phases::refused(&phases, &sent.rejected_at, end)
        .into_iter()
        .map(|(phase, refused)| (faults[phase], refused))
        .collect()
}

/// The keys of events that have been accepted and are not finished.
async fn in_flight(load: &Load, ledger: &PgPool) -> Result<HashSet<String>> {
    let finished: Vec<String> =
        sqlx::query_scalar("select event_key from event where finished_at is not null").fetch_all(ledger).await?;
    let finished: HashSet<_> = finished.into_iter().collect();
    Ok(load.sent().accepted.difference(&finished).cloned().collect())
}

/// Waits until an event is written from now on; returns how long that took.
async fn recovery(ledger: &PgPool) -> Result<Duration> {
    let started = Instant::now();
    let since: OffsetDateTime = sqlx::query_scalar("select clock_timestamp()").fetch_one(ledger).await?;
    loop {
        let written: bool =
            sqlx::query_scalar("select exists (select from event where state = 'written' and finished_at > $1)")
                .bind(since)
                .fetch_one(ledger)
                .await?;
        if written {
            return Ok(started.elapsed());
        }
        if started.elapsed() > RECOVERED_WITHIN {
            bail!("no event was written for {RECOVERED_WITHIN:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until no record's last write is in doubt.
async fn until_verified(ledger: &PgPool) -> Result<()> {
    let started = Instant::now();
    loop {
        let left: i64 = sqlx::query_scalar("select count(*) from record_lease where verify").fetch_one(ledger).await?;
        if left == 0 {
            return Ok(());
        }
        if started.elapsed() > SETTLED_WITHIN {
            bail!("{left} records are still to be verified");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
