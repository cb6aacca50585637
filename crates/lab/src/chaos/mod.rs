//! `cargo xtask chaos`: the real fleet under a steady load, while everything breaks, and an invariants at the end: nothing
//! lost, nothing twice.

mod dice;
mod injections;
mod invariants;
mod load;
mod report;

use std::{
    collections::HashSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use lab::{Fleet, FleetPlan, Proxy, cases::declines};
use sqlx::PgPool;
use testbed::{Services, TestNamespace, step, workspace};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use dice::Dice;
use injections::{FaultInjection, Shown, Targets};
use load::Load;

/// What it can be told.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// How long faults injection.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Which faults injection when; a run says its seed, so that it can be repeated.
    #[arg(long)]
    seed: Option<u64>,
    /// Only faults whose name contains this, for example `RabbitMQ`.
    #[arg(long)]
    only: Option<String>,
    /// Events a second.
    #[arg(long, default_value_t = 15.0)]
    load: f64,
}

/// The fleet has taken up again within this time after a fault, or something is wrong.
const RECOVERED_WITHIN: Duration = Duration::from_secs(60);

/// What is unfinished when the faults are over ends within this time.
const SETTLED_WITHIN: Duration = Duration::from_secs(180);

/// One injection, and what it met.
pub struct Struck {
    pub injection: FaultInjection,
    /// Events that had been accepted and were not finished.
    pub in_flight: HashSet<String>,
    /// From the fault's end until the next event was written.
    pub recovery: Duration,
    pub shown: Shown,
}

pub async fn run(options: &Options) -> Result<()> {
    let seed = options.seed.unwrap_or_else(|| OffsetDateTime::now_utc().unix_timestamp().unsigned_abs());
    println!("chaos for {} minutes, seed {seed}", options.minutes);
    let result = storm(options, seed).await;
    if result.is_err() {
        eprintln!("\nto repeat it: cargo xtask chaos --minutes {} --seed {seed}", options.minutes);
    }
    result
}

async fn storm(options: &Options, seed: u64) -> Result<()> {
    let mut services = Services::private("", "").await?;
    let namespace = TestNamespace::new(&services).await?;
    let simulator_port = testbed::free_port()?;
    let broker = Proxy::to(host_of(&namespace.amqp_url)).await?;
    let ledger = Proxy::to(host_of(&namespace.postgres_url)).await?;
    let apis = Proxy::to(format!("127.0.0.1:{simulator_port}")).await?;
    let plan = plan(&namespace, simulator_port, [&broker, &ledger, &apis])
        .with("inference.playbooks", &playbooks(&namespace.name)?.display().to_string());
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(4).connect_lazy(&namespace.postgres_url)?;
    let what = "2 receivers, 3 inferences, 2 writers, the simulator";
    let mut fleet = step(what, Fleet::start(namespace, &plan)).await?;
    fleet.simulator.fault(&declines()).await?;

    let mut dice = Dice::new(seed);
    let load = Load::prepare(fleet.simulator.clone(), fleet.receivers()).await?;
    let calm = CancellationToken::new();
    let sending = {
        let (load, dice, calm, rate) = (load.clone(), dice.fork(), calm.clone(), options.load);
        tokio::spawn(async move { load.run(dice, rate, calm).await })
    };
    let deadline = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let mut field = Targets { services: &mut services, fleet: &mut fleet, broker, ledger, apis };
    let struck = strike_until(deadline, options, &mut field, &load, &pool, &mut dice).await;
    calm.cancel();
    let logs = format!("the logs are in target/fleet/{}", field.fleet.namespace.name);
    let struck = struck.inspect_err(|_| field.fleet.keep_logs()).context(logs.clone())?;
    let answered = step("every webhook is answered 200", async {
        tokio::time::timeout(SETTLED_WITHIN, sending).await.context("some webhooks are still refused")??
    });
    let settled = async {
        answered.await?;
        step("nothing is unfinished", field.fleet.until_idle(SETTLED_WITHIN)).await?;
        step("nothing is to be verified", until_verified(&pool)).await
    };
    // Told, not returned: the invariants says more about it.
    let unsettled = settled.await.err();
    let sent = load.all_sent();
    let mut invariants = invariants::settle(field.fleet, &pool, &sent).await?;
    invariants.wrong.extend(unsettled.map(|error| format!("{error:#}")));
    for struck in struck.iter().filter(|struck| struck.shown.was_killed) {
        invariants.wrong.push(format!("{} did not end by itself within {:?}", struck.injection, injections::GRACEFUL));
    }
    let memory = field.fleet.peak_memory("leadline-receiver");
    let is_clean = report::print(&struck, &invariants, &sent, memory);
    if !is_clean {
        field.fleet.keep_logs();
        bail!("something was lost, doubled or wrong; {logs}");
    }
    Ok(())
}

