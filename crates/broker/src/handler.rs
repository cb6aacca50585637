//! What a consumer gives to a service, and what the service answers.

use std::{future::Future, sync::Arc, time::Duration};

use retry::Reason;

use crate::{message::Message, retry_schedule::Tries};

/// A message that RabbitMQ delivered.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// Whether it may have been delivered before (AMQP's `redelivered` flag).
    pub redelivered: bool,
}

impl Delivery {
    /// What the message has behind it, as far as the message knows: not its age.
    pub fn tries(&self) -> Tries {
        let last_reason = self.message.reason.as_deref().and_then(Reason::parse);
        Tries { failures: self.message.attempts, age: Duration::ZERO, last_reason }
    }
}

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// The message's work is done or recorded: acknowledge it.
    Done,
    /// It failed: move it to the retry queue with this delay, and count the attempt.
    Retry {
        /// The delay of the retry queue, as [`crate::RetrySchedule`] chose it.
        delay: Duration,
        /// Why it failed.
        reason: Reason,
        /// The reason in words.
        detail: String,
    },
    /// It cannot be processed at the moment: move it to a retry queue. No attempt is counted.
    Defer {
        /// The delay of the retry queue; the shortest one if `None`.
        delay: Option<Duration>,
        /// Why it has to wait.
        reason: Reason,
    },
    /// It can never succeed: move it to the parking lot.
    Park {
        /// Why.
        reason: Reason,
        /// The reason in words.
        detail: String,
    },
}

impl Disposition {
    /// Move it to the shortest retry queue, because of `reason`.
    pub fn defer(reason: Reason) -> Self {
        Self::Defer { delay: None, reason }
    }

    /// How long the message stays in a retry queue; `None` if it goes to none, or to the shortest.
    pub fn delay(&self) -> Option<Duration> {
        match self {
            Self::Retry { delay, .. } => Some(*delay),
            Self::Defer { delay, .. } => *delay,
            Self::Done | Self::Park { .. } => None,
        }
    }

    /// Why the message comes back or is parked; `None` when it is done.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Retry { reason, .. } | Self::Defer { reason, .. } | Self::Park { reason, .. } => Some(*reason),
            Self::Done => None,
        }
    }

    /// The metric label `outcome`.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry { .. } => "retry",
            Self::Defer { .. } => "deferred",
            Self::Park { .. } => "parked",
        }
    }
}

/// The service's side of a consumer.
pub trait Handler: Send + Sync + 'static {
    /// Processes one delivery and decides what becomes of it. The effect must be in the ledger, or confirmed in the next
    /// queue, before this returns [`Disposition::Done`]: the delivery is acknowledged right after.
    fn handle(&self, delivery: Delivery) -> impl Future<Output = Disposition> + Send;
}
