//! What a batch writes: at most one update per record, and no value older than what the ledger has recorded. Which command sets a
//! property that several ask for, [`crate::policy`] decides: what is not going to be written replaces nothing.

use std::collections::{BTreeMap, HashMap};

use broker::Tries;
use domain::{ObjectType, RecordRef, WriteCommand, write_command::PropertyChange};
use ledger::{LatestWrites, Recovery, SkippedWrite, WrittenProperty};

/// A write command that this writer has taken: the ledger leases it to this writer.
#[derive(Debug, Clone)]
pub struct TakenCommand {
    /// The position of its message in the batch.
    pub index: usize,
    /// The write command.
    pub command: WriteCommand,
    /// Counts how often the command was taken; the ledger accepts a result only under the newest number.
    pub attempt: i32,
    /// Properties that were written in an earlier attempt.
    pub written: Vec<String>,
    /// What its message has behind it.
    pub tries: Tries,
    /// Since when the ledger may have forgotten what it knew.
    pub recovery: Option<Recovery>,
    /// Whether it takes back what an earlier command wrote.
    pub is_undo: bool,
}

/// One record's update, made of the commands in the batch that are about it.
#[derive(Debug)]
pub struct RecordUpdate {
    /// The record.
    pub record: RecordRef,
    /// What the commands ask for, and, once the policies have decided, what is set: then each property occurs once.
    pub changes: Vec<PropertyChange>,
    /// The commands, the newest first, each with its share of `changes`.
    pub parts: Vec<CommandPart>,
    /// The commands whose every property a newer one of the batch sets.
    pub overtaken: Vec<TakenCommand>,
}

/// What one command contributes to a record's update.
#[derive(Debug)]
pub struct CommandPart {
    /// The command.
    pub taken: TakenCommand,
    /// Its properties that are written. The others have newer values, or were written in an earlier attempt.
    pub changes: Vec<PropertyChange>,
    /// Its properties that an earlier attempt has written since it was approved, without the ledger's knowledge.
    pub unrecorded: Vec<WrittenProperty>,
    /// Its properties that the write policies leave as they are.
    pub skipped_writes: Vec<SkippedWrite>,
    /// It was approved, and a value is another one than the reviewer saw: it is proposed again.
    pub asks_again: bool,
}

impl CommandPart {
    fn of(taken: TakenCommand, changes: Vec<PropertyChange>) -> Self {
        Self { taken, changes, unrecorded: Vec::new(), skipped_writes: Vec::new(), asks_again: false }
    }

    /// Whether it is only proposed, or in shadow, and nothing of it is written.
    pub fn is_held(&self) -> bool {
        self.asks_again || self.taken.command.terms.is_held()
    }
}

impl RecordUpdate {
    fn of(record: RecordRef) -> Self {
        Self { record, changes: Vec::new(), parts: Vec::new(), overtaken: Vec::new() }
    }

    /// An update of one part that is held. It shares its record's update with no other command.
    fn held(part: CommandPart) -> Self {
        let mut update = Self::of(part.taken.command.record.clone());
        update.push(part);
        update
    }

    fn push(&mut self, part: CommandPart) {
        self.changes.extend(part.changes.iter().cloned());
        self.parts.push(part);
    }

    /// Whether nothing of it is written.
    pub fn is_held(&self) -> bool {
        self.parts.iter().any(CommandPart::is_held)
    }

    /// The commands that it is made of.
    pub fn commands(&self) -> impl Iterator<Item = &TakenCommand> {
        self.parts.iter().map(|part| &part.taken).chain(&self.overtaken)
    }
}

/// Takes the parts that ask again out of the updates in which they were to be written, into updates of their own.
pub fn hold_back(updates: &mut Vec<RecordUpdate>) {
    let mut held = Vec::new();
    for update in updates.iter_mut() {
        held.extend(update.parts.extract_if(.., |part| part.asks_again).map(RecordUpdate::held));
    }
    updates.retain(|update| update.commands().next().is_some());
    updates.extend(held);
}

