//! `cargo xtask bench`: what the fleet does on this machine, everything side by side in one run, in release mode, beside
//! the baselines that RabbitMQ and Postgres set.

mod baseline;
mod calls;
mod end_to_end;
mod fleet;
mod growth;
mod limits;
mod receiver;
mod replicas;
mod report;
mod slow;
mod usage;

use std::time::Instant;

use anyhow::{Context, Result, bail};
use lab::FleetPlan;
use testbed::{Services, TestNamespace, step, workspace};

use fleet::Bench;
use report::Book;

/// What is measured.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// Only this; everything without it.
    #[arg(value_enum)]
    only: Option<Part>,
    /// The ratios alone, in under 90 seconds, beside those that the repository keeps.
    #[arg(long, conflicts_with = "only")]
    quick: bool,
    /// A setting of every service, for example `ledger.batch_linger_ms=5`: to see what it is worth. May be given several times.
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
    /// From the webhook to the written property, beside the baselines.
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
        bail!("this is a debug build; measure with `cargo xtask bench`");
    }
    let started = Instant::now();
    let services = Services::private("", "").await?;
    let plan = plan(options)?;
    let mut book = Book::default();
    let wanted = |part: Part| !options.quick && options.only.is_none_or(|only| only == part);
    let (end_to_end, receiver) = (options.quick || wanted(Part::EndToEnd), options.quick || wanted(Part::Receiver));
    if end_to_end || receiver {
        let messages = if options.quick { 12_000 } else { 40_000 };
        let baseline = step("the baseline of the queues: two hops of a bare program", async {
            baseline::two_hops(&TestNamespace::new(&services).await?, &Bench::idle_batch(1)?, messages).await
        })
        .await?;
        if end_to_end {
            end_to_end::run(&services, &plan, &mut book, baseline, options.quick).await?;
        }
        if receiver {
            receiver::alone(&services, &plan, &mut book, baseline, options.quick).await?;
        }
    }
    if wanted(Part::Slow) {
        slow::run(&services, &plan, &mut book).await?;
    }
    if wanted(Part::Growth) {
        growth::run(&services, &mut book).await?;
    }
    if wanted(Part::Replicas) {
        replicas::run(&services, &plan, &mut book).await?;
    }
    if wanted(Part::Limits) {
        limits::print(&limits::run(&services, &plan).await?);
    }
    if options.only.is_none() && !options.quick {
        let path = report::plot(&book.groups)?;
        println!("\nthe picture is {}", path.strip_prefix(workspace::root()?).unwrap_or(&path).display());
    }
    if book.ratios.is_empty() {
        return Ok(());
    }
    let worse = report::compare(&book.ratios, &report::kept().unwrap_or_default());
    println!("measured in {:.0} s", started.elapsed().as_secs_f64());
    if options.keep {
        return report::keep(&book.ratios);
    }
    if worse.is_empty() { Ok(()) } else { bail!("worse than what is kept: {}", worse.join(", ")) }
}

/// One of each service, with the settings that were asked for.
fn plan(options: &Options) -> Result<FleetPlan> {
    options.with.iter().try_fold(FleetPlan::default(), |plan, setting| {
        let (key, value) = setting.split_once('=').with_context(|| format!("`{setting}` is not KEY=VALUE"))?;
        Ok(plan.with(key, value))
    })
}
