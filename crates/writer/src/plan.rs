//! What a batch writes: at most one update per record, of each property the newest value, and nothing older than what
//! the ledger knows.

use std::collections::BTreeMap;

use domain::{RecordRef, WriteCommand, write_command::PropertyChange};
use ledger::{LatestWrites, SkippedWrite};

/// A command that this writer has taken.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its place in the batch as it was gathered.
    pub index: usize,
    /// What is to be done.
    pub command: WriteCommand,
    /// The claim's number in the ledger.
    pub attempt: i32,
    /// Properties that were written under an earlier claim.
    pub written: Vec<String>,
    /// How often its message failed before.
    pub failures: u32,
}

/// One record's update, made of the commands in the batch that are about it.
#[derive(Debug)]
pub struct RecordUpdate {
    /// The record.
    pub record: RecordRef,
    /// What to set, each property once.
    pub changes: Vec<PropertyChange>,
    /// The commands, each with the properties of `changes` that are its own.
    pub parts: Vec<CommandPart>,
}

/// What one command contributes to a record's update.
#[derive(Debug)]
pub struct CommandPart {
    /// The command.
    pub job: Job,
    /// Its properties that are written; the others have newer values, or are written already.
    pub changes: Vec<PropertyChange>,
    /// Its properties that are left as they are, by their write policy.
    pub skipped_writes: Vec<SkippedWrite>,
}

/// Sorts jobs into updates, and gives back beside them the jobs of which nothing is left to write.
pub fn plan(jobs: Vec<Job>, newest: &LatestWrites) -> (Vec<RecordUpdate>, Vec<Job>) {
    let mut by_record: BTreeMap<RecordRef, Vec<Job>> = BTreeMap::new();
    for job in jobs {
        by_record.entry(job.command.record.clone()).or_default().push(job);
    }
    let (mut updates, mut superseded) = (Vec::new(), Vec::new());
    for (record, mut jobs) in by_record {
        // LatestWrites first: whoever comes first for a property has it.
        jobs.sort_by(|a, b| b.command.order().cmp(&a.command.order()));
        let mut update = RecordUpdate { record, changes: Vec::new(), parts: Vec::new() };
        for job in jobs {
            let is_free = |change: &&PropertyChange| {
                !newest.is_newer_than(&job.command, &change.property)
                    && !update.changes.iter().any(|taken| taken.property == change.property)
            };
            let left = || job.command.properties.iter().filter(|change| !job.written.contains(&change.property));
            let changes: Vec<_> = left().filter(is_free).cloned().collect();
            if changes.is_empty() && left().next().is_some() {
                superseded.push(job);
            } else {
                update.changes.extend(changes.iter().cloned());
                update.parts.push(CommandPart { job, changes, skipped_writes: Vec::new() });
            }
        }
        if !update.parts.is_empty() {
            updates.push(update);
        }
    }
    (updates, superseded)
}

#[cfg(test)]
mod tests {
    use domain::{
        EventId, EventKey, InferenceId, ObjectId, ObjectType, PortalId, WriteCommandId, write_command::WritePolicy,
    };
    use time::{Duration, OffsetDateTime};

    use super::*;

    fn job(index: usize, record: i64, second: i64, properties: &[(&str, &str)]) -> Job {
        let change = |(property, value): &(&str, &str)| PropertyChange {
            property: (*property).to_owned(),
            value: (*value).to_owned(),
            policy: WritePolicy::default(),
        };
        let command = WriteCommand {
            id: WriteCommandId::new(),
            event_id: EventId::new(),
            event_key: EventKey::from_text(format!("key-{index}")),
            inference_id: InferenceId::new(),
            occurred_at: OffsetDateTime::UNIX_EPOCH + Duration::seconds(second),
            record: RecordRef { portal_id: PortalId(1), object_type: ObjectType::Contact, object_id: ObjectId(record) },
            properties: properties.iter().map(change).collect(),
            actions: Vec::new(),
        };
        Job { index, command, attempt: 1, written: Vec::new(), failures: 0 }
    }

    #[test]
    fn two_commands_of_one_record_become_one_update_of_the_newest_values() {
        let jobs = vec![
            job(0, 1, 10, &[("score", "1"), ("only_in_old", "x")]),
            job(1, 1, 20, &[("score", "2")]),
            job(2, 2, 5, &[("score", "3")]),
            job(3, 1, 5, &[("score", "0")]),
        ];
        let (updates, superseded) = plan(jobs, &LatestWrites::default());
        assert_eq!(updates.len(), 2);
        let changes: Vec<_> = updates[0].changes.iter().map(|c| (c.property.as_str(), c.value.as_str())).collect();
        assert_eq!(changes, [("score", "2"), ("only_in_old", "x")]);
        assert_eq!(updates[0].parts.iter().map(|part| part.job.index).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(superseded.iter().map(|job| job.index).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn the_same_moment_is_decided_by_the_key_on_every_replica() {
        let (updates, _) =
            plan(vec![job(1, 1, 5, &[("a", "1")]), job(2, 1, 5, &[("a", "2")])], &LatestWrites::default());
        assert_eq!(updates[0].changes[0].value, "2");
        let (updates, _) =
            plan(vec![job(2, 1, 5, &[("a", "2")]), job(1, 1, 5, &[("a", "1")])], &LatestWrites::default());
        assert_eq!(updates[0].changes[0].value, "2");
    }

    #[test]
    fn what_was_written_before_is_not_superseded_by_being_written() {
        let mut again = job(0, 1, 10, &[("score", "1")]);
        again.written = vec!["score".to_owned()];
        let (updates, superseded) = plan(vec![again, job(1, 1, 20, &[])], &LatestWrites::default());
        assert!(superseded.is_empty(), "their actions are still to be done");
        assert!(updates[0].changes.is_empty() && updates[0].parts.len() == 2);
    }
}
