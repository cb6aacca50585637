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
    Ok(Message::new(event.key.as_str(), serde_json::to_vec(event)?))
}

/// The message of a write command: its id alone. What it does is in the ledger.
pub fn command_message(id: WriteCommandId) -> Message {
    let body = serde_json::json!(CommandMessage { id });
    Message::new(id.to_string(), body.to_string().into_bytes())
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
    use domain::WriteCommandId;

    use super::command_message;

    /// Inference, the reconciler and the operator's commands make their messages here.
    #[test]
    fn the_message_of_a_write_command_holds_its_id_and_nothing_else() {
        let id = WriteCommandId::new();
        let message = command_message(id);
        assert_eq!(String::from_utf8(message.body).expect("UTF-8"), format!(r#"{{"id":"{id}"}}"#));
        assert_eq!(message.id, id.to_string());
    }
}
