//! What a version of a playbook has to show before workers run it.

/// The gate of a playbook: the share of its cases that a model must answer as expected before a version runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// The folder of the cases, from that of the playbook file.
    pub eval: String,
    /// The least share of hits, above 0 and at most 1. A hit is an answer that meets every expectation of its case.
    pub min_hits: f64,
}

/// Differences below this are those of the arithmetic: 0.55 of 100 are 55.
const ROUNDING: f64 = 1e-9;

impl Gate {
    /// Whether so many hits among so many answers are enough. None of none are not.
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^53")]
    pub fn lets_pass(&self, hits: usize, answers: usize) -> bool {
        answers > 0 && hits as f64 / answers as f64 + ROUNDING >= self.min_hits
    }
}

#[cfg(test)]
mod tests {
    use super::Gate;

    #[test]
    fn hits_are_enough_from_the_share_that_the_gate_names() {
        let gate = |min_hits| Gate { eval: "cases".to_owned(), min_hits };
        assert!(gate(0.9).lets_pass(9, 10) && !gate(0.9).lets_pass(8, 10));
        assert!(gate(0.55).lets_pass(55, 100) && !gate(0.55).lets_pass(54, 100));
        assert!(gate(1.0).lets_pass(3, 3) && !gate(1.0).lets_pass(2, 3));
        assert!(!gate(0.1).lets_pass(0, 0), "nothing shows nothing");
    }
}