/// Sorts commands into updates. Returns beside them the commands for whose every property the ledger has a newer value. A command
/// that is held replaces no value of a live one, so it is an update of its own.
pub fn plan(taken: Vec<TakenCommand>, latest: &LatestWrites) -> (Vec<RecordUpdate>, Vec<TakenCommand>) {
    let mut by_record: BTreeMap<RecordRef, Vec<TakenCommand>> = BTreeMap::new();
    for taken in taken {
        by_record.entry(taken.command.record.clone()).or_default().push(taken);
    }
    let (mut updates, mut held, mut superseded) = (Vec::new(), Vec::new(), Vec::new());
    for (record, mut commands) in by_record {
        commands.sort_by(|a, b| b.command.order().cmp(&a.command.order()));
        let mut update = RecordUpdate::of(record);
        for taken in commands {
            let mut unwritten =
                taken.command.properties.iter().filter(|change| !taken.written.contains(&change.property)).peekable();
            let has_unwritten = unwritten.peek().is_some();
            let is_newest = |change: &&PropertyChange| !latest.is_newer_than(&taken.command, &change.property);
            let changes: Vec<_> = unwritten.filter(is_newest).cloned().collect();
            if changes.is_empty() && has_unwritten {
                superseded.push(taken);
            } else if taken.command.terms.is_held() {
                held.push(RecordUpdate::held(CommandPart::of(taken, changes)));
            } else {
                update.push(CommandPart::of(taken, changes));
            }
        }
        if !update.parts.is_empty() {
            updates.push(update);
        }
    }
    updates.extend(held);
    (updates, superseded)
}

/// Groups updates by object type: one call to HubSpot is about one type.
pub fn by_object_type<'a>(
    updates: impl IntoIterator<Item = &'a RecordUpdate>,
) -> HashMap<&'a ObjectType, Vec<&'a RecordUpdate>> {
    let mut groups: HashMap<&ObjectType, Vec<&RecordUpdate>> = HashMap::new();
    for update in updates {
        groups.entry(&update.record.object_type).or_default().push(update);
    }
    groups
}

#[cfg(test)]
mod tests {
    use domain::{
        EventId, EventKey, InferenceId, ObjectId, ObjectType, PortalId, WriteCommandId,
        review::{WriteMode, WriteTerms},
        write_command::WritePolicy,
    };
    use time::{Duration, OffsetDateTime};

    use super::*;

    fn taken(index: usize, record: i64, second: i64, properties: &[(&str, &str)]) -> TakenCommand {
        let change = |(property, value): &(&str, &str)| PropertyChange {
            property: (*property).to_owned(),
            value: (*value).to_owned(),
            policy: WritePolicy::default(),
            expected: None,
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
            terms: WriteTerms::default(),
        };
        TakenCommand {
            index,
            command,
            attempt: 1,
            written: Vec::new(),
            tries: Tries::default(),
            recovery: None,
            is_undo: false,
        }
    }

    #[test]
    fn the_commands_of_one_record_become_one_update_the_newest_first() {
        let commands = vec![
            taken(0, 1, 10, &[("score", "1"), ("only_in_old", "x")]),
            taken(1, 1, 20, &[("score", "2")]),
            taken(2, 2, 5, &[("score", "3")]),
        ];
        let (updates, superseded) = plan(commands, &LatestWrites::default());
        assert!(superseded.is_empty(), "the ledger has nothing newer");
        let parts = updates.iter().map(|update| update.parts.iter().map(|part| part.taken.index).collect::<Vec<_>>());
        assert_eq!(parts.collect::<Vec<_>>(), [vec![1, 0], vec![2]]);
    }

    #[test]
    fn a_command_that_is_held_is_an_update_of_its_own() {
        let mut newer = taken(0, 1, 20, &[("score", "2")]);
        newer.command.terms.mode = WriteMode::Review;
        let (updates, superseded) = plan(vec![newer, taken(1, 1, 10, &[("score", "1")])], &LatestWrites::default());
        assert!(superseded.is_empty());
        assert_eq!(updates.iter().map(RecordUpdate::is_held).collect::<Vec<_>>(), [false, true]);
        assert_eq!((&*updates[0].changes[0].value, &*updates[1].changes[0].value), ("1", "2"));
    }

    #[test]
    fn at_the_same_moment_every_replica_decides_by_the_event_key() {
        for order in [[1, 2], [2, 1]] {
            let commands = order.map(|index| taken(index, 1, 5, &[("a", &index.to_string())])).into();
            let (updates, _) = plan(commands, &LatestWrites::default());
            assert_eq!(updates[0].parts[0].changes[0].value, "2");
        }
    }

    #[test]
    fn a_command_is_not_superseded_by_what_it_wrote_in_an_earlier_attempt() {
        let mut again = taken(0, 1, 10, &[("score", "1")]);
        again.written = vec!["score".to_owned()];
        let (updates, superseded) = plan(vec![again, taken(1, 1, 20, &[])], &LatestWrites::default());
        assert!(superseded.is_empty(), "its actions are still to be carried out");
        assert!(updates[0].changes.is_empty() && updates[0].parts.len() == 2);
    }
}
