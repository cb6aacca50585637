//! Decides by the settings and by its write policy whether a value may replace the current one.

use std::collections::{HashMap, HashSet};

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use domain::{
    AppId, PortalId, Reason, WriteCommand,
    write_command::{ExpectedValue, PropertyChange, WritePolicy},
};
use hubspot::client::{ChangeAuthor, PastValue};
use ledger::{LatestWrites, SkippedWrite};

use crate::{
    current_values::{CurrentValue, CurrentValues, OurApp, OwnEntries},
    plan::{CommandPart, RecordUpdate},
    recovered::Forgotten,
};

/// What holds for every write, whatever a write command asks for.
#[derive(Debug, Clone)]
pub struct WriteRules {
    /// The portal that the access token opens: commands about another one are not carried out.
    pub portal_id: PortalId,
    /// Our HubSpot app: values that it set are our own.
    pub app_id: AppId,
    /// Properties that no write command may set. Playbooks that name one are refused before; the writer does not rely on
    /// it, because a command may come from a worker with other settings, or from a row that somebody changed.
    pub protected_properties: HashSet<String>,
    /// How long a proposal waits for a person.
    pub proposals_expire_after: Duration,
}

/// Decides what of the updates is set: takes out the values that may not be written, those that a newer command of the batch sets,
/// and those that HubSpot holds already. Nothing is left of an update whose record's current values are not known: what a policy
/// would say of it is not known either.
///
/// A value that HubSpot holds already is not sent, but it stays in its command's part and is recorded as written: otherwise
/// an older event could put its value over it.
pub fn apply_policies(
    updates: &mut [RecordUpdate],
    current: &CurrentValues,
    latest: &LatestWrites,
    (rules, app): (&WriteRules, OurApp),
) {
    for update in updates {
        update.changes.clear();
        let Some(current) = current.get(&update.record) else { continue };
        let scope = Scope { current, latest, rules, app };
        let mut set_by_newer = HashSet::new();
        for mut part in std::mem::take(&mut update.parts) {
            let asked = part.changes.len();
            part.changes.retain(|change| !set_by_newer.contains(&change.property));
            if asked > 0 && part.changes.is_empty() {
                update.overtaken.push(part.taken);
                continue;
            }
            decide_part(&mut part, scope);
            let set = part.changes.iter().filter(|_| !part.is_held());
            let unrecorded = part.unrecorded.iter().map(|write| &write.property);
            set_by_newer.extend(set.clone().map(|change| &change.property).chain(unrecorded).cloned());
            update.changes.extend(set.filter(|change| !is_unchanged(change, current)).cloned());
            update.parts.push(part);
        }
    }
}

/// Whether HubSpot holds the value already; such a value is counted.
fn is_unchanged(change: &PropertyChange, current: &HashMap<String, CurrentValue>) -> bool {
    let is_unchanged = current.get(&change.property).is_some_and(|current| current.equals(&change.value));
    if is_unchanged {
        metrics::counter!("leadline_unchanged_values_total").increment(1);
    }
    is_unchanged
}

/// What a decision about a record's values is made by.
#[derive(Clone, Copy)]
struct Scope<'a> {
    current: &'a HashMap<String, CurrentValue>,
    latest: &'a LatestWrites,
    rules: &'a WriteRules,
    app: OurApp,
}

/// Finds out whether a part asks again; if not, leaves the values in it that may be written.
fn decide_part(part: &mut CommandPart, Scope { current, latest, rules, app }: Scope<'_>) {
    let command = &part.taken.command;
    if command.terms.approved.is_some() {
        // A person may have changed it since: then it is neither asked about nor written again.
        part.changes.retain(|change| {
            let own = OwnEntries::of(&part.taken, &change.property, latest, app);
            let current = current.get(&change.property);
            let written = current.and_then(|current| current.written_by_attempt(&own, change));
            let is_due = written.is_none();
            part.unrecorded.extend(written);
            is_due
        });
        part.asks_again |= part
            .changes
            .iter()
            .any(|change| current.get(&change.property).is_some_and(|current| is_unexpected(change, current)));
    }
    if part.asks_again {
        return;
    }
    let recovered = Forgotten::since_recorded(&part.taken, rules.app_id);
    part.changes.retain(|change| {
        let Some(current) = current.get(&change.property) else { return false };
        let is_protected = rules.protected_properties.contains(&change.property);
        let property = (&command.record, change.property.as_str());
        let is_overtaken = recovered.is_some_and(|forgotten| {
            let is_forgotten = |set: &PastValue| forgotten.includes(set, property, latest);
            !current.equals(&change.value) && current.last_set().is_some_and(is_forgotten)
        });
        let overtaken = || is_overtaken.then_some(Reason::NewerEventWritten);
        let by_policy = || overtaken().or_else(|| reason_to_skip(change, current, command, rules.app_id));
        let reason = if is_protected { Some(Reason::ProtectedProperty) } else { by_policy() };
        let Some(reason) = reason else { return true };
        if is_protected {
            let (command, property) = (command.id, &change.property);
            tracing::error!(%command, property, "a write command asks for a protected property; it is not set");
        }
        metrics::counter!("leadline_skipped_writes_total", "reason" => reason.as_str()).increment(1);
        part.skipped_writes.push(SkippedWrite {
            property: change.property.clone(),
            reason,
            current_value: current.value.clone(),
            proposed_value: change.value.clone(),
        });
        false
    });
}

