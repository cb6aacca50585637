//! Calls to HubSpot: how many, by which service, of what kind, and how many records in a batch.

use std::{collections::BTreeMap, time::Instant};

use anyhow::Result;

use super::fleet::Bench;

/// The services that call HubSpot.
const CALLERS: [&str; 2] = ["inference", "writer"];

/// The counter of finished events of each of them.
const DONE: [&str; 2] = ["leadline_inferences_total", "leadline_write_commands_total"];

/// The calls that the fleet has made up to a moment, or between two moments.
pub struct Calls {
    at: Instant,
    by_replica: [Vec<f64>; 2],
    refused: f64,
    /// By service: finished events.
    done: [f64; 2],
    /// By the index of the service and the kind of call.
    kinds: BTreeMap<(usize, String), Kind>,
}

/// The calls of one kind.
#[derive(Default, Clone, Copy)]
struct Kind {
    calls: f64,
    /// The records in them, of batch calls.
    inputs: f64,
}

impl Calls {
    /// The calls up to now.
    pub async fn of(bench: &Bench) -> Result<Self> {
        let mut calls = Self {
            at: Instant::now(),
            by_replica: Default::default(),
            refused: 0.0,
            done: Default::default(),
            kinds: BTreeMap::new(),
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
                    calls.kinds.entry((service, kind.join(" "))).or_default().calls += count;
                }
                for (kind, sum) in replica.values("leadline_hubspot_batch_size_sum", &of) {
                    calls.kinds.entry((service, kind.join(" "))).or_default().inputs += sum;
                }
                // Batch calls are counted above, by the type of their records.
                let of = ["operation"];
                let single = replica.values("leadline_hubspot_calls_total", &of).filter(|(of, _)| !is_batch(of[0]));
                for (kind, count) in single {
                    calls.kinds.entry((service, kind.join(" "))).or_default().calls += count;
                }
            }
        }
        Ok(calls)
    }

    /// The calls after `before`, and the seconds between the two.
    pub fn since(mut self, before: &Self) -> (Self, f64) {
        for (service, earlier) in self.by_replica.iter_mut().zip(&before.by_replica) {
            service.iter_mut().zip(earlier).for_each(|(count, earlier)| *count -= earlier);
        }
        self.refused -= before.refused;
        self.done.iter_mut().zip(before.done).for_each(|(count, earlier)| *count -= earlier);
        for (name, kind) in &mut self.kinds {
            let earlier = before.kinds.get(name).copied().unwrap_or_default();
            kind.calls -= earlier.calls;
            kind.inputs -= earlier.inputs;
        }
        let seconds = (self.at - before.at).as_secs_f64();
        (self, seconds)
    }

    /// The number of all calls.
    pub fn sum(&self) -> f64 {
        self.by_replica.iter().flatten().sum()
    }

    /// The calls that HubSpot refused with 429.
    pub fn refused(&self) -> f64 {
        self.refused
    }

    /// Jain's fairness index of the calls of the inference replicas, and of the writers: 1 when all replicas make the same
    /// number of calls, 1/n when one makes all of them.
    pub fn fairness(&self) -> [f64; 2] {
        self.by_replica.each_ref().map(|parts| {
            let sum: f64 = parts.iter().sum();
            let squares: f64 = parts.iter().map(|part| part * part).sum();
            #[expect(clippy::cast_precision_loss, reason = "a handful")]
            let count = parts.len() as f64;
            sum * sum / (count * squares)
        })
    }

    /// As text: the calls of all services per event that the service has finished, and those of each kind, with the records in one
    /// batch call. The inference workers may be ahead of the writers.
    pub fn per_event(&self) -> String {
        let per_event: Vec<_> =
            self.by_replica.iter().zip(self.done).map(|(calls, done)| calls.iter().sum::<f64>() / done).collect();
        let line = |((service, name), kind): (&(usize, String), &Kind)| {
            let calls = kind.calls / self.done[*service];
            let inputs =
                if kind.inputs > 0.0 { format!(", {:.0} each", kind.inputs / kind.calls) } else { String::new() };
            (calls >= 0.00005).then(|| format!("\n      {calls:.4} {} {name}{inputs}", CALLERS[*service]))
        };
        let lines: String = self.kinds.iter().filter_map(line).collect();
        format!("{:.4} calls to HubSpot per event{lines}", per_event.iter().sum::<f64>())
    }
}

/// Whether an operation is one of many records: `object.batch_read`.
fn is_batch(operation: &str) -> bool {
    operation.contains("batch")
}
