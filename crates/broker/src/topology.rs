//! The queues and their arguments. They work on RabbitMQ 3.10 and 4, without plugins.
//!
//! ```text
//! leadline.events ──delivery limit reached──▶ leadline.events.parked      (by the broker)
//!    │   ▲      └──parked by a service──────▶ leadline.events.parked      (with the reason as headers)
//!    ▼   │ after the delay
//! leadline.events.retry.10s · .1m · .10m · .1h                            (retry queues)
//! ```
//!
//! The same for `leadline.backfill`, `leadline.erasures` and `leadline.writes`. `leadline.events.overflow` is kept full, to see what full
//! queues do. Each stage has an exchange, so that a user may be given the right
//! to write to one stage alone. One process declares all this (`leadline migrate`); the services only check that it is
//! there, and need no right to declare anything (deploy/rabbitmq/permissions.json). All are quorum queues. Dead lettering is at-least-once, which
//! requires `reject-publish`: a full queue rejects new messages instead of dropping its oldest.

use futures_util::future::join_all;
use lapin::{
    Channel, Connection, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString},
};

use crate::{
    overflow_check::{FULL_QUEUE, FULL_QUEUE_EXCHANGE, full_queue_arguments},
    retry_schedule::RetrySchedule,
    route::{Route, Stage},
};

/// Each look at a message that rests in a parking lot or a retry queue counts as a delivery; RabbitMQ must not move or drop it for that.
/// Without a limit of its own, a queue has one of 20 since RabbitMQ 4.0; that there is none (-1) cannot be said to RabbitMQ 3.
const RESTING_DELIVERY_LIMIT: i64 = 1_000_000;

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

/// Why the queues could not be declared, checked or counted.
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
    /// The queue or exchange does not exist.
    #[error("RabbitMQ has no `{name}`: run `leadline migrate`, with the same [broker] settings as the services")]
    Missing {
        /// The queue or exchange.
        name: String,
    },
    /// The queue exists, but was not declared with these settings.
    #[error(
        "the queue `{queue}` was not declared with broker.delivery_limit = {delivery_limit} and broker.max_queue_length = \
         {max_queue_length}: give the services and `leadline migrate` the same settings, and run it"
    )]
    Different {
        /// The queue.
        queue: &'static str,
        /// What the settings say.
        delivery_limit: u32,
        /// What the settings say.
        max_queue_length: u32,
    },
    /// A policy makes queues drop messages.
    #[error(
        "a policy of RabbitMQ makes full queues drop their oldest messages, which were answered 200: take `overflow` out of it, or \
         leave out the queues that begin with `leadline.` (docs/operations.md)"
    )]
    Drops,
    /// Any other error.
    #[error("`{name}`: {error}")]
    Other {
        /// The queue or exchange.
        name: String,
        /// The AMQP client's error.
        error: lapin::Error,
    },
}

impl Topology {
    /// The queues of a stage with their arguments. A queue comes after the one that it dead-letters to.
    fn queues(&self, stage: Stage) -> Vec<(Route, FieldTable)> {
        let mut parked = arguments();
        parked.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(RESTING_DELIVERY_LIMIT));

