//! Calls to HubSpot: how many, by whom, of what kind, and how full.

use std::{collections::BTreeMap, time::Instant};

use anyhow::Result;

use super::fleet::Bench;

/// The services that call HubSpot.
const CALLERS: [&str; 2] = ["inference", "writer"];

/// The calls that the fleet has made: up to a moment, or since one.
pub struct Calls {
    at: Instant,
    by_replica: [Vec<f64>; 2],
    refused: f64,
    batches: BTreeMap<String, Batches>,
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
        let mut calls =
            Self { at: Instant::now(), by_replica: Default::default(), refused: 0.0, batches: BTreeMap::new() };
        for (service, by_replica) in CALLERS.iter().zip(&mut calls.by_replica) {
            for replica in bench.scrape(&format!("leadline-{service}")).await? {
                let tries = |wanted: fn(&str) -> bool| {
                    replica.sum("leadline_hubspot_calls_total", &["outcome"], |of| wanted(of[0]))
                };
                by_replica.push(tries(|_| true));
                calls.refused += tries(|outcome| outcome == "rate_limited");
                let of = ["operation", "objects"];
                for (kind, count) in replica.values("leadline_hubspot_call_inputs_count", &of) {
                    calls.batches.entry(format!("{service} {}", kind.join(" "))).or_default().calls += count;
                }
                for (kind, sum) in replica.values("leadline_hubspot_call_inputs_sum", &of) {
                    calls.batches.entry(format!("{service} {}", kind.join(" "))).or_default().inputs += sum;
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

    /// In words: for each of so many events, all of them, and batch calls by kind with the records in one.
    pub fn per_event(&self, events: f64) -> String {
        let parts: Vec<_> = self
            .batches
            .iter()
            .filter(|(_, batches)| batches.calls / events >= 0.00005)
            .map(|(kind, batches)| {
                format!("\n      {:.4} {kind}, {:.0} each", batches.calls / events, batches.inputs / batches.calls)
            })
            .collect();
        format!("{:.4} calls to HubSpot per event{}", self.sum() / events, parts.concat())
    }
}
