//! `cargo xtask bench`: what the fleet does on this machine, everything side by side in one run, in release mode, beside
//! the floors that RabbitMQ and Postgres set.

mod fleet;
mod floor;
mod growth;
mod limits;
mod receiver;
mod report;
mod slow;
mod usage;

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use sqlx::PgPool;
use xtask::{FleetPlan, Services, Space, step, workspace};

use fleet::{Bench, Conditions, Throughput};
use receiver::Received;
use report::{Bar, Figures, number};

/// What is measured.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// Only this; everything without it.
    #[arg(value_enum)]
    only: Option<Part>,
    /// The ratios alone, in under 90 seconds, beside those that the repository keeps.
    #[arg(long, conflicts_with = "only")]
    quick: bool,
    /// A setting of every service, for example `ledger.gather_ms=5`: to see what it is worth. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    with: Vec<String>,
    /// Keeps the ratios of this run in the repository.
    #[arg(long)]
    keep: bool,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The receiver alone, and while the fleet works.
    Receiver,
    /// From the webhook to the written property, beside the floors.
    EndToEnd,
    /// Thousands of inferences that take ten seconds each.
    Slow,
    /// The ledger, from a thousand events to a million.
    Growth,
    /// One, two and four of each worker.
    Replicas,
    /// At HubSpot's limit, with eight replicas.
    Limits,
}

pub async fn run(options: &Options) -> Result<()> {
    if cfg!(debug_assertions) {
        return again_in_release().await;
    }
    let started = Instant::now();
    let services = Services::private("", "").await?;
    let plan = plan(options)?;
    let mut book = Book::default();
    let wanted = |part: Part| !options.quick && options.only.is_none_or(|only| only == part);
    if options.quick || wanted(Part::EndToEnd) {
        end_to_end(&services, &plan, &mut book, options.quick).await?;
    }
    if options.quick || wanted(Part::Receiver) {
        receiver_alone(&services, &plan, &mut book, options.quick).await?;
    }
    if wanted(Part::Slow) {
        for count in [1_000, 5_000] {
            let slow = slow::run(&services, &plan, count).await?;
            slow::print(&slow);
            let label = format!("{count} inferences of 10 s");
            book.bar("memory of the three services", label, slow.memory, "MiB", false);
        }
    }
    if wanted(Part::Growth) {
        growth(&services, &mut book).await?;
    }
    if wanted(Part::Replicas) {
        replicas(&services, &plan, &mut book).await?;
    }
    if wanted(Part::Limits) {
        limits::print(&limits::run(&services, &plan).await?);
    }
    if options.only.is_none() && !options.quick {
        let path = report::plot(&book.groups)?;
        println!("\nthe picture is {}", path.strip_prefix(workspace::root()).unwrap_or(&path).display());
    }
    if options.keep {
        report::keep(&book.ratios)?;
    }
    if book.ratios.is_empty() {
        return Ok(());
    }
    let worse = report::compare(&book.ratios, &report::kept().unwrap_or_default());
    println!("measured in {:.0} s", started.elapsed().as_secs_f64());
    if worse.is_empty() { Ok(()) } else { bail!("worse than what is kept: {}", worse.join(", ")) }
}

/// One of each service, with the settings that were asked for.
fn plan(options: &Options) -> Result<FleetPlan> {
    options.with.iter().try_fold(FleetPlan::default(), |plan, setting| {
        let (key, value) = setting.split_once('=').with_context(|| format!("`{setting}` is not KEY=VALUE"))?;
        Ok(plan.with(key, value))
    })
}

/// What a run has to say.
#[derive(Default)]
struct Book {
    ratios: Figures,
    groups: Vec<(String, Vec<Bar>)>,
}

impl Book {
    fn bar(&mut self, group: &str, label: impl Into<String>, value: f64, unit: &'static str, is_floor: bool) {
        let bar = Bar { label: label.into(), value, unit, is_floor };
        match self.groups.iter_mut().find(|(name, _)| name == group) {
            Some((_, bars)) => bars.push(bar),
            None => self.groups.push((group.to_owned(), vec![bar])),
        }
    }

    fn ratio(&mut self, name: &str, value: f64) {
        self.ratios.insert(name.to_owned(), value);
    }
}

