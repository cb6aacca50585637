//! What an undo changes, and what it leaves: by the ledger alone, and then by what HubSpot holds.

use std::collections::BTreeMap;

use domain::{
    ActionId, ObjectId, ObjectType, Reason, RecordRef, WriteCommandId,
    write_command::{Action, ActionKind, ActionSpec, ExpectedValue, PropertyChange, WritePolicy},
};
use ledger::{DoneAction, KnownWrite, UndoCommand, WriteAuthor, WriteStanding};
use time::{Duration, OffsetDateTime};

/// The property that holds a deal's stage. An action moves deals, and only an action moves them back.
const STAGE: &str = "dealstage";

/// What stands in the ledger for a value that was erased.
const ERASED: &str = "(erased)";

/// Two events are at least a millisecond apart, and an undo stands between what it takes back and whatever is newer.
const STEP: Duration = Duration::microseconds(1);

/// What an undo does and does not do.
#[derive(Debug, Default)]
pub struct Plan {
    pub changes: Vec<Change>,
    pub removals: Vec<DoneAction>,
    pub left: Vec<Left>,
    /// What was sent cannot be taken back.
    pub notifications: Vec<DoneAction>,
}

/// A property that goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub record: RecordRef,
    pub property: String,
    /// What the fleet wrote last.
    pub from: String,
    /// The value before the oldest write that is undone.
    pub to: Option<String>,
    pub author: WriteAuthor,
    /// The writes that are undone, the newest first, of which there is one at least.
    writes: Vec<WriteCommandId>,
    /// Just behind the newest write that the ledger knows.
    occurred_at: OffsetDateTime,
}

/// Something that stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    pub record: RecordRef,
    /// The property, or what the action made.
    pub what: String,
    /// What the fleet wrote.
    pub wrote: Option<String>,
    /// What is there now, as far as that is known.
    pub now: Option<String>,
    pub reason: Reason,
    pub author: WriteAuthor,
}

impl Plan {
    /// The plan for writes in the order in which the ledger returns them, and for actions.
    pub fn new(writes: &[KnownWrite], actions: Vec<DoneAction>) -> Self {
        let mut plan = Self::default();
        for writes in writes.chunk_by(|a, b| a.record == b.record && a.property == b.property) {
            plan.add_property(writes);
        }
        let (notifications, removals) = actions.into_iter().partition(|action| action.kind == ActionKind::Notify);
        (plan.notifications, plan.removals) = (notifications, removals);
        plan
    }

    /// Adds a property by all of its writes, the newest first.
    fn add_property(&mut self, writes: &[KnownWrite]) {
        let stands = |write: &&KnownWrite| write.standing != WriteStanding::Undone;
        let standing: Vec<_> = writes.iter().filter(stands).collect();
        let selected = standing.iter().take_while(|write| write.standing == WriteStanding::Selected).count();
        // What a person or another program set between two of the writes is what the newer one replaced: it comes back. What was undone
        // is a link of the chain like any other write: it was there when the next one came.
        let newest = writes.iter().position(|write| stands(&write)).unwrap_or(writes.len());
        let chain = &writes[newest..];
        let follows = |pair: &&[KnownWrite]| pair[0].before.as_deref().unwrap_or_default() == pair[1].after;
        let links = chain.windows(2).take_while(follows).count();
        let unbroken = chain.iter().take(links + 1).filter(stands).count();
        let (undone, rest) = standing.split_at(selected.min(unbroken));
        let replaced = rest.iter().enumerate().filter(|(_, write)| write.standing == WriteStanding::Selected);
        let reason = |place| {
            if undone.len() + place < selected { Reason::ValueChanged } else { Reason::NewerEventWritten }
        };
        self.left.extend(replaced.map(|(place, write)| left(write, None, reason(place))));
        let (Some(newest), Some(oldest), Some(first)) = (undone.first(), undone.last(), writes.first()) else { return };
        let is_erased = |value: Option<&str>| value == Some(ERASED);
        if is_erased(Some(&newest.after)) || is_erased(oldest.before.as_deref()) {
            self.left.push(left(newest, None, Reason::RecordErased));
            return;
        }
        if newest.after == oldest.before.as_deref().unwrap_or_default() {
            return;
        }
        self.changes.push(Change {
            record: newest.record.clone(),
            property: newest.property.clone(),
            from: newest.after.clone(),
            to: oldest.before.clone(),
            author: newest.author.clone(),
            writes: undone.iter().map(|write| write.command).collect(),
            occurred_at: first.occurred_at + STEP,
        });
    }

