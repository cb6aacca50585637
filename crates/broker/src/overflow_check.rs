//! Finds out whether a policy makes full queues drop messages.
//!
//! A policy of RabbitMQ takes precedence over the `x-overflow` that a queue was declared with (RabbitMQ's documentation, "Queue Length
//! Limit" and "Policies"), and AMQP tells a client nothing of policies. So a queue of the same kind is filled, and looked at: before the
//! services start a new one, which has every policy from the beginning; while they run one that is kept full, to which a message more costs
//! next to nothing and needs no right to declare or to read.

use std::time::Duration;

use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use uuid::Uuid;

use crate::{
    route::Stage,
    topology::{TopologyError, arguments},
};

/// The queue deletes itself after this, if it could not be deleted.
const EXPIRES: Duration = Duration::from_secs(60);

/// The queue that is kept full. A policy for the queues of a stage is one for this queue, too.
pub(crate) const FULL_QUEUE: &str = "leadline.events.overflow";

/// Its exchange: who may write to this one can put messages into that queue and no other.
pub(crate) const FULL_QUEUE_EXCHANGE: &str = "leadline.overflow.exchange";

/// How many messages are published until one has to be refused. A quorum queue takes one or two more than its length.
const MESSAGES: usize = 5;

/// What [`FULL_QUEUE`] is declared with.
pub(crate) fn full_queue_arguments() -> FieldTable {
    let mut arguments = arguments();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
    arguments
}

/// Whether [`FULL_QUEUE`] refuses messages, as it was declared to. RabbitMQ tells a channel how full a queue is when it first publishes
/// there, so `channel` has to be a new one after a policy has changed.
pub(crate) async fn refuses_when_full(channel: &Channel) -> Result<bool, TopologyError> {
    let other = |error| TopologyError::Other { name: FULL_QUEUE.to_owned(), error };
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(other)?;
    for _ in 0..MESSAGES {
        let (exchange, key, properties) = (FULL_QUEUE_EXCHANGE.into(), FULL_QUEUE.into(), BasicProperties::default());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let published = channel.basic_publish(exchange, key, options, b"full", properties).await.map_err(other)?;
        match published.await.map_err(other)? {
            Confirmation::Nack(_) => return Ok(true),
            Confirmation::Ack(Some(_)) => return Err(TopologyError::Missing { name: FULL_QUEUE.to_owned() }),
            Confirmation::Ack(None) | Confirmation::NotRequested => {}
        }
    }
    Ok(false)
}

/// Fails when a queue named as Leadline's are drops its oldest message when it is full.
pub async fn check_overflow(connection: &Connection) -> Result<(), TopologyError> {
    let name = format!("leadline.overflow-check.{}", Uuid::now_v7().simple());
    let other = |error| TopologyError::Other { name: name.clone(), error };
    // A channel of its own: an error would close it.
    let channel = connection.create_channel().await.map_err(other)?;
    let keeps = keeps_the_oldest(&channel, &name).await;
    let _ = channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await;
    let _ = channel.close(200, "checked".into()).await;
    if keeps.map_err(other)? { Ok(()) } else { Err(TopologyError::Drops) }
}

/// Fills a queue that has room for one message with three.
async fn keeps_the_oldest(channel: &Channel, name: &str) -> Result<bool, lapin::Error> {
    let mut arguments = full_queue_arguments();
    arguments
        .insert("x-expires".into(), AMQPValue::LongLongInt(i64::try_from(EXPIRES.as_millis()).unwrap_or(i64::MAX)));
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await?;
    // The owner may write to no exchange but Leadline's.
    let exchange = Stage::Events.exchange();
    let bind = QueueBindOptions::default();
    channel.queue_bind(name.into(), exchange.into(), name.into(), bind, FieldTable::default()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    for body in ["1", "2", "3"] {
        let options = BasicPublishOptions::default();
        // The second or third is rejected, which is right.
        channel
            .basic_publish(exchange.into(), name.into(), options, body.as_bytes(), BasicProperties::default())
            .await?
            .await?;
    }
    let oldest = channel.basic_get(name.into(), BasicGetOptions { no_ack: true }).await?;
    Ok(oldest.is_some_and(|message| message.delivery.data == b"1"))
}
