//! What is read from HubSpot for one inference.

use std::collections::BTreeSet;

use domain::ObjectType;

use crate::path::RecordPath;

/// What is read from HubSpot for one inference.
#[derive(Debug, Clone)]
pub struct ContextPlan {
    /// Which records are read, and what of each.
    pub reads: Vec<ContextRead>,
    /// What is done when the context has more than `max_tokens` tokens.
    pub window: WindowStrategy,
    /// How many tokens of the model's window the context may take.
    pub max_tokens: usize,
}

/// What is read of the records at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextRead {
    /// Which records.
    pub path: RecordPath,
    /// The maximum number of records: those with a primary association first, then the newest.
    pub max_records: usize,
    /// The properties that are listed with their names.
    pub properties: Vec<String>,
    /// The properties with text that people wrote; they become entries of the context.
    pub texts: Vec<String>,
    /// The types of engagements whose texts become entries of the context.
    pub engagements: Vec<ObjectType>,
    /// The maximum number of engagements of each type, newest first.
    pub newest: usize,
}

/// What is done when a context is longer than its part of the model's window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowStrategy {
    /// The newest entries are kept, and a line says how many were left out.
    #[default]
    Newest,
    /// The entries are condensed in parts, each by an inference of its own, and the question is asked about the
    /// condensed parts.
    MapReduce,
}

impl ContextPlan {
    /// The types of records that are read.
    pub fn kinds(&self) -> BTreeSet<ObjectType> {
        self.reads.iter().map(|read| read.path.end().clone()).collect()
    }

    /// The properties that are read of records of this type, at any path.
    pub fn properties_of(&self, kind: &ObjectType) -> BTreeSet<&str> {
        let reads = self.reads.iter().filter(|read| read.path.end() == kind);
        reads.flat_map(|read| read.properties.iter().chain(&read.texts)).map(String::as_str).collect()
    }

    /// The reads for a record of this type: the record itself first, and each path after its parent.
    pub fn reads_for(&self, kind: &ObjectType) -> Vec<&ContextRead> {
        let mut reads: Vec<_> = self.reads.iter().filter(|read| read.path.start() == kind).collect();
        reads.sort_by_key(|read| read.path.steps());
        reads
    }

    /// Whether the records at `path` are read.
    pub(crate) fn contains(&self, path: &RecordPath) -> bool {
        self.reads.iter().any(|read| read.path == *path)
    }
}