/// Whether the property has another value than the expected one, and not the new one.
fn is_unexpected(change: &PropertyChange, current: &CurrentValue) -> bool {
    let is_expected = |expected: &ExpectedValue| current.equals(expected.value.as_deref().unwrap_or_default());
    !current.equals(&change.value) && change.expected.as_ref().is_some_and(|expected| !is_expected(expected))
}

/// Why the change may not be written; `None` when it may.
fn reason_to_skip(
    change: &PropertyChange,
    current: &CurrentValue,
    command: &WriteCommand,
    app_id: AppId,
) -> Option<Reason> {
    if is_unexpected(change, current) {
        return Some(Reason::ValueChanged);
    }
    match change.policy {
        WritePolicy::Always => None,
        WritePolicy::IfEmpty => (current.value.is_some() && !current.is_default()).then_some(Reason::KeptFilled),
        // Who set it may have been a person, and may have been later.
        WritePolicy::UnlessHuman if current.has_unknown_author() => Some(Reason::KeptHumanValue),
        WritePolicy::IfNewer if current.has_unknown_author() => Some(Reason::KeptNewer),
        WritePolicy::UnlessHuman => {
            // A value that a person cleared counts as set by this person.
            let origin = current.origin()?;
            count_unclear(origin);
            origin.author().may_be_person().then_some(Reason::KeptHumanValue)
        }
        WritePolicy::IfHigher => {
            let number = |text: &str| text.trim().parse::<f64>().ok();
            let is_higher = match current.value.as_deref().map(number) {
                None => true,
                Some(current) => {
                    number(&change.value).zip(current).is_some_and(|(proposed, current)| proposed > current)
                }
            };
            (!is_higher).then_some(Reason::KeptHigher)
        }
        WritePolicy::IfNewer => {
            // The time of our own values is the time of the write, not of the event. The plan has compared events already.
            let set_later = |set: &&PastValue| !set.is_by_app(app_id) && set.timestamp >= command.occurred_at;
            current.last_set().filter(set_later).map(|_| Reason::KeptNewer)
        }
    }
}

/// Counts a value that is kept because its source does not tell a person from a machine, so that the list of sources can grow.
fn count_unclear(origin: &PastValue) {
    let source = match origin.author() {
        ChangeAuthor::CarriedOver | ChangeAuthor::Unclear => origin.source_type.clone(),
        ChangeAuthor::Unlisted => unlisted_label(&origin.source_type),
        ChangeAuthor::Person | ChangeAuthor::Machine | ChangeAuthor::Default => return,
    };
    metrics::counter!("leadline_unclear_sources_total", "source" => source).increment(1);
}

/// The label of a source that is not on HubSpot's list. HubSpot's names are short and in capitals; anything else has one label,
/// and so have all beyond [`MAX_UNLISTED`], so that the metric stays small whatever HubSpot sends.
fn unlisted_label(source: &str) -> String {
    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let is_name = (1..=MAX_SOURCE_LENGTH).contains(&source.len())
        && source.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if is_name && (seen.contains(source) || seen.len() < MAX_UNLISTED) {
        seen.insert(source.to_owned());
        return source.to_owned();
    }
    "other".to_owned()
}

/// How many unlisted sources have a label of their own in one process.
const MAX_UNLISTED: usize = 32;

/// In bytes. HubSpot's longest name, `WORKFLOW_CONTACT_DELETE_ACTION`, has 30.
const MAX_SOURCE_LENGTH: usize = 40;

#[cfg(test)]
mod tests {
    use domain::{EventId, EventKey, InferenceId, ObjectId, ObjectType, PortalId, RecordRef, WriteCommandId};
    use time::{Duration, OffsetDateTime};

    use super::*;
    use crate::current_values::History;

    const APP: AppId = AppId(7);

    fn command() -> WriteCommand {
        WriteCommand {
            id: WriteCommandId::new(),
            event_id: EventId::new(),
            event_key: EventKey::from_text("k"),
            inference_id: InferenceId::new(),
            occurred_at: OffsetDateTime::UNIX_EPOCH + Duration::hours(1),
            record: RecordRef { portal_id: PortalId(1), object_type: ObjectType::Contact, object_id: ObjectId(1) },
            properties: vec![],
            actions: vec![],
            terms: domain::review::WriteTerms::default(),
        }
    }

