//! Which rates of a playbook's version have a bound.

use crate::names::closed_set;

closed_set! {
    /// A rate of a playbook's version that has a bound.
    pub enum DriftRate {
        Overridden = "overridden", "Written answers of which a person changed a value.";
        Refused = "refused", "Questions that the model declined.";
        Unverified = "unverified", "Answers with a quotation that was not found.";
        Parked = "parked", "Answers whose event or write command is parked.";
    }
}