    /// Leaves out the changes that cannot or need not be made, by what HubSpot holds: `None` for a record that is gone.
    pub fn keep_if_current(&mut self, current: impl Fn(&Change) -> Option<Option<String>>) {
        let (mut kept, mut left) = (Vec::new(), Vec::new());
        for change in std::mem::take(&mut self.changes) {
            let (now, reason) = match current(&change) {
                None => (None, Reason::RecordGone),
                Some(now) if now.as_deref().unwrap_or_default() == change.from => {
                    kept.push(change);
                    continue;
                }
                Some(now) => (now, Reason::ValueChanged),
            };
            let Change { record, property, from, author, .. } = change;
            left.push(Left { record, what: property, wrote: Some(from), now, reason, author });
        }
        self.changes = kept;
        self.left.extend(left);
    }

    /// Leaves out the tasks and notes that people have changed.
    pub fn keep_if_untouched(&mut self, is_touched: impl Fn(&DoneAction) -> bool) {
        let (touched, kept) = std::mem::take(&mut self.removals).into_iter().partition(is_touched);
        self.removals = kept;
        let touched: Vec<DoneAction> = touched;
        self.left.extend(touched.into_iter().map(|action| Left {
            what: made(&action),
            record: action.record,
            wrote: None,
            now: None,
            reason: Reason::ChangedByPerson,
            author: action.author,
        }));
    }

    /// The write commands that carry it out: one for each command of which something is undone.
    pub fn commands(&self) -> Vec<UndoCommand> {
        let mut commands: BTreeMap<WriteCommandId, UndoCommand> = BTreeMap::new();
        for change in &self.changes {
            let Some(newest) = change.writes.first() else { continue };
            let command = command_of(&mut commands, *newest, &change.record, change.occurred_at);
            let undone = change.writes.iter().map(|write| (*write, change.property.clone()));
            command.undone_writes.extend(undone);
            match &change.to {
                // Who wrote the stage already has nothing to take back.
                Some(to) if change.is_move() => command
                    .actions
                    .push(action("move back", ActionSpec::MoveDealBack { from: change.from.clone(), to: to.clone() })),
                _ => command.properties.push(PropertyChange {
                    property: change.property.clone(),
                    value: change.to.clone().unwrap_or_default(),
                    policy: WritePolicy::Always,
                    expected: Some(ExpectedValue { value: Some(change.from.clone()) }),
                }),
            }
        }
        for removal in &self.removals {
            let Some((kind, id)) = engagement(removal) else { continue };
            let at = removal.occurred_at + STEP;
            let command = command_of(&mut commands, removal.command, &removal.record, at);
            let engagement = RecordRef { object_type: kind, object_id: id, ..removal.record.clone() };
            command.actions.push(action(&removal.name, ActionSpec::DeleteEngagement { engagement }));
            command.undone_actions.push(removal.id);
        }
        commands.into_values().collect()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.removals.is_empty()
    }
}

impl Change {
    /// Whether it moves a deal back.
    fn is_move(&self) -> bool {
        self.property == STAGE && self.record.object_type == ObjectType::Deal
    }
}

/// What an action made, in words.
pub fn made(action: &DoneAction) -> String {
    let id = action.made.map(|id| format!("/{id}")).unwrap_or_default();
    match action.kind {
        ActionKind::CreateTask => format!("task{id}"),
        ActionKind::CreateNote => format!("note{id}"),
        kind => kind.as_str().to_owned(),
    }
}

/// The task or note that an action made.
pub fn engagement(action: &DoneAction) -> Option<(ObjectType, ObjectId)> {
    let kind = match action.kind {
        ActionKind::CreateTask => ObjectType::Task,
        ActionKind::CreateNote => ObjectType::Note,
        _ => return None,
    };
    action.made.map(|id| (kind, id))
}

fn left(write: &KnownWrite, now: Option<String>, reason: Reason) -> Left {
    let (record, what) = (write.record.clone(), write.property.clone());
    Left { record, what, wrote: Some(write.after.clone()), now, reason, author: write.author.clone() }
}

fn action(name: &str, spec: ActionSpec) -> Action {
    Action { id: ActionId::new(), name: name.to_owned(), cooldown_hours: 0, spec }
}

fn command_of<'a>(
    commands: &'a mut BTreeMap<WriteCommandId, UndoCommand>,
    of: WriteCommandId,
    record: &RecordRef,
    occurred_at: OffsetDateTime,
) -> &'a mut UndoCommand {
    let command = commands.entry(of).or_insert_with(|| UndoCommand {
        id: WriteCommandId::new(),
        of,
        occurred_at,
        record: record.clone(),
        properties: Vec::new(),
        actions: Vec::new(),
        undone_writes: Vec::new(),
        undone_actions: Vec::new(),
    });
    command.occurred_at = command.occurred_at.max(occurred_at);
    command
}

