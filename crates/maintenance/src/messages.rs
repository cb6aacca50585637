//! The messages of events and write commands.

use broker::Message;
use domain::{Event, WriteCommandId, write_command::CommandMessage};
use hubspot::webhook;

/// Why no event can be read from a webhook's payload.
#[derive(Debug, thiserror::Error)]
pub enum UnreadablePayload {
    /// It is not an element of a webhook.
    #[error("the payload is no webhook: {0}")]
    Webhook(#[from] webhook::WebhookBodyError),
    /// It is a webhook without an event.
    #[error("the payload is empty")]
    Empty,
    /// The event was rejected.
    #[error("the payload makes no event: {0}")]
    Event(#[from] webhook::EventError),
    /// It could not be encoded as JSON.
    #[error("the payload cannot be encoded: {0}")]
    Json(#[from] serde_json::Error),
}

/// The message of an event.
pub fn event_message(event: &Event) -> Result<Message, serde_json::Error> {
    Message::of(event.key.as_str(), event)
}

/// The message of a write command: its id alone. What it does is in the ledger.
pub fn command_message(id: WriteCommandId) -> Message {
    let body = serde_json::json!(CommandMessage { id });
    Message::in_form_of::<CommandMessage>(id.to_string(), body.to_string().into_bytes())
}

/// The message of an event, rebuilt from what HubSpot sent: the ledger keeps that, and so does the parking lot where the
/// receiver could not read it.
pub fn payload_message(payload: &serde_json::Value) -> Result<Message, UnreadablePayload> {
    let body = serde_json::to_vec(&[payload])?;
    let element = webhook::parse(&body)?.pop().ok_or(UnreadablePayload::Empty)?;
    Ok(event_message(&element.event?)?)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use broker::Message;
    use domain::{
        Event, MessageBody, WriteCommand, WriteCommandId,
        event::{EventKind, Subject},
        write_command::{Action, ActionKind, CommandMessage, PropertyChange, WritePolicy},
    };
    use serde_json::Value;

    use super::{command_message, payload_message};

    /// Inference, the reconciler and the operator's commands make their messages here.
    #[test]
    fn the_message_of_a_write_command_holds_its_id_and_nothing_else() {
        let id = WriteCommandId::new();
        let message = command_message(id);
        assert_eq!(String::from_utf8(message.body).expect("UTF-8"), format!(r#"{{"id":"{id}"}}"#));
        assert_eq!(message.id, id.to_string());
    }

    fn file(name: &str, version: u16) -> PathBuf {
        file_named(&format!("{name}.v{version}.json"))
    }

    fn file_named(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("messages").join(name)
    }

    /// The messages that are kept of a version, as RabbitMQ's management API shows them.
    fn kept(name: &str, version: u16) -> Vec<Value> {
        let file = file(name, version);
        let text = std::fs::read_to_string(&file);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}: keep messages of this version", file.display()));
        serde_json::from_str(&text).expect("JSON")
    }

    fn body(kept: &Value) -> &str {
        kept["payload"].as_str().expect("text")
    }

    /// Messages of the version that is written now have this form.
    fn is_kept(kept: &Value, version: u16, message: &Message) {
        let (now, before) = (String::from_utf8_lossy(&message.body), body(kept));
        assert_eq!(
            now, before,
            "the form of the message has changed: count `MessageBody::VERSION` up, keep messages of the new version in \
             crates/maintenance/messages, and leave those of the last one as they are"
        );
        assert_eq!(message.version, Some(version));
        assert_eq!(kept["properties"]["headers"]["x-leadline-version"], version);
        assert_eq!(kept["properties"]["message_id"], message.id.as_str());
    }

    #[test]
    fn the_form_of_an_event_changes_with_its_version_only() {
        let messages = kept("event", Event::VERSION);
        let mut events = Vec::new();
        for kept in &messages {
            let event: Event = serde_json::from_str(body(kept)).expect("an event");
            is_kept(kept, Event::VERSION, &payload_message(&serde_json::json!(event.payload)).expect("an event"));
            events.push(event);
        }
        // An operator's run of a playbook makes no message.
        for kind in EventKind::ALL.iter().filter(|kind| **kind != EventKind::Manual) {
            assert!(events.iter().any(|event| event.kind == *kind), "there is no {kind}");
        }
        assert!(events.iter().any(|event| matches!(event.subject, Subject::Association { .. })));
        assert!(!file("event", Event::VERSION + 1).exists(), "the version was not counted up");
    }

    #[test]
    fn the_form_of_a_write_command_changes_with_its_version_only() {
        for kept in kept("write_command", CommandMessage::VERSION) {
            let CommandMessage { id } = serde_json::from_str(body(&kept)).expect("a command");
            is_kept(&kept, CommandMessage::VERSION, &command_message(id));
        }
        assert!(!file("write_command", CommandMessage::VERSION + 1).exists(), "the version was not counted up");
    }

    /// What a write command does stands in the ledger, in a format of its own.
    #[test]
    fn what_a_write_command_does_changes_with_its_format_only() {
        let of_format = |format| file_named(&format!("command.f{format}.json"));
        let text = std::fs::read_to_string(of_format(WriteCommand::FORMAT)).expect("keep a command of this format");
        let kept: Value = serde_json::from_str(&text).expect("JSON");
        let properties: Vec<PropertyChange> = serde_json::from_value(kept["properties"].clone()).expect("properties");
        let actions: Vec<Action> = serde_json::from_value(kept["actions"].clone()).expect("actions");
        const COUNT_UP: &str = "writers of the last version do not know it: count `WriteCommand::FORMAT` up, keep a command of the new \
                                format in crates/maintenance/messages, and leave that of the last one as it is";
        assert_eq!(serde_json::json!({"properties": properties, "actions": actions}), kept, "{COUNT_UP}");
        for policy in WritePolicy::ALL {
            assert!(properties.iter().any(|change| change.policy == *policy), "{}: {COUNT_UP}", policy.as_str());
        }
        for kind in ActionKind::ALL {
            assert!(actions.iter().any(|action| action.spec.kind() == *kind), "{}: {COUNT_UP}", kind.as_str());
        }
        assert!(!of_format(WriteCommand::FORMAT + 1).exists(), "the format was not counted up");
    }

    #[test]
    fn messages_of_the_last_version_are_kept_and_read() {
        for kept in kept("event", Event::VERSION - 1) {
            let event: Event = serde_json::from_str(body(&kept)).expect("an event");
            assert_eq!(kept["properties"]["message_id"], event.key.as_str());
        }
        for kept in kept("write_command", CommandMessage::VERSION - 1) {
            let CommandMessage { id } = serde_json::from_str(body(&kept)).expect("a command");
            assert_eq!(kept["properties"]["message_id"], id.to_string());
        }
    }
}
