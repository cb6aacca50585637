//! Messages of what the ledger holds.

use broker::Message;
use domain::{Event, WriteCommand};
use hubspot::webhook;

/// Why an event of the ledger cannot be published.
#[derive(Debug, thiserror::Error)]
#[error("its payload makes no event: {0}")]
pub struct UnreadablePayload(String);

/// The message of an event.
pub fn event_message(event: &Event) -> Result<Message, serde_json::Error> {
    Ok(Message::new(event.key.as_str(), serde_json::to_vec(event)?))
}

/// The message of a write command.
pub fn command_message(command: &WriteCommand) -> Result<Message, serde_json::Error> {
    Ok(Message::new(command.id.to_string(), serde_json::to_vec(command)?))
}

/// The message of an event that HubSpot sent as `payload`: the ledger keeps it, and so does the parking lot for what the
/// receiver did not understand.
pub fn payload_message(payload: &serde_json::Value) -> Result<Message, UnreadablePayload> {
    let unreadable = |what: String| UnreadablePayload(what);
    let body = serde_json::to_vec(&[payload]).map_err(|error| unreadable(error.to_string()))?;
    let mut elements = webhook::parse(&body).map_err(|error| unreadable(error.to_string()))?;
    let element = elements.pop().ok_or_else(|| unreadable("it is empty".to_owned()))?;
    let event = element.event.map_err(|rejection| unreadable(rejection.to_string()))?;
    event_message(&event).map_err(|error| unreadable(error.to_string()))
}
