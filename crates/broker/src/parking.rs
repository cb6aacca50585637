//! Looking through a parking lot, and taking messages out of it.

use std::time::Duration;

use lapin::{
    Channel,
    options::{BasicAckOptions, BasicGetOptions},
};

use retry::Reason;

use crate::{
    connection::{Connection, ConnectionError},
    message::Message,
    topology::{Route, Stage},
};

/// A message of a parking lot, held until the lot is closed.
#[derive(Debug)]
pub struct ParkedMessage {
    /// What lies there, with its reason.
    pub message: Message,
    /// When it was published, in seconds since 1970; that is when it was parked.
    pub parked_at: u64,
    tag: u64,
}

/// A stage's parking lot, opened for one look through it. Nobody else sees the messages meanwhile; those that were not
/// taken are back when this is dropped.
pub struct ParkingLot {
    channel: Channel,
    queue: String,
    _link: Connection,
}

impl ParkingLot {
    /// Opens the parking lot of a stage.
    pub async fn open(connection: &Connection, stage: Stage) -> Result<Self, ConnectionError> {
        // A channel of its own: closing it hands back what was only looked at.
        let channel = tokio::time::timeout(connection.settings().connect_timeout, connection.fresh_channel())
            .await
            .unwrap_or(Err(ConnectionError::TimedOut(connection.settings().connect_timeout)))?;
        Ok(Self { channel, queue: Route::Parked(stage).to_string(), _link: connection.clone() })
    }

    /// The next message, oldest first; `None` at the end.
    pub async fn next(&self) -> Result<Option<ParkedMessage>, ConnectionError> {
        let Some(got) = self.channel.basic_get(self.queue.as_str().into(), BasicGetOptions::default()).await? else {
            return Ok(None);
        };
        let delivery = got.delivery;
        let mut message = Message::from_parts(&delivery.properties, delivery.data);
        let was_dead_lettered =
            delivery.properties.headers().as_ref().is_some_and(|headers| headers.inner().contains_key("x-death"));
        // What we publish has no such header; the reason of an earlier wait says nothing about this.
        if was_dead_lettered {
            message = message.with_reason(Reason::DeliveryLimit, "its consumers died each time they had it");
        }
        let parked_at = delivery.properties.timestamp().unwrap_or_default();
        Ok(Some(ParkedMessage { message, parked_at, tag: delivery.delivery_tag }))
    }

    /// Takes a message out for good. It must be somewhere else, or given up, before.
    pub async fn take(&self, parked: &ParkedMessage) -> Result<(), ConnectionError> {
        Ok(self.channel.basic_ack(parked.tag, BasicAckOptions::default()).await?)
    }

    /// Puts everything back that was not taken.
    pub async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.channel.close(200, "looked".into())).await;
    }
}