#[cfg(test)]
mod tests {
    use domain::PortalId;

    use super::*;

    fn write(second: i64, before: Option<&str>, after: &str, standing: WriteStanding) -> KnownWrite {
        KnownWrite {
            command: WriteCommandId::new(),
            record: RecordRef { portal_id: PortalId(1), object_type: ObjectType::Contact, object_id: ObjectId(7) },
            property: "lead_score".to_owned(),
            before: before.map(ToOwned::to_owned),
            after: after.to_owned(),
            occurred_at: OffsetDateTime::UNIX_EPOCH + Duration::seconds(second),
            standing,
            author: WriteAuthor {
                event_key: second.to_string(),
                playbook: "leads".to_owned(),
                playbook_version: "1".to_owned(),
            },
        }
    }

    #[test]
    fn several_writes_of_a_property_go_back_in_one_change_to_the_value_before_the_oldest() {
        use WriteStanding::{Other, Selected};
        let writes =
            [write(3, Some("2"), "3", Selected), write(2, Some("1"), "2", Selected), write(1, None, "1", Other)];
        let plan = Plan::new(&writes, Vec::new());
        let [change] = &plan.changes[..] else { panic!("{plan:?}") };
        assert_eq!((change.from.as_str(), change.to.as_deref()), ("3", Some("1")));
        let commands = plan.commands();
        let [command] = &commands[..] else { panic!("{commands:?}") };
        assert_eq!(command.of, writes[0].command);
        assert_eq!(command.undone_writes.len(), 2);
        assert_eq!(command.properties[0].expected, Some(ExpectedValue { value: Some("3".to_owned()) }));
        assert!(command.occurred_at > writes[0].occurred_at, "it is newer than what it takes back");
        assert!(
            command.occurred_at < writes[0].occurred_at + Duration::milliseconds(1),
            "and older than any other event"
        );
    }

    #[test]
    fn a_write_that_a_newer_event_outside_of_the_selection_has_replaced_stays() {
        use WriteStanding::{Other, Selected};
        let plan = Plan::new(&[write(2, Some("1"), "2", Other), write(1, None, "1", Selected)], Vec::new());
        assert!(plan.is_empty());
        assert!(matches!(&plan.left[..], [left] if left.reason == Reason::NewerEventWritten), "{plan:?}");
    }

    #[test]
    fn what_was_undone_before_is_passed_over_and_the_order_goes_on_behind_it() {
        use WriteStanding::{Selected, Undone};
        let put_back = write(2, Some("2"), "1", Undone);
        let writes = [put_back, write(2, Some("1"), "2", Undone), write(1, None, "1", Selected)];
        let plan = Plan::new(&writes, Vec::new());
        let [change] = &plan.changes[..] else { panic!("{plan:?}") };
        assert_eq!((change.from.as_str(), change.to.as_deref()), ("1", None));
        assert!(plan.commands()[0].occurred_at > writes[0].occurred_at);
    }

    #[test]
    fn an_undo_that_a_newer_write_overtook_breaks_no_chain() {
        use WriteStanding::{Selected, Undone};
        let writes =
            [write(3, Some("2"), "3", Selected), write(2, Some("1"), "2", Undone), write(1, None, "1", Selected)];
        let plan = Plan::new(&writes, Vec::new());
        let [change] = &plan.changes[..] else { panic!("{plan:?}") };
        assert_eq!((change.from.as_str(), change.to.as_deref()), ("3", None));
        assert!(plan.left.is_empty(), "{plan:?}");
    }

    #[test]
    fn what_a_person_changed_since_stays() {
        let mut plan = Plan::new(&[write(1, None, "1", WriteStanding::Selected)], Vec::new());
        plan.keep_if_current(|_| Some(Some("9".to_owned())));
        assert!(plan.is_empty() && plan.commands().is_empty());
        let [left] = &plan.left[..] else { panic!("{plan:?}") };
        assert_eq!((left.reason, left.now.as_deref()), (Reason::ValueChanged, Some("9")));
    }

    #[test]
    fn a_value_that_was_set_between_two_writes_comes_back() {
        use WriteStanding::Selected;
        let writes = [write(2, Some("5"), "7", Selected), write(1, None, "1", Selected)];
        let plan = Plan::new(&writes, Vec::new());
        let [change] = &plan.changes[..] else { panic!("{plan:?}") };
        assert_eq!((change.from.as_str(), change.to.as_deref()), ("7", Some("5")));
        assert!(matches!(&plan.left[..], [left] if left.reason == Reason::ValueChanged), "{plan:?}");
    }
}
