//! Calls to HubSpot, by what they are for.

use std::collections::BTreeMap;

use anyhow::Result;

use super::fleet::Bench;

/// Calls by operation.
pub struct Calls(BTreeMap<String, f64>);

impl Calls {
    /// Those that the fleet has made so far.
    pub async fn of(bench: &Bench) -> Result<Self> {
        let mut all = BTreeMap::new();
        for program in ["leadline-inference", "leadline-writer"] {
            for (operation, count) in bench.counters(program, "leadline_hubspot_calls_total", "operation").await? {
                *all.entry(operation).or_default() += count;
            }
        }
        Ok(Self(all))
    }

    /// Those that were made after `before`.
    pub fn since(mut self, before: &Self) -> Self {
        for (operation, count) in &mut self.0 {
            *count -= before.0.get(operation).copied().unwrap_or_default();
        }
        self
    }

    /// In words: for each of so many events, all of them and by operation.
    pub fn per_event(&self, events: f64) -> String {
        let parts: Vec<_> = self
            .0
            .iter()
            .filter(|(_, count)| **count / events >= 0.00005)
            .map(|(operation, count)| format!("{operation} {:.4}", count / events))
            .collect();
        format!("{:.4} calls to HubSpot per event: {}", self.0.values().sum::<f64>() / events, parts.join(", "))
    }
}