/// Settings under which everything that takes minutes in life takes seconds.
fn plan(namespace: &TestNamespace, simulator_port: u16, [broker, ledger, apis]: [&Proxy; 3]) -> FleetPlan {
    let through = |url: &str, proxy: &Proxy| url.replace(&host_of(url), &proxy.address.to_string());
    let apis = format!("http://{}", apis.address);
    let plan = FleetPlan {
        receivers: 2,
        inferences: 3,
        writers: 2,
        broker_url: Some(through(&namespace.amqp_url, broker)),
        simulator_port: Some(simulator_port),
        simulator_arguments: ["--calls-per-10s", "1500", "--model-latency-ms", "800"].map(ToOwned::to_owned).to_vec(),
        ..FleetPlan::default()
    };
    let settings = [
        ("ledger.url", through(&namespace.postgres_url, ledger)),
        ("ledger.acquire_timeout_ms", "2000".to_owned()),
        ("hubspot.base_url", apis.clone()),
        ("openai.base_url", format!("{apis}/v1")),
        ("broker.retry_delays_seconds", "1,2,5".to_owned()),
        ("broker.confirm_timeout_ms", "1500".to_owned()),
        ("broker.connect_timeout_seconds", "3".to_owned()),
        ("broker.shutdown_grace_seconds", "10".to_owned()),
        ("hubspot.timeout_seconds", "1".to_owned()),
        ("hubspot.backoff_ms", "50".to_owned()),
        ("hubspot.backoff_max_ms", "2000".to_owned()),
        ("openai.timeout_seconds", "3".to_owned()),
        ("openai.backoff_ms", "50".to_owned()),
        ("openai.backoff_max_ms", "2000".to_owned()),
        ("inference.lease_seconds", "12".to_owned()),
        ("inference.concurrency", "50".to_owned()),
        ("writer.lease_seconds", "5".to_owned()),
        ("writer.notify_timeout_seconds", "1".to_owned()),
        ("circuit_breaker.poll_ms", "250".to_owned()),
        ("circuit_breaker.probe_first_seconds", "1".to_owned()),
        ("circuit_breaker.probe_max_seconds", "4".to_owned()),
        ("circuit_breaker.half_open_seconds", "3".to_owned()),
        ("reconcile.interval_seconds", "3".to_owned()),
        ("reconcile.stuck_after_seconds", "20".to_owned()),
        ("telemetry.log_format", "human".to_owned()),
    ];
    settings.iter().fold(plan, |plan, (key, value)| plan.with(key, value))
}

/// The shipped playbook, but for that every good answer makes a task and a notification, not one a week: there has to be
/// something to double.
fn playbooks(name: &str) -> Result<PathBuf> {
    const FILE: &str = "lead-qualification.toml";
    let folder = workspace::root()?.join("target/fleet").join(name).join("playbooks");
    std::fs::create_dir_all(&folder)?;
    let shipped = std::fs::read_to_string(workspace::root()?.join("deploy/playbooks").join(FILE))?;
    let busy = shipped.replace("cooldown_hours = 168", "cooldown_hours = 0");
    anyhow::ensure!(busy != shipped, "{FILE} says cooldown_hours in another way now");
    std::fs::write(folder.join(FILE), busy)?;
    Ok(folder)
}

/// Deals every kind of fault once before any comes again, so that a short run meets most of them.
async fn strike_until(
    deadline: Instant,
    options: &Options,
    field: &mut Targets<'_>,
    load: &Load,
    ledger: &PgPool,
    dice: &mut Dice,
) -> Result<Vec<Struck>> {
    let wanted = |injection: &FaultInjection| {
        options.only.as_ref().is_none_or(|only| injection.to_string().contains(only.as_str()))
    };
    let (mut struck, mut deck) = (Vec::new(), Vec::new());
    // Something to injection at.
    tokio::time::sleep(Duration::from_secs(3)).await;
    while Instant::now() < deadline {
        if deck.is_empty() {
            deck = FaultInjection::ALL.into_iter().filter(wanted).collect();
            dice.shuffle(&mut deck);
        }
        let injection = deck.pop().context("no fault has such a name")?;
        let in_flight = in_flight(load, ledger).await?;
        let shown = field.injection(injection, dice).await.with_context(|| injection.to_string())?;
        let recovery = recovery(ledger).await.with_context(|| format!("after {injection}"))?;
        eprintln!(
            "  ⚡ {injection}: {} in flight, took up again after {:.1} s",
            in_flight.len(),
            recovery.as_secs_f64()
        );
        struck.push(Struck { injection, in_flight, recovery, shown });
        tokio::time::sleep(Duration::from_millis(dice.within(500, 2_500))).await;
    }
    Ok(struck)
}

/// What has been accepted and is not finished.
async fn in_flight(load: &Load, ledger: &PgPool) -> Result<HashSet<String>> {
    let finished: Vec<String> =
        sqlx::query_scalar("select event_key from event where finished_at is not null").fetch_all(ledger).await?;
    let finished: HashSet<_> = finished.into_iter().collect();
    Ok(load.sent().accepted.difference(&finished).cloned().collect())
}

/// How long it takes from now until an event is written.
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
            bail!("nothing was written for {RECOVERED_WITHIN:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

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

/// `host:port` of a URL.
fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split_once('/').map_or(rest, |(host, _)| host);
    rest.rsplit_once('@').map_or(rest, |(_, host)| host).to_owned()
}
