//! At HubSpot's limit: eight replicas and a portal that counts exactly, first alone, then beside another integration that
//! uses a third of the limit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use lab::FleetPlan;
use testbed::{Services, step};
use tokio_util::sync::CancellationToken;

use super::{
    calls::Calls,
    fleet::{Bench, Conditions},
    receiver,
    report::Results,
};

/// Calls that the portal allows in ten seconds.
const QUOTA: f64 = 190.0;
/// The fleet's share of them.
const SHARE: f64 = 0.8;

/// Until the stages are full and the fleet has observed the quota.
const WARM_UP: Duration = Duration::from_secs(20);
const MEASURED: Duration = Duration::from_secs(40);

const ACKNOWLEDGED: Duration = Duration::from_secs(15);

/// Events that wait, about forty seconds of work, and the time between two looks at how many do.
const BACKLOG: f64 = 15_000.0;
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// Webhooks that come while the fleet works at the limit: so many connections, each with so much time between two.
const CONNECTIONS: usize = 50;
const BETWEEN_WEBHOOKS: Duration = Duration::from_millis(250);

/// The measurement of one phase.
pub struct AtTheLimit {
    /// Our calls in ten seconds.
    pub calls: f64,
    /// Our calls divided by what was available: our share, or what the other integration left.
    pub use_of_share: f64,
    /// 429s of ours and of the other integration.
    pub refused: [u64; 2],
    /// Jain's fairness index of the inference replicas' calls, and of the writers'.
    pub fairness: [f64; 2],
    /// Calls per event, as text.
    calls_per_event: String,
    pub events_per_second: f64,
    pub other_calls: f64,
    /// Milliseconds until a webhook is acknowledged: median, 99 %, 99.9 %.
    pub ack: [f64; 3],
}

pub async fn run(services: &Services, plan: &FleetPlan) -> Result<[AtTheLimit; 2]> {
    let plan = FleetPlan { inferences: 4, writers: 4, ..plan.clone() };
    let conditions =
        Conditions { plan, contacts: 120_000, notes_per_contact: 1, calls_per_10s: 190, ..Conditions::default() };
    let bench = Arc::new(step("4 inferences, 4 writers, 190 calls in 10 s", Bench::start(services, conditions)).await?);
    let stop = CancellationToken::new();
    let feeding = tokio::spawn(feed(bench.clone(), stop.clone()));
    tokio::time::sleep(WARM_UP).await;
    let alone = step("alone", measure(&bench, None)).await?;
    let other = Other::default();
    let calling = tokio::spawn(other.clone().call(bench.fleet.simulator_url().to_owned(), stop.clone()));
    tokio::time::sleep(WARM_UP).await;
    let shared = step("beside another integration that uses a third", measure(&bench, Some(&other))).await?;
    stop.cancel();
    calling.await?;
    feeding.await??;
    Ok([alone, shared])
}

/// Keeps [`BACKLOG`] events waiting until `stop`: what comes is what the fleet writes, as it is at a portal that causes no more than
/// HubSpot's limit allows.
async fn feed(bench: Arc<Bench>, stop: CancellationToken) -> Result<()> {
    let receiver = bench.fleet.receivers().remove(0);
    let mut sent = 0.0;
    while !stop.is_cancelled() {
        let room = bench.written().await? + BACKLOG - sent;
        if room < 100.0 {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            continue;
        }
        bench.webhooks.deliver(&receiver, &bench.batch(100)?).await;
        sent += 100.0;
    }
    Ok(())
}

