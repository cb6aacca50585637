//! Publishing with publisher confirms.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lapin::{Confirmation, options::BasicPublishOptions};
use retry::{Failure, Reason, RetryAction};
use spans::messages::{self, MessageOf};
use tracing::Instrument;

use crate::{
    connection::{BrokerSettings, Connection},
    connection_error::ConnectionError,
    message::Message,
    route::Route,
};

/// Publishes messages and waits until the broker has stored them. Cheap to clone; clones share one connection.
#[derive(Debug, Clone)]
pub struct Publisher {
    connection: Connection,
    confirm_timeout: Duration,
    stall: Arc<Stall>,
}

/// Whether confirms arrive. While they do not, one message at a time is published as a probe and the others are rejected at
/// once. Otherwise every caller would wait for the whole timeout and keep its message in memory.
#[derive(Debug, Default)]
struct Stall {
    is_stalled: AtomicBool,
    is_probed: AtomicBool,
}

/// The right to publish the probe. Dropping it gives the right back.
struct Probe<'a>(&'a Stall);

impl Stall {
    fn stalled(&self) -> bool {
        self.is_stalled.load(Ordering::Relaxed)
    }

    fn probe(&self) -> Option<Probe<'_>> {
        (!self.is_probed.swap(true, Ordering::Relaxed)).then_some(Probe(self))
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.is_probed.store(false, Ordering::Relaxed);
    }
}

/// Why a message is not known to be in its queue. It may be there all the same: publish it again, the next step is
/// idempotent.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// There is no connection, or the broker blocks publishers.
    #[error("RabbitMQ is unreachable or blocks publishers")]
    Unavailable,
    /// The connection broke before the confirm arrived.
    #[error("the connection to RabbitMQ broke: {0}")]
    Broken(lapin::Error),
    /// No confirm arrived in time.
    #[error("RabbitMQ did not confirm within {0:?}")]
    Unconfirmed(Duration),
    /// The queue is full, or it has no leader at the moment.
    #[error("the queue {0} rejected the message: it is full or has no quorum")]
    Rejected(String),
    /// No queue is bound to the route: it was deleted.
    #[error("no queue takes messages for {0}")]
    Unroutable(String),
}

impl Failure for PublishError {
    fn retry_action(&self) -> RetryAction {
        RetryAction::RetryNow { after: None }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::Unavailable => Reason::BrokerUnavailable,
            Self::Broken(_) => Reason::BrokerConnectionBroken,
            Self::Unconfirmed(_) => Reason::BrokerUnconfirmed,
            Self::Rejected(_) => Reason::QueueRefused,
            Self::Unroutable(_) => Reason::Unroutable,
        }
    }
}

impl Publisher {
    /// A publisher with its own connection: RabbitMQ blocks whole connections of publishers when it runs out of memory or
    /// disk, and consumers should continue then.
    pub async fn open(settings: BrokerSettings) -> Result<Self, ConnectionError> {
        let confirm_timeout = settings.confirm_timeout;
        Ok(Self { connection: Connection::open(settings).await?, confirm_timeout, stall: Arc::default() })
    }

    /// Publishes one message and waits for its confirm. Call it for many messages concurrently: RabbitMQ then confirms many
    /// at once, more than ten times faster than one after the other.
    pub async fn publish(&self, route: Route, message: &Message) -> Result<(), PublishError> {
        let key = route.to_string();
        let published = MessageOf {
            exchange: route.stage().exchange(),
            routing_key: &key,
            id: &message.id,
            body_bytes: message.body.len(),
        };
        let span = messages::publish(&published);
        let result = self.publish_once(route, message).instrument(span.clone()).await;
        let outcome = result.as_ref().map_or_else(|error| error.reason().as_str(), |()| "confirmed");
        if result.is_err() {
            spans::fail(&span, outcome);
        }
        metrics::counter!("leadline_messages_published_total", "queue" => key, "outcome" => outcome).increment(1);
        result
    }

    /// How many messages are in each queue.
    pub async fn queue_depths(&self) -> Result<Vec<(Route, u32)>, ConnectionError> {
        self.connection.queue_depths().await
    }

    /// Whether full queues refuse messages (see [`Connection::refuses_when_full`]).
    ///
    /// # Errors
    /// That is not known.
    pub async fn refuses_when_full(&self) -> Result<bool, ConnectionError> {
        self.connection.refuses_when_full().await
    }

    /// Whether messages can be published now: connected, not blocked, and confirms arrive.
    pub fn is_ready(&self) -> bool {
        self.connection.is_ready() && !self.stall.stalled()
    }

    /// Whether an attempt to publish may succeed: as [`Publisher::is_ready`], or confirms do not arrive and the next message
    /// would be the probe.
    pub fn is_worth_trying(&self) -> bool {
        self.connection.is_ready() && !(self.stall.stalled() && self.stall.is_probed.load(Ordering::Relaxed))
    }

    async fn publish_once(&self, route: Route, message: &Message) -> Result<(), PublishError> {
        let open = self.connection.channel().ok_or(PublishError::Unavailable)?;
        let _probe =
            if self.stall.stalled() { Some(self.stall.probe().ok_or(PublishError::Unavailable)?) } else { None };
        let (exchange, key) = (route.stage().exchange(), route.to_string());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirmed = async {
            let confirm = open
                .channel()
                .basic_publish(exchange.into(), key.as_str().into(), options, &message.body, message.properties())
                .await?;
            confirm.await
        };
        let confirmed = tokio::time::timeout(self.confirm_timeout, confirmed).await;
        // Any answer, also a rejection, shows that the broker answers again. What becomes of a message on a connection that another one
        // has taken the place of says nothing about that one.
        if self.connection.is_current(&open) {
            self.stall.is_stalled.store(confirmed.is_err(), Ordering::Relaxed);
        }
        match confirmed {
            Ok(Ok(Confirmation::Ack(None))) => {
                open.took(&key);
                Ok(())
            }
            // Because of the mandatory flag, a message that no queue takes is returned, and then confirmed.
            Ok(Ok(Confirmation::Ack(Some(_)))) => {
                // The queue was deleted; connecting again says what is missing.
                open.report_broken();
                Err(PublishError::Unroutable(key))
            }
            Ok(Ok(Confirmation::Nack(_) | Confirmation::NotRequested)) => {
                open.report_refused(&key);
                Err(PublishError::Rejected(key))
            }
            Ok(Err(error)) => {
                open.report_broken();
                Err(PublishError::Broken(error))
            }
            Err(_) => {
                open.report_silent();
                Err(PublishError::Unconfirmed(self.confirm_timeout))
            }
        }
    }
}