        let mut queue = arguments();
        dead_letters_to(&mut queue, Route::Parked(stage));
        queue.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(self.delivery_limit.into()));
        queue.insert("x-max-length".into(), AMQPValue::LongLongInt(self.max_queue_length.into()));

        let mut queues = vec![(Route::Parked(stage), parked), (Route::Queue(stage), queue)];
        for delay in self.retry_schedule.delays() {
            let mut retry_queue = arguments();
            dead_letters_to(&mut retry_queue, Route::Queue(stage));
            let ttl = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            retry_queue.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ttl));
            retry_queue.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(RESTING_DELIVERY_LIMIT));
            queues.push((Route::Retry(stage, *delay), retry_queue));
        }
        queues
    }

    /// An exchange that says by its name with which settings a stage's queue was declared, and carries no message. AMQP
    /// tells a client that may not declare a queue nothing of its arguments. It is bound to the queue and deletes itself
    /// with it, so that it says nothing of a later queue. The arguments of the other queues follow from their names.
    fn declared_as(&self, stage: Stage) -> String {
        let Self { delivery_limit, max_queue_length, .. } = self;
        format!("{}.declared.delivery-limit.{delivery_limit}.max-length.{max_queue_length}", stage.queue())
    }

    /// Declares the exchanges, all queues and their bindings. What exists with the same arguments stays as it is.
    pub(crate) async fn declare(&self, channel: &Channel) -> Result<(), TopologyError> {
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared_as = ExchangeDeclareOptions { auto_delete: true, internal: true, ..durable };
        declare_exchange(channel, FULL_QUEUE_EXCHANGE, durable).await?;
        channel
            .queue_declare(FULL_QUEUE.into(), QueueDeclareOptions::durable(), full_queue_arguments())
            .await
            .map_err(|error| classify(FULL_QUEUE, error))?;
        bind(channel, FULL_QUEUE, FULL_QUEUE_EXCHANGE).await?;
        for stage in Stage::ALL {
            declare_exchange(channel, stage.exchange(), durable).await?;
            for (route, arguments) in self.queues(stage) {
                let name = route.to_string();
                channel
                    .queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments)
                    .await
                    .map_err(|error| classify(&name, error))?;
                bind(channel, &name, stage.exchange()).await?;
            }
            // Last: where it is, all the others are.
            let declared = self.declared_as(stage);
            declare_exchange(channel, &declared, declared_as).await?;
            bind(channel, stage.queue(), &declared).await?;
        }
        Ok(())
    }

    /// Finds out whether all that [`Topology::declare`] declares is there, as these settings declare it. Changes nothing
    /// and needs no permission.
    pub(crate) async fn check(&self, connection: &Connection) -> Result<(), TopologyError> {
        // Side by side: in a cluster that has just lost a node, RabbitMQ waits a moment for the leader of each queue.
        let stages = join_all(Stage::ALL.map(|stage| self.check_stage(connection, stage))).await;
        stages.into_iter().collect::<Result<(), _>>()?;
        let other = |error| TopologyError::Other { name: FULL_QUEUE_EXCHANGE.to_owned(), error };
        let channel = connection.create_channel().await.map_err(other)?;
        check_exchange(&channel, FULL_QUEUE_EXCHANGE).await?;
        // It has told what it was opened for.
        let _ = channel.close(200, "checked".into()).await;
        Ok(())
    }

    async fn check_stage(&self, connection: &Connection, stage: Stage) -> Result<(), TopologyError> {
        let other = |error| TopologyError::Other { name: stage.queue().to_owned(), error };
        let channel = connection.create_channel().await.map_err(other)?;
        check_exchange(&channel, stage.exchange()).await?;
        for (route, _) in self.queues(stage) {
            check_queue(&channel, route).await?;
        }
        check_exchange(&channel, &self.declared_as(stage)).await.map_err(|error| match error {
            TopologyError::Missing { .. } => TopologyError::Different {
                queue: stage.queue(),
                delivery_limit: self.delivery_limit,
                max_queue_length: self.max_queue_length,
            },
            other => other,
        })?;
        // It has told what it was opened for.
        let _ = channel.close(200, "checked".into()).await;
        Ok(())
    }

    /// All queues.
    #[cfg(feature = "management")]
    pub(crate) fn routes(&self) -> Vec<Route> {
        Stage::ALL.into_iter().flat_map(|stage| self.queues(stage)).map(|(route, _)| route).collect()
    }

    /// How many messages are in each queue at this moment. Messages that are delivered and not yet acknowledged are not
    /// counted. Exact, unlike the management API, whose numbers are seconds old.
    pub async fn queue_depths(&self, channel: &Channel) -> Result<Vec<(Route, u32)>, TopologyError> {
        let mut depths = Vec::new();
        for (route, _) in Stage::ALL.into_iter().flat_map(|stage| self.queues(stage)) {
            depths.push((route, check_queue(channel, route).await?));
        }
        Ok(depths)
    }
}

