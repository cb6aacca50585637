//! Whether a write command is carried out at once, reviewed first, or only recorded.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::{
    names::{closed_set, named_values},
    write_command::ExpectedValue,
};

/// What becomes of what a playbook asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// It is written and done.
    #[default]
    Live,
    /// It is proposed, and written and done when a person or a rule has approved it.
    Review,
    /// The ledger has what would have been written; nothing is.
    Shadow,
}

named_values!(WriteMode { Live => "live", Review => "review", Shadow => "shadow" });

/// The terms under which a write command is carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteTerms {
    /// Whether it is carried out.
    pub mode: WriteMode,
    /// What a review of it needs; empty for a command that was live from the start.
    pub review: ReviewTerms,
    /// Set once it was approved. Then each property expects the value that the reviewer saw.
    pub approved: Option<Approved>,
}

impl WriteTerms {
    /// Whether nothing is written: it is proposed, or in shadow.
    pub fn is_held(&self) -> bool {
        self.mode != WriteMode::Live
    }
}

/// What an approval holds for, beside the values that the properties expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    /// When the values before were read. What the command has written since then, an attempt after the approval wrote.
    pub proposed_at: OffsetDateTime,
    /// The stage in which the reviewer saw the deal that is to be moved.
    pub deal_stage: Option<ExpectedValue>,
}

/// What a review needs to know of the playbook and of the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewTerms {
    /// The field of the answer that each property's value comes from, where it comes from one.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// The fields that go into each property's value where that is a text made of the answer.
    #[serde(default)]
    pub texts: BTreeMap<String, Vec<String>>,
    /// The other properties that are written: nothing of the answer goes into their values.
    #[serde(default)]
    pub others: BTreeSet<String>,
    /// The fields whose quotation was not found.
    #[serde(default)]
    pub unverified: Vec<String>,
    /// The rules that approve without a person, in the order of the playbook.
    #[serde(default)]
    pub approve_if: Vec<ApprovalRule>,
    /// The values of the variables that the rules use.
    #[serde(default)]
    pub variables: Map<String, Value>,
}

/// A condition under which a proposal needs no person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRule {
    /// The rule's name, under which the ledger has the approval.
    pub name: String,
    /// The condition, as the playbook has it.
    pub when: String,
}

closed_set! {
    /// How a proposal was decided about.
    pub enum ReviewDecision {
        Approved = "approved", "A person approved it as it was.";
        Edited = "edited", "A person approved it with other values.";
        Rejected = "rejected", "A person rejected it.";
        Expired = "expired", "Nobody decided in time.";
        ByRule = "by_rule", "A rule of the playbook approved it.";
    }
}

impl ReviewDecision {
    /// Whether the proposal is carried out.
    pub fn approves(self) -> bool {
        match self {
            Self::Approved | Self::Edited | Self::ByRule => true,
            Self::Rejected | Self::Expired => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ReviewTerms;

    #[test]
    fn the_terms_of_another_version_are_read() {
        let read: ReviewTerms = serde_json::from_str(r#"{"fields": {"p": "f"}, "later": 1}"#).expect("read");
        assert_eq!(read.fields["p"], "f");
    }
}
