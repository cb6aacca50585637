//! A rate: how many of how many, and how far chance may have moved it.

/// The standard normal distribution's quantile for an interval that holds the true rate in 95 of 100 samples.
const Z: f64 = 1.959_964;

/// So many of so many. A part is never greater than the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    part: i64,
    whole: i64,
}

/// The lowest and the highest rate that a sample is compatible with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lowest, from 0 to 1.
    pub low: f64,
    /// The highest, from 0 to 1.
    pub high: f64,
}

impl Rate {
    /// `part` of `whole`. What is more than the whole, or less than nothing, is cut off.
    pub fn of(part: i64, whole: i64) -> Self {
        let whole = whole.max(0);
        Self { part: part.clamp(0, whole), whole }
    }

    /// How many.
    pub fn part(self) -> i64 {
        self.part
    }

    /// Of how many.
    pub fn whole(self) -> i64 {
        self.whole
    }

    /// The share, from 0 to 1; `None` of nothing.
    pub fn share(self) -> Option<f64> {
        (self.whole > 0).then(|| as_f64(self.part) / as_f64(self.whole))
    }

    /// Wilson's 95 % score interval of the true rate; `None` of nothing. It is right for small samples and for rates near 0 and 1, too
    /// (E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927).
    pub fn interval(self) -> Option<Interval> {
        let (share, whole) = (self.share()?, as_f64(self.whole));
        let square = Z * Z;
        let scale = 1.0 + square / whole;
        let centre = (share + square / (2.0 * whole)) / scale;
        let half = Z / scale * (share * (1.0 - share) / whole + square / (4.0 * whole * whole)).sqrt();
        // At the ends, rounding alone would keep them from being 0 and 1.
        let low = if self.part == 0 { 0.0 } else { (centre - half).max(0.0) };
        let high = if self.part == self.whole { 1.0 } else { (centre + half).min(1.0) };
        Some(Interval { low, high })
    }

    /// Whether it is above `bound`, a share from 0 to 1, beyond what chance explains: all of the interval is.
    pub fn is_surely_above(self, bound: f64) -> bool {
        self.interval().is_some_and(|interval| interval.low > bound)
    }

    /// Whether it is another rate than `other`, beyond what chance explains: zero is not within the 95 % interval of the difference,
    /// which both intervals give together (R. G. Newcombe, "Interval estimation for the difference between independent proportions",
    /// 1998, method 10).
    pub fn differs_from(self, other: Self) -> bool {
        let known = |rate: Self| rate.share().zip(rate.interval());
        let Some(((share, mine), (other_share, others))) = known(self).zip(known(other)) else { return false };
        let difference = share - other_share;
        let below = (share - mine.low).hypot(others.high - other_share);
        let above = (mine.high - share).hypot(other_share - others.low);
        difference - below > 0.0 || difference + above < 0.0
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts that matter are far below 2^53")]
fn as_f64(count: i64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::Rate;

    #[test]
    fn the_interval_is_wilsons_and_stays_within_0_and_1() {
        for (part, whole, low, high) in [
            // Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3.
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
            (20, 20, 0.8389, 1.0),
        ] {
            let interval = Rate::of(part, whole).interval().expect("of something");
            assert!((interval.low - low).abs() < 0.000_06, "{part} of {whole}: {interval:?}");
            assert!((interval.high - high).abs() < 0.000_06, "{part} of {whole}: {interval:?}");
        }
        assert_eq!(Rate::of(0, 0).interval(), None);
        assert_eq!(Rate::of(5, 3), Rate::of(3, 3));
    }

    #[test]
    fn a_rate_is_above_a_bound_when_chance_does_not_explain_it() {
        assert!(Rate::of(40, 100).is_surely_above(0.3));
        assert!(!Rate::of(4, 10).is_surely_above(0.3), "the same share of a small sample");
        assert!(!Rate::of(30, 100).is_surely_above(0.3) && !Rate::of(0, 0).is_surely_above(0.0));
    }

    #[test]
    fn rates_differ_when_chance_does_not_explain_it() {
        assert!(Rate::of(40, 100).differs_from(Rate::of(10, 100)));
        assert!(Rate::of(15, 400).differs_from(Rate::of(93, 1_287)), "although the intervals overlap");
        assert!(!Rate::of(4, 10).differs_from(Rate::of(1, 10)));
        assert!(!Rate::of(4, 10).differs_from(Rate::of(0, 0)));
    }
}
