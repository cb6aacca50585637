//! End to end: from the webhook to the written property, compared with the baselines of the same run.

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
    report::{MEMORY, RATES, Results, number},
    services::{self, ServiceUsage},
};

/// Measures a fleet of one of each service.
pub async fn run(of: &Services, plan: &FleetPlan, results: &mut Results, baseline: Hops, quick: bool) -> Result<()> {
    let events = if quick { 12_000 } else { 40_000 };
    let bench = step("a fleet of one receiver, one inference, one writer", async {
        let plan = plan.clone();
        Bench::start(of, Conditions { plan, contacts: events * 3 / 2 + 2_000, ..Conditions::default() }).await
    })
    .await?;
    // A warm-up: what is set up at the first event is not measured.
    bench.run(2_000, Pace::FULL).await?;
    let namespace = bench.fleet.namespace.clone();
    let pool = PgPool::connect(&namespace.postgres_url).await?;
    // As Postgres does within a minute: its first plans are those for empty tables.
    sqlx::query("analyze").execute(&pool).await?;
    let before = Calls::of(&bench).await?;
    let services_before = ServiceUsage::begin(of, &pool).await?;
    let acks = || receiver::load(&bench, 50, 1, Duration::from_secs(8), Duration::from_millis(250));
    let (through, at_full) = tokio::try_join!(bench.run(events, Pace::FULL), acks())?;
    let (calls, _) = Calls::of(&bench).await?.since(&before);
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let all = events as f64;
    let of_services = ServiceUsage::now(of, &pool).await?.since(services_before, all);
    let half = Pace::PerSecond(through.per_second / 2.0);
    let (_, at_half) = tokio::try_join!(bench.run(events / 2, half), acks())?;
    let rows =
        step("the baseline of Postgres: the same rows, inserted in batches", baseline::rows(&pool, 4_000)).await?;
    drop(bench);
    let Throughput { per_second, per_cpu_second, memory } = through;
    println!("\nend to end: webhook → score in HubSpot, 200 ms of the model, in batches of 100");
    println!("  {} events per second (goal ≥1,000)", number(per_second));
    println!("  {} events per CPU-second of the three services (goal ≥1,500)", number(per_cpu_second));
    println!("  {memory:.0} MiB for the three services (goal ≤76, 80 MB)");
    println!("  {}", calls.per_event());
    println!("  {of_services}");
    println!(
        "  baseline, two hops of a minimal lapin client: {} messages per second; the fleet does {:.0} % of it (goal ≥60 %)",
        number(baseline.per_second),
        per_second / baseline.per_second * 100.0
    );
    println!(
        "  baseline, the same rows by batched inserts alone: {} events per second; the fleet does {:.0} % of it",
        number(rows),
        per_second / rows * 100.0
    );
    if !quick {
        services::print_statements(&pool, all).await?;
    }
    for (load, acks) in [("meanwhile", &at_full), ("at half that rate", &at_half)] {
        println!(
            "  {load}, 50 connections: {:.0} webhooks per second, 200 after {:.1} ms (half), {:.1} ms (99 %, goal <25), {:.1} ms (99.9 %)",
            acks.webhooks_per_second, acks.ack[0], acks.ack[1], acks.ack[2]
        );
    }
    results.row("end to end, events", format!("{} /s", number(per_second)), "1,000 /s");
    results.row("the same, for each CPU-second of our processes", number(per_cpu_second), "1,500");
    results.row("memory of the three services meanwhile", format!("{memory:.0} MiB"), "76 MiB (80 MB)");
    results.row("a bare program passes on, messages", format!("{} /s", number(baseline.per_second)), "");
    for (load, acks) in [("full speed", &at_full), ("half of it", &at_half)] {
        let what = format!("acknowledgement at 50 connections, at {load}: half, 99 %");
        results.row(&what, format!("{:.0} ms, {:.0} ms", acks.ack[0], acks.ack[1]), "25 ms (99 %)");
    }
    results.bar(RATES, "baseline: two hops of a minimal lapin client", baseline.per_second, "/s", true);
    results.bar(RATES, "baseline: the same rows by batched inserts", rows, "/s", true);
    results.bar(RATES, "the fleet, end to end", per_second, "/s", false);
    results.bar("events per CPU-second of our processes", "the fleet, end to end", per_cpu_second, "", false);
    results.bar(MEMORY, "end to end", memory, "MiB", false);
    results.ratio("end to end, events per second / two hops", per_second / baseline.per_second);
    results.ratio("end to end, events per second / batched inserts", per_second / rows);
    results.ratio("end to end, events per CPU-second / hops per CPU-second", per_cpu_second / baseline.per_cpu_second);
    results.ratio("end to end, 100 MiB / memory", 100.0 / memory);
    let meanwhile = at_full.ack[1] / 1_000.0 * baseline.per_second;
    results.ratio("end to end, 1,000 / hops within the 99 % ack time", 1_000.0 / meanwhile);
    Ok(())
}
