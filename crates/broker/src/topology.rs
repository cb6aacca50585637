//! The queues and their arguments. They work on RabbitMQ 3.10 and 4, without plugins.
//!
//! ```text
//! leadline.events ──delivery limit reached──▶ leadline.events.parked      (by the broker)
//!    │   ▲      └──parked by a service──────▶ leadline.events.parked      (with the reason as headers)
//!    ▼   │ after the delay
//! leadline.events.retry.10s · .1m · .10m · .1h                            (retry queues)
//! ```
//!
//! The same for `leadline.backfill` and `leadline.writes`. All are quorum queues. Dead lettering is at-least-once, which
//! requires `reject-publish`: a full queue rejects new messages instead of dropping its oldest.

use lapin::{
    Channel, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString},
};

use crate::{
    retry_schedule::RetrySchedule,
    route::{EXCHANGE, Route, Stage},
};

/// Each look at a parked message in the management UI counts as a delivery; RabbitMQ must not drop it for that.
const PARKED_DELIVERY_LIMIT: i64 = 1_000_000;

/// The queues and their arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// The delays of the retry queues.
    pub retry_schedule: RetrySchedule,
    /// A message that was delivered this often without an answer (its consumers died) goes to the parking lot.
    pub delivery_limit: u32,
    /// A stage's queue with this many messages rejects more, and the receiver answers 503.
    pub max_queue_length: u32,
}

/// Why the queues could not be declared or counted.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The queue exists with other arguments, and RabbitMQ does not change those of an existing queue.
    #[error(
        "the queue or exchange `{name}` exists with other arguments: {reply}. Empty and delete it, or restore the \
         settings that it was declared with"
    )]
    Mismatch {
        /// The queue or exchange.
        name: String,
        /// RabbitMQ's error text.
        reply: String,
    },
    /// Any other error.
    #[error("declaring `{name}`: {error}")]
    Other {
        /// The queue or exchange.
        name: String,
        /// The AMQP client's error.
        error: lapin::Error,
    },
}

impl Topology {
    /// Every queue with its arguments. A queue comes after the one that it dead-letters to.
    fn queues(&self) -> Vec<(Route, FieldTable)> {
        let mut queues = Vec::new();
        for stage in Stage::ALL {
            let mut parked = arguments();
            parked.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(PARKED_DELIVERY_LIMIT));
            queues.push((Route::Parked(stage), parked));

            let mut queue = arguments();
            dead_letters_to(&mut queue, Route::Parked(stage));
            queue.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(self.delivery_limit.into()));
            queue.insert("x-max-length".into(), AMQPValue::LongLongInt(self.max_queue_length.into()));
            queues.push((Route::Queue(stage), queue));

            for delay in self.retry_schedule.delays() {
                let mut retry_queue = arguments();
                dead_letters_to(&mut retry_queue, Route::Queue(stage));
                let ttl = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
                retry_queue.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ttl));
                queues.push((Route::Retry(stage, *delay), retry_queue));
            }
        }
        queues
    }

    /// Declares the exchange, all queues and their bindings. What exists with the same arguments stays as it is.
    pub async fn declare(&self, channel: &Channel) -> Result<(), TopologyError> {
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(EXCHANGE.into(), ExchangeKind::Direct, durable, FieldTable::default())
            .await
            .map_err(|error| classify(EXCHANGE, error))?;
        for (route, arguments) in self.queues() {
            let name = route.to_string();
            channel
                .queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments)
                .await
                .map_err(|error| classify(&name, error))?;
            let key = name.as_str();
            channel
                .queue_bind(key.into(), EXCHANGE.into(), key.into(), QueueBindOptions::default(), FieldTable::default())
                .await
                .map_err(|error| classify(&name, error))?;
        }
        Ok(())
    }

    /// How many messages are in each queue at this moment. Messages that are delivered and not yet acknowledged are not
    /// counted. Exact, unlike the management API, whose numbers are seconds old.
    pub async fn queue_depths(&self, channel: &Channel) -> Result<Vec<(Route, u32)>, TopologyError> {
        let mut depths = Vec::new();
        for (route, _) in self.queues() {
            let name = route.to_string();
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue = channel
                .queue_declare(name.as_str().into(), passive, FieldTable::default())
                .await
                .map_err(|error| classify(&name, error))?;
            depths.push((route, queue.message_count()));
        }
        Ok(depths)
    }
}

fn arguments() -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), text("quorum"));
    table.insert("x-overflow".into(), text("reject-publish"));
    table
}

fn dead_letters_to(table: &mut FieldTable, route: Route) {
    table.insert("x-dead-letter-exchange".into(), text(EXCHANGE));
    table.insert("x-dead-letter-routing-key".into(), text(&route.to_string()));
    table.insert("x-dead-letter-strategy".into(), text("at-least-once"));
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

fn classify(name: &str, error: lapin::Error) -> TopologyError {
    /// AMQP 0-9-1: `PRECONDITION_FAILED`.
    const PRECONDITION_FAILED: u16 = 406;
    match error.kind() {
        ErrorKind::ProtocolError(reply) if reply.get_id() == PRECONDITION_FAILED => {
            TopologyError::Mismatch { name: name.to_owned(), reply: reply.get_message().to_string() }
        }
        _ => TopologyError::Other { name: name.to_owned(), error },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn queue_names_are_the_documented_ones() {
        let delays = [10, 60, 600, 3600].map(Duration::from_secs).to_vec();
        let retry_schedule = RetrySchedule::new(delays, 10).expect("valid");
        let topology = Topology { retry_schedule, delivery_limit: 20, max_queue_length: 1 };
        let names: Vec<_> = topology.queues().iter().map(|(route, _)| route.to_string()).take(6).collect();
        assert_eq!(
            names,
            [
                "leadline.events.parked",
                "leadline.events",
                "leadline.events.retry.10s",
                "leadline.events.retry.1m",
                "leadline.events.retry.10m",
                "leadline.events.retry.1h"
            ]
        );
    }
}