const RATES: &str = "events per second";

/// From the webhook to the written property, beside the floors in the same run.
async fn end_to_end(services: &Services, plan: &FleetPlan, book: &mut Book, quick: bool) -> Result<()> {
    let (events, messages) = if quick { (12_000, 12_000) } else { (40_000, 40_000) };
    let bench = step("a fleet of one receiver, one inference, one writer", async {
        let plan = plan.clone();
        Bench::start(services, Conditions { plan, contacts: events + 2_000, ..Conditions::default() }).await
    })
    .await?;
    // What starts at the first event is not measured.
    bench.run(2_000, 2_000).await?;
    let before = calls(&bench).await?;
    let acks = receiver::load(&bench, 50, 1, Duration::from_secs(8), Duration::from_millis(250));
    let (through, acks) = tokio::try_join!(bench.run(events, 2_000), acks)?;
    let calls = calls(&bench).await? - before;
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let calls_per_event = calls / events as f64;
    let body = bench.batch(1).or_else(|_| Bench::idle_batch(1))?;
    let space = bench.fleet.space.clone();
    let pool = PgPool::connect(&space.postgres_url).await?;
    let rows = step("the floor of the rows: the same, written again in batches", floor::rows(&pool, 4_000)).await?;
    drop(bench);
    let hops = step("the floor of the queues: two hops of a bare program", async {
        floor::two_hops(&Space::new(services).await?, &body, messages).await
    })
    .await?;
    let Throughput { per_second, per_cpu_second, memory } = through;
    println!("\nend to end: webhook → score in HubSpot, 200 ms of the model, in batches of 100");
    println!("  {} events per second (goal ≥1,000)", number(per_second));
    println!("  {} events per CPU-second of the three services (goal ≥1,500)", number(per_cpu_second));
    println!("  {memory:.0} MiB for the three services (goal ≤100)");
    println!("  {calls_per_event:.4} calls to HubSpot per event");
    println!(
        "  two hops of a bare lapin program: {} messages per second; the fleet does {:.0} % of it (goal ≥60 %)",
        number(hops),
        per_second / hops * 100.0
    );
    println!(
        "  the same rows by bare batched inserts: {} events per second; the fleet does {:.0} % of it",
        number(rows),
        per_second / rows * 100.0
    );
    println!(
        "  meanwhile, 50 connections: {:.0} webhooks per second, 200 after {:.1} ms (half), {:.1} ms (99 %, goal <25), {:.1} ms (99.9 %)",
        acks.webhooks_per_second, acks.ack[0], acks.ack[1], acks.ack[2]
    );
    book.bar(RATES, "two hops of a bare lapin program", hops, "/s", true);
    book.bar(RATES, "the same rows, bare batched inserts", rows, "/s", true);
    book.bar(RATES, "the fleet, end to end", per_second, "/s", false);
    book.bar("events per CPU-second of our processes", "the fleet, end to end", per_cpu_second, "", false);
    book.bar("memory of the three services", "end to end", memory, "MiB", false);
    book.ratio("end to end, events per second, of two hops", per_second / hops);
    book.ratio("end to end, events per second, of bare rows", per_second / rows);
    book.ratio("end to end, events per CPU-second, per 1,000", per_cpu_second / 1_000.0);
    book.ratio("end to end, 100 MiB by memory", 100.0 / memory);
    book.ratio("end to end, 25 ms by the 99th ack of 50 connections", 25.0 / acks.ack[1]);
    Ok(())
}

/// Calls to HubSpot that the fleet has made.
async fn calls(bench: &Bench) -> Result<f64> {
    let mut sum = 0.0;
    for program in ["leadline-inference", "leadline-writer"] {
        sum += bench.counters(program, "leadline_hubspot_calls_total", "outcome").await?.values().sum::<f64>();
    }
    Ok(sum)
}

