//! The forms that bodies of messages have had.

use serde::{Serialize, de::DeserializeOwned};

use crate::{event::Event, write_command::CommandMessage};

/// The body of a message: JSON in a form that has a version, which the message names.
///
/// While a fleet is upgraded, programs of two versions read each other's messages. Each reads this version and the one before. What is
/// newer it leaves to others. Messages that name none are from before there were versions, and count as version 0.
/// `crates/maintenance/messages/` has messages of each version; a test holds form and version together. A kind of event, or of subject,
/// that the last version does not know is a new form as well.
pub trait MessageBody: Serialize + DeserializeOwned {
    /// The version that this program writes.
    const VERSION: u16;
}

/// 0 and 1: as it is now.
impl MessageBody for Event {
    const VERSION: u16 = 1;
}

/// 0: the whole write command, of which the id alone counts, or the id. 1: the id.
impl MessageBody for CommandMessage {
    const VERSION: u16 = 1;
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::MessageBody;
    use crate::event::{Event, EventKind, Subject};

    /// What messages of each version may say. What is published is never edited: a worker that knows the version only takes nothing else.
    const KINDS: [(u16, &[&str]); 2] = [(0, OF_FIRST), (1, OF_FIRST)];
    const OF_FIRST: &[&str] = &[
        "creation",
        "deletion",
        "privacyDeletion",
        "propertyChange",
        "merge",
        "restore",
        "associationChange",
        "newMessage",
    ];
    const SUBJECTS: [(u16, &[&str]); 2] = [(0, &["record", "association"]), (1, &["record", "association"])];

    /// What is frozen for the version that is written now.
    fn frozen(of_versions: &[(u16, &'static [&'static str])]) -> &'static [&'static str] {
        let of_version = of_versions.iter().find(|(version, _)| *version == Event::VERSION);
        of_version.expect("freeze the kinds and subjects of the new version here").1
    }

    const COUNT_UP: &str = "workers of the last version cannot read it: count `Event::VERSION` up, and freeze the kinds and subjects of \
                            the new version here (CONTRIBUTING.md, \"The form of a message\")";

    #[test]
    fn a_new_kind_of_event_needs_a_new_version() {
        // An operator's run of a playbook makes no message.
        let kinds = EventKind::ALL.iter().filter(|kind| **kind != EventKind::Manual);
        let kinds: Vec<_> = kinds.map(|kind| kind.as_str()).collect();
        assert_eq!(kinds, frozen(&KINDS), "{COUNT_UP}");
    }

    #[test]
    fn a_new_kind_of_subject_needs_a_new_version() {
        // Serde names those that it knows.
        let unknown = serde_json::from_value::<Subject>(json!({"of_no_version": {}})).expect_err("unknown").to_string();
        let known: Vec<_> = unknown.split('`').skip(3).step_by(2).collect();
        assert_eq!(known, frozen(&SUBJECTS), "{COUNT_UP}");
        let record: Value = json!({"record": {"object_type": "0-1", "object_id": 1}});
        serde_json::from_value::<Subject>(record).expect("known");
    }
}