async fn measure(bench: &Bench, other: Option<&Other>) -> Result<AtTheLimit> {
    let before = Counts::take(bench, other).await?;
    tokio::time::sleep(MEASURED).await;
    let after = Counts::take(bench, other).await?;
    // Apart from the rest: these webhooks take CPU time of their own.
    let webhooks = receiver::load(bench, CONNECTIONS, 1, ACKNOWLEDGED, BETWEEN_WEBHOOKS).await?;
    let (ours, seconds) = after.ours.since(&before.ours);
    let windows = seconds / 10.0;
    let calls = ours.sum() / windows;
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let other_calls = (after.other - before.other) as f64 / windows;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let refused = ours.refused() as u64;
    let written = after.written - before.written;
    Ok(AtTheLimit {
        calls,
        use_of_share: calls / (QUOTA * SHARE).min(QUOTA - other_calls),
        refused: [refused, after.other_refused - before.other_refused],
        fairness: ours.fairness(),
        calls_per_event: ours.per_event(),
        events_per_second: written / seconds,
        other_calls,
        ack: webhooks.ack,
    })
}

/// Counters at a moment.
struct Counts {
    ours: Calls,
    written: f64,
    other: u64,
    other_refused: u64,
}

impl Counts {
    async fn take(bench: &Bench, other: Option<&Other>) -> Result<Self> {
        let number = |count: fn(&Other) -> &AtomicU64| other.map_or(0, |other| count(other).load(Ordering::Relaxed));
        Ok(Self {
            other: number(|o| &o.calls),
            other_refused: number(|o| &o.refused),
            ours: Calls::of(bench).await?,
            written: bench.written().await?,
        })
    }
}

/// Another integration of the same portal, which does not coordinate with the fleet.
#[derive(Clone, Default)]
struct Other {
    calls: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl Other {
    async fn call(self, simulator: String, stop: CancellationToken) {
        let http = reqwest::Client::new();
        let url = format!("{simulator}/crm/v3/objects/contacts/{}", simulator::population::FIRST_CONTACT);
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(10.0 / (QUOTA / 3.0)));
        while !stop.is_cancelled() {
            ticks.tick().await;
            let (http, url, other) = (http.clone(), url.clone(), self.clone());
            tokio::spawn(async move {
                let answer = http.get(url).bearer_auth(simulator::Config::default().token).send().await;
                let status = answer.map(|response| response.status().as_u16());
                let counter = if matches!(status, Ok(429)) { &other.refused } else { &other.calls };
                counter.fetch_add(1, Ordering::Relaxed);
            });
        }
    }
}

pub fn print(phases: &[AtTheLimit; 2], results: &mut Results) {
    println!("\nat the limit: 190 calls in any 10 s, 4 inferences and 4 writers, share {SHARE}");
    for (name, phase) in ["alone", "beside another integration that uses a third of it"].iter().zip(phases) {
        println!("  {name}");
        println!(
            "    {:.1} calls in 10 s (others {:.1}), {:.1} % of what was available to us (goal ≥95 %)",
            phase.calls,
            phase.other_calls,
            phase.use_of_share * 100.0
        );
        println!("    429s: {} of ours, {} of the other integration's (goal 0)", phase.refused[0], phase.refused[1]);
        println!(
            "    fairness (Jain): {:.3} between inferences, {:.3} between writers",
            phase.fairness[0], phase.fairness[1]
        );
        println!("    {:.0} events per second, {}", phase.events_per_second, phase.calls_per_event);
        let [half, most, nearly_all] = phase.ack;
        let at = format!("at HubSpot's limit, {name}");
        results.row(&format!("{at}: events"), format!("{:.0} /s", phase.events_per_second), "320 /s alone");
        results.row(&format!("{at}: of our share"), format!("{:.1} %", phase.use_of_share * 100.0), "95 %");
        let acks = format!("{half:.0}, {most:.0}, {nearly_all:.0} ms");
        results.row(&format!("{at}: acknowledgement, half, 99 %, 99.9 %"), acks, "99 % 25 ms, 100");
        println!(
            "    {CONNECTIONS} connections: 200 after {half:.1} ms (half), {most:.1} ms (99 %, goal <25), {nearly_all:.1} ms (99.9 %, goal <100)"
        );
    }
}
