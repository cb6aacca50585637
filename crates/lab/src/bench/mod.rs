//! `cargo xtask bench`: measures the fleet on this machine, in release mode, and compares it with the baselines of RabbitMQ
//! and Postgres from the same run.

mod baseline;
mod calls;
mod end_to_end;
mod fleet;
mod growth;
mod limits;
mod receiver;
mod replicas;
mod report;
mod services;
mod single;
mod slow;
mod usage;

use std::time::Instant;

use anyhow::{Context, Result, bail};
use lab::FleetPlan;
use testbed::{TestNamespace, step, workspace};

use fleet::Bench;
use report::Results;

/// The options of `cargo xtask bench`.
#[derive(clap::Args, Clone)]
pub struct BenchOptions {
    /// The part to measure; all parts without it.
    #[arg(value_enum)]
    only: Option<Part>,
    /// Only the ratios, in under 90 seconds, compared with those in docs/bench.json.
    #[arg(long, conflicts_with = "only")]
    quick: bool,
    /// A setting of every service, for example `ledger.batch_linger_ms=5`, to measure its effect. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    with: Vec<String>,
    /// Saves the ratios of this run in docs/bench.json.
    #[arg(long)]
    keep: bool,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The receiver alone.
    Receiver,
    /// From the webhook to the written property, compared with the baselines.
    EndToEnd,
    /// One event alone, stage by stage.
    Single,
    /// Thousands of inferences that take ten seconds each.
    Slow,
    /// The ledger alone, with a thousand to a million events in it.
    Growth,
    /// One, two and four of each worker.
    Replicas,
    /// At HubSpot's limit, with eight replicas.
    Limits,
}

pub async fn run(options: &BenchOptions) -> Result<()> {
    if cfg!(debug_assertions) {
        bail!("this is a debug build; measure with `cargo xtask bench`");
    }
    let started = Instant::now();
    let services = services::counting().await?;
    let plan = plan(options)?;
    let mut results = Results::default();
    let wanted = |part: Part| !options.quick && options.only.is_none_or(|only| only == part);
    let (end_to_end, receiver) = (options.quick || wanted(Part::EndToEnd), options.quick || wanted(Part::Receiver));
    if end_to_end || receiver {
        let messages = if options.quick { 12_000 } else { 40_000 };
        let baseline = step("the baseline of RabbitMQ: two hops of a minimal client", async {
            baseline::two_hops(&TestNamespace::new(&services).await?, &Bench::idle_batch(1)?, messages).await
        })
        .await?;
        if end_to_end {
            end_to_end::run(&services, &plan, &mut results, baseline, options.quick).await?;
        }
        if receiver {
            receiver::alone(&services, &plan, &mut results, baseline, options.quick).await?;
        }
    }
    if wanted(Part::Single) {
        single::run(&services, &plan, &mut results).await?;
    }
    if wanted(Part::Slow) {
        slow::run(&services, &plan, &mut results).await?;
    }
    if wanted(Part::Growth) {
        growth::run(&services, &mut results).await?;
    }
    if wanted(Part::Replicas) {
        replicas::run(&services, &plan, &mut results).await?;
    }
    if wanted(Part::Limits) {
        limits::print(&limits::run(&services, &plan).await?, &mut results);
    }
    results.print_table();
    if options.only.is_none() && !options.quick {
        let path = report::plot(&results.groups)?;
        println!("\nthe chart is {}", path.strip_prefix(workspace::root()?).unwrap_or(&path).display());
    }
    if results.ratios.is_empty() {
        return Ok(());
    }
    let worse = report::compare(&results.ratios, &report::saved().unwrap_or_default());
    println!("measured in {:.0} s", started.elapsed().as_secs_f64());
    if options.keep {
        return report::save(&results.ratios);
    }
    if worse.is_empty() { Ok(()) } else { bail!("worse than in docs/bench.json: {}", worse.join(", ")) }
}

/// One of each service, with the settings of `--with`.
fn plan(options: &BenchOptions) -> Result<FleetPlan> {
    options.with.iter().try_fold(FleetPlan::default(), |plan, setting| {
        let (key, value) = setting.split_once('=').with_context(|| format!("`{setting}` is not KEY=VALUE"))?;
        Ok(plan.with(key, value))
    })
}
