//! Thousands of inferences that take ten seconds each: what waiting costs in memory and CPU time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use lab::FleetPlan;
use testbed::{Services, step};

use super::{
    fleet::{Bench, Conditions},
    report::{MEMORY, Results},
    usage::{cpu, memory},
};

const LATENCY: Duration = Duration::from_secs(10);

/// Measures a thousand and five thousand.
pub async fn run(services: &Services, plan: &FleetPlan, results: &mut Results) -> Result<()> {
    for count in [1_000, 5_000] {
        let slow = wait(services, plan, count).await?;
        print(&slow);
        let goal = if count == 5_000 { "143 MiB (150 MB)" } else { "" };
        let what = format!("memory with {count} inferences of 10 s in flight");
        results.row(&what, format!("{:.0} MiB", slow.memory), goal);
        results.bar(MEMORY, format!("{count} inferences of 10 s"), slow.memory, "MiB", false);
    }
    Ok(())
}

/// What waiting inferences cost.
struct Slow {
    /// How many were asked for.
    wanted: usize,
    /// Model calls that were open at once, at most.
    in_flight: usize,
    /// The three services' peak memory, in MiB.
    memory: f64,
    /// Their CPU time per event, in milliseconds.
    cpu_ms_per_event: f64,
    /// From the first webhook until all are written.
    took: Duration,
}

async fn wait(services: &Services, plan: &FleetPlan, count: usize) -> Result<Slow> {
    let plan = plan.clone().with("inference.concurrency", &count.to_string());
    let conditions = Conditions { plan, contacts: count, latency: LATENCY, ..Conditions::default() };
    let bench = step(&format!("{count} inferences of 10 s at once"), Bench::start(services, conditions)).await?;
    let processes = bench.processes();
    let receiver = bench.fleet.receivers().remove(0);
    let (before, started) = (cpu(&processes), Instant::now());
    for _ in 0..count / 100 {
        bench.webhooks.deliver(&receiver, &bench.batch(100)?).await;
    }
    let (mut most, mut in_flight) = (0.0_f64, 0);
    loop {
        most = most.max(memory(&processes));
        in_flight = in_flight.max(bench.fleet.simulator.open_requests().await?);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let written = bench.written().await? as usize;
        if written >= count {
            break;
        }
        if started.elapsed() > Duration::from_secs(120) {
            bail!("{written} of {count} were written within two minutes\n{}", bench.fleet.logs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let events = count as f64;
    Ok(Slow {
        wanted: count,
        in_flight,
        memory: most,
        cpu_ms_per_event: cpu(&processes).saturating_sub(before).as_secs_f64() * 1_000.0 / events,
        took: started.elapsed(),
    })
}

fn print(slow: &Slow) {
    println!(
        "\n{} inferences of 10 s: {} open at once, {:.0} MiB for the three services, {:.2} ms of CPU each, all written after {:.1} s",
        slow.wanted,
        slow.in_flight,
        slow.memory,
        slow.cpu_ms_per_event,
        slow.took.as_secs_f64()
    );
}
