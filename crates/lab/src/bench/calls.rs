//! Calls to HubSpot: how many, by whom, of what kind, and how full.

use std::{collections::BTreeMap, time::Instant};

use anyhow::Result;

use super::fleet::Bench;

/// The services that call HubSpot.
const CALLERS: [&str; 2] = ["inference", "writer"];

/// What they count when they are done with an event.
const DONE: [&str; 2] = ["leadline_inferences_total", "leadline_write_commands_total"];

/// The calls that the fleet has made: up to a moment, or since one.
pub struct Calls {
    at: Instant,
    by_replica: [Vec<f64>; 2],
    refused: f64,
    /// By service: events answered for, and written.
    done: [f64; 2],
    /// By service and kind.
    batches: BTreeMap<(usize, String), Batches>,
}

/// Batch calls of one kind.
#[derive(Default, Clone, Copy)]
struct Batches {
    calls: f64,
    /// The records that they were for.
    inputs: f64,
}

impl Calls {
    /// Those up to now.
    pub async fn of(bench: &Bench) -> Result<Self> {
        let mut calls = Self {
            at: Instant::now(),
            by_replica: Default::default(),
            refused: 0.0,
            done: Default::default(),
            batches: BTreeMap::new(),
        };
        for (service, name) in CALLERS.iter().enumerate() {
            for replica in bench.scrape(&format!("leadline-{name}")).await? {
                let tries = |wanted: fn(&str) -> bool| {
                    replica.sum("leadline_hubspot_calls_total", &["outcome"], |of| wanted(of[0]))
                };
                calls.by_replica[service].push(tries(|_| true));
                calls.done[service] += replica.sum(DONE[service], &[], |_| true);
                calls.refused += tries(|outcome| outcome == "rate_limited");
                let of = ["operation", "objects"];
                for (kind, count) in replica.values("leadline_hubspot_batch_size_count", &of) {
                    calls.batches.entry((service, kind.join(" "))).or_default().calls += count;
                }
                for (kind, sum) in replica.values("leadline_hubspot_batch_size_sum", &of) {
                    calls.batches.entry((service, kind.join(" "))).or_default().inputs += sum;
                }
            }
        }
        Ok(calls)
    }

    /// Those that were made after `before`, and the seconds that it took.
    pub fn since(mut self, before: &Self) -> (Self, f64) {
        for (service, earlier) in self.by_replica.iter_mut().zip(&before.by_replica) {
            service.iter_mut().zip(earlier).for_each(|(count, earlier)| *count -= earlier);
        }
        self.refused -= before.refused;
        self.done.iter_mut().zip(before.done).for_each(|(count, earlier)| *count -= earlier);
        for (kind, batches) in &mut self.batches {
            let earlier = before.batches.get(kind).copied().unwrap_or_default();
            batches.calls -= earlier.calls;
            batches.inputs -= earlier.inputs;
        }
        let seconds = (self.at - before.at).as_secs_f64();
        (self, seconds)
    }

    /// All together.
    pub fn sum(&self) -> f64 {
        self.by_replica.iter().flatten().sum()
    }

    /// Those that HubSpot refused because of its limit.
    pub fn refused(&self) -> f64 {
        self.refused
    }

    /// Jain's index of the calls of the inference replicas, and of the writers: 1 when all have the same, 1/n when one has
    /// everything.
    pub fn fairness(&self) -> [f64; 2] {
        self.by_replica.each_ref().map(|parts| {
            let sum: f64 = parts.iter().sum();
            let squares: f64 = parts.iter().map(|part| part * part).sum();
            #[expect(clippy::cast_precision_loss, reason = "a handful")]
            let count = parts.len() as f64;
            sum * sum / (count * squares)
        })
    }

    /// In words: the calls of each service for each event that it was done with, and its batch calls by kind with the
    /// records in one. The workers may be ahead of the writers.
    pub fn per_event(&self) -> String {
        let per_event: Vec<_> =
            self.by_replica.iter().zip(self.done).map(|(calls, done)| calls.iter().sum::<f64>() / done).collect();
        let parts: Vec<_> = self
            .batches
            .iter()
            .map(|((service, kind), batches)| {
                (
                    batches.calls / self.done[*service],
                    format!("{} {kind}, {:.0} each", CALLERS[*service], batches.inputs / batches.calls),
                )
            })
            .filter(|(calls, _)| *calls >= 0.00005)
            .map(|(calls, kind)| format!("\n      {calls:.4} {kind}"))
            .collect();
        format!("{:.4} calls to HubSpot per event{}", per_event.iter().sum::<f64>(), parts.concat())
    }
}
