//! Which fault comes next.

use rand::{Rng, seq::SliceRandom};

use super::faults::ChaosFault;

/// Gives every kind of fault once, in random order, before any comes again, so that a short run meets most of them.
pub struct Schedule {
    kinds: Vec<ChaosFault>,
    left: Vec<ChaosFault>,
}

impl Schedule {
    /// Those of `faults` whose name contains `only`; all without it. `None` when there is no such fault.
    pub fn new(faults: impl IntoIterator<Item = ChaosFault>, only: Option<&str>) -> Option<Self> {
        let is_wanted = |fault: &ChaosFault| only.is_none_or(|only| fault.to_string().contains(only));
        let kinds: Vec<_> = faults.into_iter().filter(is_wanted).collect();
        (!kinds.is_empty()).then_some(Self { kinds, left: Vec::new() })
    }

    pub fn next(&mut self, random: &mut impl Rng) -> ChaosFault {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.left.shuffle(random);
        }
        // `new` sees to it that there is at least one kind.
        self.left.pop().unwrap_or(self.kinds[0])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};

    use super::*;

    fn sequence(seed: u64, count: usize) -> Vec<ChaosFault> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut schedule = Schedule::new(ChaosFault::ALL, None).expect("faults");
        (0..count).map(|_| schedule.next(&mut random)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_sequence_of_faults() {
        assert_eq!(sequence(7, 100), sequence(7, 100));
        assert_ne!(sequence(7, 100), sequence(8, 100));
    }

    #[test]
    fn every_kind_of_fault_comes_once_before_any_comes_again() {
        let faults = sequence(7, ChaosFault::ALL.len());
        assert_eq!(faults.into_iter().collect::<BTreeSet<_>>().len(), ChaosFault::ALL.len());
    }

    #[test]
    fn a_name_that_no_fault_has_gives_no_schedule() {
        assert!(Schedule::new(ChaosFault::ALL, Some("RabbitMQ")).is_some());
        assert!(Schedule::new(ChaosFault::ALL, Some("no such fault")).is_none());
    }
}
