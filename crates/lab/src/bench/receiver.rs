//! The receiver: how many webhooks per second it accepts, and how soon it answers.

use std::time::{Duration, Instant};

use anyhow::Result;
use lab::FleetPlan;
use testbed::{Services, step};
use tokio::task::JoinSet;

use super::{
    baseline::Hops,
    fleet::{Bench, Conditions},
    report::{RATES, Results, number},
    usage::{cpu, memory},
};

/// The measurement of a receiver under one load.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    pub connections: usize,
    pub batch: usize,
    pub webhooks_per_second: f64,
    pub events_per_second: f64,
    /// Milliseconds until the 200: median, 99 %, 99.9 %.
    pub ack: [f64; 3],
    pub events_per_cpu_second: f64,
    pub memory: f64,
    /// Answers other than 200.
    pub refused: usize,
}

/// Posts webhooks of `batch` events that start no playbook for the time `last`. Each connection posts one after the other,
/// with `pause` between two.
pub async fn load(
    bench: &Bench,
    connections: usize,
    batch: usize,
    last: Duration,
    pause: Duration,
) -> Result<Received> {
    let processes = bench.processes_of("leadline-receiver");
    let receiver = bench.fleet.receivers().remove(0);
    let body = Bench::idle_batch(batch)?;
    let (before, started) = (cpu(&processes), Instant::now());
    let mut posting = JoinSet::new();
    for connection in 0..connections {
        let (webhooks, receiver, body) = (bench.webhooks.clone(), receiver.clone(), body.clone());
        posting.spawn(async move {
            let (mut times, mut refused) = (Vec::new(), 0);
            #[expect(clippy::cast_possible_truncation, reason = "a handful")]
            tokio::time::sleep(pause * connection as u32 / connections as u32).await;
            while started.elapsed() < last {
                let sent = Instant::now();
                if webhooks.post(&receiver, body.clone(), 0).await == Some(200) {
                    times.push(sent.elapsed());
                } else {
                    refused += 1;
                }
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
            (times, refused)
        });
    }
    let (mut times, mut refused) = (Vec::new(), 0);
    while let Some(posted) = posting.join_next().await {
        let (more, rejections) = posted?;
        times.extend(more);
        refused += rejections;
    }
    let (passed, spent) = (started.elapsed().as_secs_f64(), cpu(&processes).saturating_sub(before).as_secs_f64());
    times.sort_unstable();
    let at = |per_mille: usize| {
        let index = (times.len() * per_mille / 1_000).min(times.len().saturating_sub(1));
        times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
    };
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let (webhooks, events) = (times.len() as f64, (times.len() * batch) as f64);
    Ok(Received {
        connections,
        batch,
        webhooks_per_second: webhooks / passed,
        events_per_second: events / passed,
        ack: [at(500), at(990), at(999)],
        events_per_cpu_second: events / spent,
        memory: memory(&processes),
        refused,
    })
}

/// Measures the receiver alone at several loads.
pub async fn alone(
    services: &Services,
    plan: &FleetPlan,
    results: &mut Results,
    baseline: Hops,
    quick: bool,
) -> Result<()> {
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
            let received = load(&bench, *connections, *batch, last, Duration::ZERO).await?;
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
                let goal = if *batch == 100 { "8,000 /s" } else { "" };
                results.row(&label, format!("{} /s", number(events_per_second)), goal);
                results.bar(RATES, label, events_per_second, "/s", false);
                results.ratio(
                    &format!("receiver, events per CPU-second, batches of {batch} / hops"),
                    events_per_cpu_second / baseline.per_cpu_second,
                );
            }
        }
    }
    Ok(())
}
