//! Reading a parking lot or a retry queue, and removing messages from it.

use std::time::Duration;

use lapin::{
    Channel,
    options::{BasicAckOptions, BasicGetOptions},
};
use retry::Reason;

use crate::{
    connection::Connection,
    connection_error::ConnectionError,
    message::Message,
    route::{Route, Stage},
};

/// A parked message. No other consumer sees it until the [`ParkingLot`] is closed.
#[derive(Debug)]
pub struct ParkedMessage {
    /// The message, with its reason.
    pub message: Message,
    /// When it was parked, in seconds since 1970.
    pub parked_at: u64,
    tag: u64,
}

/// A stage's parking lot, opened to read it once. Other consumers do not see the messages that were read; those that were
/// not removed return to the queue when this is dropped.
pub struct ParkingLot {
    channel: Channel,
    queue: String,
    /// Keeps the connection open, and with it the channel.
    _connection: Connection,
}

impl ParkingLot {
    /// Opens the parking lot of a stage.
    pub async fn open(connection: &Connection, stage: Stage) -> Result<Self, ConnectionError> {
        Self::open_queue(connection, Route::Parked(stage)).await
    }

    /// Opens any queue without a consumer: a parking lot or a retry queue. A message of a retry queue keeps its delay.
    pub async fn open_queue(connection: &Connection, route: Route) -> Result<Self, ConnectionError> {
        // A separate channel: closing it returns the messages that were not removed.
        let channel = tokio::time::timeout(connection.settings().connect_timeout, connection.new_channel())
            .await
            .unwrap_or(Err(ConnectionError::TimedOut(connection.settings().connect_timeout)))?;
        Ok(Self { channel, queue: route.to_string(), _connection: connection.clone() })
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
        // RabbitMQ dead-lettered it. Parking by a service publishes the message anew, without this header; a reason that it
        // still carries is that of an earlier retry.
        if was_dead_lettered {
            message = message.with_reason(Reason::DeliveryLimit, "its consumer died at each delivery");
        }
        let parked_at = delivery.properties.timestamp().unwrap_or_default();
        Ok(Some(ParkedMessage { message, parked_at, tag: delivery.delivery_tag }))
    }

    /// Removes a message for good. Before that it must be stored elsewhere, or be given up.
    pub async fn remove(&self, parked: &ParkedMessage) -> Result<(), ConnectionError> {
        Ok(self.channel.basic_ack(parked.tag, BasicAckOptions::default()).await?)
    }

    /// Returns all messages that were not removed to the queue.
    pub async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.channel.close(200, "done".into())).await;
    }
}