/// The receiver alone, at several loads.
async fn receiver_alone(services: &Services, plan: &FleetPlan, book: &mut Book, quick: bool) -> Result<()> {
    let plan = FleetPlan { inferences: 0, writers: 0, ..plan.clone() };
    let conditions = Conditions { plan, contacts: 0, ..Conditions::default() };
    let bench = step("a receiver, alone", Bench::start(services, conditions)).await?;
    let (connections, batches): (&[usize], &[usize]) =
        if quick { (&[10], &[1, 100]) } else { (&[1, 10, 50], &[1, 10, 100]) };
    println!(
        "\nthe receiver alone\n  conn  batch  webhooks/s   events/s   ack ms: half     99 %   99.9 %  events/CPU-s    MiB  refused"
    );
    for batch in batches {
        for connections in connections {
            let last = Duration::from_secs(if quick { 3 } else { 5 });
            let received = receiver::load(&bench, *connections, *batch, last, Duration::ZERO).await?;
            let Received {
                webhooks_per_second, events_per_second, ack, events_per_cpu_second, memory, refused, ..
            } = received;
            println!(
                "  {:>4}  {:>5}  {webhooks_per_second:>10.0} {events_per_second:>10.0}  {:>14.2} {:>8.2} {:>8.2}  \
                 {events_per_cpu_second:>12.0} {memory:>6.1} {refused:>8}",
                received.connections, received.batch, ack[0], ack[1], ack[2]
            );
            if *connections == 10 {
                let label = format!("the receiver alone, batches of {batch}");
                book.bar(RATES, label, events_per_second, "/s", false);
                book.ratio(
                    &format!("receiver, 1,000 events per CPU-second, batches of {batch}"),
                    events_per_cpu_second / 1_000.0,
                );
            }
        }
    }
    Ok(())
}

/// The ledger's rate as it fills.
async fn growth(services: &Services, book: &mut Book) -> Result<()> {
    let space = Space::new(services).await?;
    let environment = vec![(xtask::fleet::variable("ledger.url"), space.postgres_url.clone())];
    let settings = runtime::config::Settings::load_from(None, environment, runtime::config::Reader::LedgerOnly)?;
    let ledger = connect::ledger(&settings, "leadline-bench").map_err(anyhow::Error::msg)?;
    ledger.migrate().await?;
    let pool = PgPool::connect(&space.postgres_url).await?;
    let mut first = 100_000_000;
    println!("\nthe ledger alone, all that is asked of it for an event (goal: flat within 10 %)");
    let mut baseline = None;
    for rows in [1_000, 10_000, 100_000, 1_000_000] {
        step(&format!("{rows} events in the ledger"), growth::fill(&pool, rows)).await?;
        growth::rate(&ledger, first, 2_000).await?;
        first += 2_000;
        let rate = growth::rate(&ledger, first, 12_000).await?;
        first += 12_000;
        let part = rate / *baseline.get_or_insert(rate);
        println!("  {rows:>9} events: {} events per second, {:.0} %", number(rate), part * 100.0);
        book.bar("the ledger alone, by what it holds", format!("{rows} events"), rate, "/s", false);
    }
    Ok(())
}

/// One, two and four of each worker.
async fn replicas(services: &Services, plan: &FleetPlan, book: &mut Book) -> Result<()> {
    println!("\nreplicas, on the same two cores");
    for count in [1, 2, 4] {
        let plan = FleetPlan { inferences: count, writers: count, ..plan.clone() };
        let conditions = Conditions { plan, contacts: 22_000, ..Conditions::default() };
        let bench = step(&format!("{count} inferences, {count} writers"), Bench::start(services, conditions)).await?;
        bench.run(2_000, 2_000).await?;
        let through = bench.run(20_000, 2_000).await?;
        println!(
            "  {count}: {} events per second, {} per CPU-second, {:.0} MiB",
            number(through.per_second),
            number(through.per_cpu_second),
            through.memory
        );
        book.bar("replicas of each worker", format!("{count}"), through.per_second, "/s", false);
    }
    Ok(())
}

/// Builds everything in release mode and becomes that program: the load has to be as fast as what it loads.
async fn again_in_release() -> Result<()> {
    step("building in release mode", async {
        let status = crate::tests::cargo().args(["build", "--quiet", "--release", "--workspace"]).status().await?;
        if status.success() { Ok(()) } else { bail!("the workspace does not build") }
    })
    .await?;
    let folder = workspace::binaries()?;
    let program = folder.parent().context("the target folder")?.join("release/xtask");
    let status = tokio::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await?;
    if status.success() { Ok(()) } else { bail!("the benchmark did not end well") }
}
