//! Whether a value may replace what a property holds.

use domain::{
    AppId, Reason, WriteCommand,
    write_command::{PropertyChange, WritePolicy},
};
use hubspot::client::PastValue;
use ledger::SkippedWrite;

use crate::{
    apply::{CurrentValue, CurrentValues},
    plan::RecordUpdate,
};

/// Whether a policy asks who set the value and when.
pub fn needs_history(policy: WritePolicy) -> bool {
    matches!(policy, WritePolicy::UnlessHuman | WritePolicy::IfNewer)
}

/// Takes out of the updates what their policies leave as it is, and what is there already. The latter is not sent, but it
/// counts as written: an older event must not put its value over it.
pub fn apply(updates: &mut [RecordUpdate], before: &CurrentValues, ours: AppId) {
    for update in updates {
        let Some(held) = before.get(&update.record) else { continue };
        for part in &mut update.parts {
            let command = &part.job.command;
            part.changes.retain(|change| {
                let held = held.get(&change.property).cloned().unwrap_or_default();
                let Some(reason) = keeps(change, &held, command, ours) else { return true };
                metrics::counter!("leadline_skipped_writes_total", "reason" => reason.as_str()).increment(1);
                part.skipped_writes.push(SkippedWrite {
                    property: change.property.clone(),
                    reason,
                    current_value: held.value,
                    proposed_value: change.value.clone(),
                });
                false
            });
        }
        let parts = &update.parts;
        let is_there = |change: &PropertyChange| {
            held.get(&change.property).is_some_and(|held| held.value.as_deref().unwrap_or_default() == change.value)
        };
        update.changes.retain(|change| {
            let is_wanted = parts.iter().any(|part| part.changes.contains(change));
            if is_wanted && is_there(change) {
                metrics::counter!("leadline_unchanged_values_total").increment(1);
            }
            is_wanted && !is_there(change)
        });
    }
}

/// Why the property keeps what it holds, if it does.
fn keeps(change: &PropertyChange, held: &CurrentValue, command: &WriteCommand, ours: AppId) -> Option<Reason> {
    match change.policy {
        WritePolicy::Always => None,
        WritePolicy::IfEmpty => held.value.is_some().then_some(Reason::KeptFilled),
        WritePolicy::UnlessHuman => {
            // A person who cleared a value has set it, too.
            held.last_set().is_some_and(PastValue::is_by_person).then_some(Reason::KeptHumanValue)
        }
        WritePolicy::IfHigher => {
            let number = |text: &str| text.trim().parse::<f64>().ok();
            let higher = match held.value.as_deref().map(number) {
                None => true,
                Some(held) => number(&change.value).zip(held).is_some_and(|(wanted, held)| wanted > held),
            };
            (!higher).then_some(Reason::KeptHigher)
        }
        WritePolicy::IfNewer => {
            // Of our own values the ledger knows which event they follow from, and it has been asked.
            let set_later = |set: &&PastValue| !set.is_by_app(ours) && set.timestamp >= command.occurred_at;
            held.last_set().filter(set_later).map(|_| Reason::KeptNewer)
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{EventId, EventKey, InferenceId, ObjectId, ObjectType, PortalId, RecordRef, WriteCommandId};
    use time::{Duration, OffsetDateTime};

    use super::*;

    const OURS: AppId = AppId(7);

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
        }
    }

    fn kept(policy: WritePolicy, wanted: &str, held: Option<&str>, set: Option<(&str, &str, i64)>) -> Option<Reason> {
        let change = PropertyChange { property: "p".to_owned(), value: wanted.to_owned(), policy };
        let last_set = set.map(|(source_type, source_id, minutes)| PastValue {
            value: held.unwrap_or_default().to_owned(),
            timestamp: OffsetDateTime::UNIX_EPOCH + Duration::minutes(minutes),
            source_type: source_type.to_owned(),
            source_id: Some(source_id.to_owned()),
        });
        keeps(
            &change,
            &CurrentValue { value: held.map(ToOwned::to_owned), history: last_set.into_iter().collect() },
            &command(),
            OURS,
        )
    }

    #[test]
    fn each_policy_keeps_what_it_says() {
        use WritePolicy::{Always, IfEmpty, IfHigher, IfNewer, UnlessHuman};
        let person = Some(("CRM_UI", "userId:1", 30));
        let app = Some(("INTEGRATION", "7", 90));
        let other = Some(("INTEGRATION", "8", 90));
        assert_eq!(kept(Always, "2", Some("1"), person), None);
        assert_eq!(kept(IfEmpty, "2", Some("1"), app), Some(Reason::KeptFilled));
        assert_eq!(kept(IfEmpty, "2", None, None), None);
        assert_eq!(kept(UnlessHuman, "2", Some("1"), person), Some(Reason::KeptHumanValue));
        assert_eq!(kept(UnlessHuman, "2", None, person), Some(Reason::KeptHumanValue), "cleared on purpose");
        assert_eq!(kept(UnlessHuman, "2", Some("1"), Some(("SOMETHING_NEW", "", 1))), Some(Reason::KeptHumanValue));
        assert_eq!(kept(UnlessHuman, "2", Some("1"), app), None);
        assert_eq!(kept(UnlessHuman, "2", Some("1"), other), None);
        assert_eq!(kept(UnlessHuman, "2", None, None), None);
        assert_eq!(kept(IfHigher, "2", Some("1.5"), None), None);
        assert_eq!(kept(IfHigher, "1.5", Some("2"), None), Some(Reason::KeptHigher));
        assert_eq!(kept(IfHigher, "2", Some("many"), None), Some(Reason::KeptHigher));
        assert_eq!(kept(IfNewer, "2", Some("1"), person), None, "set half an hour before the event");
        assert_eq!(kept(IfNewer, "2", Some("1"), other), Some(Reason::KeptNewer));
        assert_eq!(kept(IfNewer, "2", Some("1"), app), None, "ours");
    }
}
