//! End to end: from the webhook to the written property, beside the baselines in the same run.

use std::time::Duration;

use anyhow::Result;
use lab::FleetPlan;
use sqlx::PgPool;
use testbed::{Services, step};

use super::{
    baseline::{self, Hops},
    calls::Calls,
    fleet::{Bench, Conditions, Pace, Throughput},
    receiver,
    report::{Book, MEMORY, RATES, number},
};

/// From the webhook to the written property, beside the baselines in the same run.
pub async fn run(services: &Services, plan: &FleetPlan, book: &mut Book, baseline: Hops, quick: bool) -> Result<()> {
    let events = if quick { 12_000 } else { 40_000 };
    let bench = step("a fleet of one receiver, one inference, one writer", async {
        let plan = plan.clone();
        Bench::start(services, Conditions { plan, contacts: events * 3 / 2 + 2_000, ..Conditions::default() }).await
    })
    .await?;
    // What starts at the first event is not measured.
    bench.run(2_000, Pace::FULL).await?;
    let before = Calls::of(&bench).await?;
    let acks = || receiver::load(&bench, 50, 1, Duration::from_secs(8), Duration::from_millis(250));
    let (through, at_full) = tokio::try_join!(bench.run(events, Pace::FULL), acks())?;
    let (calls, _) = Calls::of(&bench).await?.since(&before);
    let half = Pace::PerSecond(through.per_second / 2.0);
    let (_, at_half) = tokio::try_join!(bench.run(events / 2, half), acks())?;
    let namespace = bench.fleet.namespace.clone();
    let pool = PgPool::connect(&namespace.postgres_url).await?;
    let rows =
        step("the baseline of the rows: the same, written again in batches", baseline::rows(&pool, 4_000)).await?;
    drop(bench);
    let Throughput { per_second, per_cpu_second, memory } = through;
    println!("\nend to end: webhook → score in HubSpot, 200 ms of the model, in batches of 100");
    println!("  {} events per second (goal ≥1,000)", number(per_second));
    println!("  {} events per CPU-second of the three services (goal ≥1,500)", number(per_cpu_second));
    println!("  {memory:.0} MiB for the three services (goal ≤100)");
    println!("  {}", calls.per_event());
    println!(
        "  two hops of a bare lapin program: {} messages per second; the fleet does {:.0} % of it (goal ≥60 %)",
        number(baseline.per_second),
        per_second / baseline.per_second * 100.0
    );
    println!(
        "  the same rows by bare batched inserts: {} events per second; the fleet does {:.0} % of it",
        number(rows),
        per_second / rows * 100.0
    );
    for (load, acks) in [("meanwhile", &at_full), ("at half that rate", &at_half)] {
        println!(
            "  {load}, 50 connections: {:.0} webhooks per second, 200 after {:.1} ms (half), {:.1} ms (99 %, goal <25), {:.1} ms (99.9 %)",
            acks.webhooks_per_second, acks.ack[0], acks.ack[1], acks.ack[2]
        );
    }
    book.bar(RATES, "two hops of a bare lapin program", baseline.per_second, "/s", true);
    book.bar(RATES, "the same rows, bare batched inserts", rows, "/s", true);
    book.bar(RATES, "the fleet, end to end", per_second, "/s", false);
    book.bar("events per CPU-second of our processes", "the fleet, end to end", per_cpu_second, "", false);
    book.bar(MEMORY, "end to end", memory, "MiB", false);
    book.ratio("end to end, events per second, of two hops", per_second / baseline.per_second);
    book.ratio("end to end, events per second, of bare rows", per_second / rows);
    book.ratio(
        "end to end, events per CPU-second, of bare messages per CPU-second",
        per_cpu_second / baseline.per_cpu_second,
    );
    book.ratio("end to end, 100 MiB by memory", 100.0 / memory);
    let meanwhile = at_full.ack[1] / 1_000.0 * baseline.per_second;
    book.ratio("end to end, 1,000 by bare messages during the 99th ack", 1_000.0 / meanwhile);
    Ok(())
}
