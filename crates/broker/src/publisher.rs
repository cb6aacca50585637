//! Publishing with confirms.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lapin::{Confirmation, options::BasicPublishOptions};
use retry::{Failure, Reason, RetryAction};

use crate::{
    connection::{BrokerSettings, Connection, ConnectionError},
    message::Message,
    topology::{EXCHANGE, Route},
};

/// Publishes messages and waits until the broker has them. Cheap to clone; clones share one connection.
#[derive(Debug, Clone)]
pub struct Publisher {
    connection: Connection,
    confirm_timeout: Duration,
    stall: Arc<Stall>,
}

/// While confirms do not come, one message at a time finds out whether they do again; the others are refused at once.
/// Otherwise every caller would wait out the time-out, and hold what it wants to publish in memory meanwhile.
#[derive(Debug, Default)]
struct Stall {
    is_stalled: AtomicBool,
    is_probed: AtomicBool,
}

/// The message that finds out. Another one may when this is over.
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

/// Why a message may not be where it should be. In doubt it is there: publish it again, the next step is idempotent.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No connection, or the broker blocks publishers.
    #[error("RabbitMQ is away or blocks publishers")]
    Unavailable,
    /// The connection broke while the message was under way.
    #[error("the connection to RabbitMQ broke: {0}")]
    Broken(lapin::Error),
    /// No confirm in time.
    #[error("RabbitMQ did not confirm within {0:?}")]
    Unconfirmed(Duration),
    /// The queue is full, or its leader is changing.
    #[error("the queue {0} refused the message: it is full or has no quorum")]
    Refused(String),
    /// No queue is bound to the route: somebody deleted it.
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
            Self::Refused(_) => Reason::QueueRefused,
            Self::Unroutable(_) => Reason::Unroutable,
        }
    }
}

impl Publisher {
    /// A publisher with a connection of its own: RabbitMQ blocks whole connections of publishers when it runs out of
    /// memory or disk, and consumers should go on then.
    pub async fn open(settings: BrokerSettings) -> Result<Self, ConnectionError> {
        let confirm_timeout = settings.confirm_timeout;
        Ok(Self { connection: Connection::open(settings).await?, confirm_timeout, stall: Arc::default() })
    }

    /// Publishes one message and waits for its confirm. Call it for many messages at once: confirms then come in
    /// flights, more than ten times faster than one by one.
    pub async fn publish(&self, route: Route, message: &Message) -> Result<(), PublishError> {
        let result = self.publish_once(route, message).await;
        let outcome = result.as_ref().map_or_else(|error| error.reason().as_str(), |()| "confirmed");
        metrics::counter!("leadline_messages_published_total", "queue" => route.to_string(), "outcome" => outcome)
            .increment(1);
        result
    }

    /// How many messages wait in each queue, by the queue's name.
    pub async fn depths(&self) -> Result<Vec<(String, u32)>, ConnectionError> {
        self.connection.depths().await
    }

    /// Whether a message could be published right now.
    pub fn is_ready(&self) -> bool {
        self.connection.is_ready() && !self.stall.stalled()
    }

    /// Whether it makes sense to try: a message that is refused at once costs nothing.
    pub fn is_worth_trying(&self) -> bool {
        self.connection.is_ready() && !(self.stall.stalled() && self.stall.is_probed.load(Ordering::Relaxed))
    }

    async fn publish_once(&self, route: Route, message: &Message) -> Result<(), PublishError> {
        let channel = self.connection.channel().ok_or(PublishError::Unavailable)?;
        let _probe =
            if self.stall.stalled() { Some(self.stall.probe().ok_or(PublishError::Unavailable)?) } else { None };
        let key = route.to_string();
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirmed = async {
            let confirm = channel
                .basic_publish(EXCHANGE.into(), key.as_str().into(), options, &message.body, message.properties())
                .await?;
            confirm.await
        };
        let confirmed = tokio::time::timeout(self.confirm_timeout, confirmed).await;
        // Whatever the broker says, it speaks.
        self.stall.is_stalled.store(confirmed.is_err(), Ordering::Relaxed);
        match confirmed {
            Ok(Ok(Confirmation::Ack(None))) => Ok(()),
            // The mandatory flag: a message that no queue takes comes back, and is then acknowledged.
            Ok(Ok(Confirmation::Ack(Some(_)))) => {
                // Somebody deleted the queue; a fresh connection declares it again.
                self.connection.report_broken();
                Err(PublishError::Unroutable(key))
            }
            Ok(Ok(Confirmation::Nack(_) | Confirmation::NotRequested)) => Err(PublishError::Refused(key)),
            Ok(Err(error)) => {
                self.connection.report_broken();
                Err(PublishError::Broken(error))
            }
            Err(_) => Err(PublishError::Unconfirmed(self.confirm_timeout)),
        }
    }
}