async fn declare_exchange(channel: &Channel, name: &str, options: ExchangeDeclareOptions) -> Result<(), TopologyError> {
    channel
        .exchange_declare(name.into(), ExchangeKind::Direct, options, FieldTable::default())
        .await
        .map_err(|error| classify(name, error))
}

/// Binds a queue to an exchange under the queue's name.
async fn bind(channel: &Channel, queue: &str, exchange: &str) -> Result<(), TopologyError> {
    channel
        .queue_bind(queue.into(), exchange.into(), queue.into(), QueueBindOptions::default(), FieldTable::default())
        .await
        .map_err(|error| classify(queue, error))
}

async fn check_exchange(channel: &Channel, name: &str) -> Result<(), TopologyError> {
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    declare_exchange(channel, name, passive).await
}

/// Returns how many messages the queue holds.
async fn check_queue(channel: &Channel, route: Route) -> Result<u32, TopologyError> {
    let name = route.to_string();
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(name.as_str().into(), passive, FieldTable::default()).await;
    Ok(queue.map_err(|error| classify(&name, error))?.message_count())
}

/// What every queue is declared with.
pub(crate) fn arguments() -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), text("quorum"));
    table.insert("x-overflow".into(), text("reject-publish"));
    table
}

fn dead_letters_to(table: &mut FieldTable, route: Route) {
    table.insert("x-dead-letter-exchange".into(), text(route.stage().exchange()));
    table.insert("x-dead-letter-routing-key".into(), text(&route.to_string()));
    table.insert("x-dead-letter-strategy".into(), text("at-least-once"));
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

fn classify(name: &str, error: lapin::Error) -> TopologyError {
    /// AMQP 0-9-1: `NOT_FOUND` and `PRECONDITION_FAILED`.
    const NOT_FOUND: u16 = 404;
    const PRECONDITION_FAILED: u16 = 406;
    match error.kind() {
        ErrorKind::ProtocolError(reply) if reply.get_id() == PRECONDITION_FAILED => {
            TopologyError::Mismatch { name: name.to_owned(), reply: reply.get_message().to_string() }
        }
        ErrorKind::ProtocolError(reply) if reply.get_id() == NOT_FOUND => {
            TopologyError::Missing { name: name.to_owned() }
        }
        _ => TopologyError::Other { name: name.to_owned(), error },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn topology() -> Topology {
        let delays = [10, 60, 600, 3600].map(Duration::from_secs).to_vec();
        let retry_schedule = RetrySchedule::new(delays, 10).expect("valid");
        Topology { retry_schedule, delivery_limit: 20, max_queue_length: 1 }
    }

    /// What a queue does not say for itself, RabbitMQ's versions do not agree on.
    #[test]
    fn every_queue_says_when_it_gives_a_message_up_and_what_it_does_when_it_is_full() {
        for (route, arguments) in Stage::ALL.into_iter().flat_map(|stage| topology().queues(stage)) {
            let limit = arguments.inner().get("x-delivery-limit");
            let rests = !matches!(route, Route::Queue(_));
            let expected = if rests { RESTING_DELIVERY_LIMIT } else { 20 };
            assert_eq!(limit, Some(&AMQPValue::LongLongInt(expected)), "{route}");
            assert_eq!(arguments.inner().get("x-queue-type"), Some(&text("quorum")), "{route}");
            assert_eq!(arguments.inner().get("x-overflow"), Some(&text("reject-publish")), "{route}");
        }
    }

    #[test]
    fn queue_names_are_the_documented_ones() {
        let names: Vec<_> = topology().queues(Stage::Events).iter().map(|(route, _)| route.to_string()).collect();
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