    fn skipped(
        policy: WritePolicy,
        proposed: &str,
        current: Option<&str>,
        set: Option<(&str, &str, i64)>,
    ) -> Option<Reason> {
        skipped_change(&PropertyChange { policy, ..change(proposed) }, current, set)
    }

    fn change(proposed: &str) -> PropertyChange {
        let (property, value) = ("p".to_owned(), proposed.to_owned());
        PropertyChange { property, value, policy: WritePolicy::Always, expected: None }
    }

    fn skipped_change(
        change: &PropertyChange,
        current: Option<&str>,
        set: Option<(&str, &str, i64)>,
    ) -> Option<Reason> {
        let last_set = set.map(|(source_type, source_id, minutes)| PastValue {
            value: current.unwrap_or_default().to_owned(),
            timestamp: OffsetDateTime::UNIX_EPOCH + Duration::minutes(minutes),
            source_type: source_type.to_owned(),
            source_id: Some(source_id.to_owned()),
        });
        reason_to_skip(
            change,
            &CurrentValue {
                value: current.map(ToOwned::to_owned),
                is_null: false,
                history: History::Read(last_set.into_iter().collect()),
            },
            &command(),
            APP,
        )
    }

    #[test]
    fn each_policy_skips_the_writes_that_it_names() {
        use WritePolicy::{Always, IfEmpty, IfHigher, IfNewer, UnlessHuman};
        let person = Some(("CRM_UI", "userId:1", 30));
        let app = Some(("INTEGRATION", "7", 90));
        let other = Some(("INTEGRATION", "8", 90));
        assert_eq!(skipped(Always, "2", Some("1"), person), None);
        assert_eq!(skipped(IfEmpty, "2", Some("1"), app), Some(Reason::KeptFilled));
        assert_eq!(skipped(IfEmpty, "2", None, None), None);
        assert_eq!(skipped(UnlessHuman, "2", Some("1"), person), Some(Reason::KeptHumanValue));
        assert_eq!(skipped(UnlessHuman, "2", None, person), Some(Reason::KeptHumanValue), "a person cleared it");
        assert_eq!(skipped(UnlessHuman, "2", Some("1"), Some(("SOMETHING_NEW", "", 1))), Some(Reason::KeptHumanValue));
        assert_eq!(skipped(UnlessHuman, "2", Some("1"), app), None);
        assert_eq!(skipped(UnlessHuman, "2", Some("1"), other), None);
        assert_eq!(skipped(UnlessHuman, "2", None, None), None);
        assert_eq!(skipped(UnlessHuman, "2", Some("1"), None), Some(Reason::KeptHumanValue), "nobody says who set it");
        assert_eq!(skipped(IfNewer, "2", Some("1"), None), Some(Reason::KeptNewer), "nobody says when it was set");
        for machine in ["AI_GROUP", "BREEZE_AGENT", "SMART_DATA_CAPTURE", "DEFAULT", "SEQUENCES", "PIPELINE_SETTINGS"] {
            assert_eq!(skipped(UnlessHuman, "2", Some("1"), Some((machine, "", 1))), None, "{machine}");
        }
        let default = Some(("PROPERTY_DEFAULT_VALUE", "", 1));
        assert_eq!(skipped(IfEmpty, "2", Some("1"), default), None, "nobody chose a default");
        assert_eq!(skipped(IfHigher, "2", Some("1.5"), None), None);
        assert_eq!(skipped(IfHigher, "1.5", Some("2"), None), Some(Reason::KeptHigher));
        assert_eq!(skipped(IfHigher, "2", Some("many"), None), Some(Reason::KeptHigher));
        assert_eq!(skipped(IfNewer, "2", Some("1"), person), None, "it was set half an hour before the event");
        assert_eq!(skipped(IfNewer, "2", Some("1"), other), Some(Reason::KeptNewer));
        assert_eq!(skipped(IfNewer, "2", Some("1"), app), None, "our own value");
    }

    #[test]
    fn a_value_that_is_expected_replaces_no_other() {
        let expecting = |expected: Option<&str>| PropertyChange {
            expected: Some(ExpectedValue { value: expected.map(ToOwned::to_owned) }),
            ..change("2")
        };
        assert_eq!(skipped_change(&expecting(Some("1")), Some("1"), None), None);
        assert_eq!(skipped_change(&expecting(Some("1")), Some("3"), None), Some(Reason::ValueChanged));
        assert_eq!(skipped_change(&expecting(Some("1")), None, None), Some(Reason::ValueChanged), "it was cleared");
        assert_eq!(skipped_change(&expecting(None), None, None), None);
        assert_eq!(skipped_change(&expecting(None), Some("3"), None), Some(Reason::ValueChanged));
        assert_eq!(skipped_change(&expecting(Some("1")), Some("2"), None), None, "an earlier attempt wrote it");
    }
}
