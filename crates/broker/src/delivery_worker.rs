//! One delivery: calls the handler and does what its disposition says.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crashpoint::crash_point;
use futures_util::FutureExt;
use lapin::{
    Acker, Channel,
    options::{BasicAckOptions, BasicNackOptions},
};
use retry::Reason;
use spans::messages::{self, MessageOf};
use tokio::time::Instant;
use tracing::Instrument;

use crate::{
    handler::{Delivery, Disposition, Handler},
    message::Message,
    publisher::{PublishError, Publisher},
    retry_schedule::{RetrySchedule, Tries},
    route::{Route, Stage},
};

/// How long a delivery is kept unacknowledged while its message cannot be published to the next queue. Well below
/// RabbitMQ's consumer timeout (30 minutes by default), which would close the channel.
const MAX_PUBLISH_WAIT: Duration = Duration::from_secs(1_200);

/// The pause between two attempts to publish.
const PUBLISH_PAUSE: Duration = Duration::from_millis(500);

pub(crate) struct DeliveryWorker<H> {
    pub(crate) publisher: Publisher,
    pub(crate) stage: Stage,
    /// When a message comes back.
    pub(crate) retry_schedule: RetrySchedule,
    pub(crate) handler: Arc<H>,
    /// Whether the log has it that there are messages of a newer version.
    pub(crate) has_told_newer: AtomicBool,
}

impl<H: Handler> DeliveryWorker<H> {
    pub(crate) async fn process(&self, delivery: Delivery, acker: &Acker, channel: &Channel) {
        let queue = self.stage.queue();
        let message = delivery.message.clone();
        let received = MessageOf {
            exchange: self.stage.exchange(),
            routing_key: queue,
            id: &message.id,
            body_bytes: message.body.len(),
        };
        let traced = messages::process(&received, message.trace());
        let trace_id = spans::trace_id_of(&traced);
        let (id, attempts) = (&message.id, message.attempts);
        let span = tracing::info_span!("message", queue, id, attempts, trace_id);
        async {
            let started = Instant::now();
            let in_progress = metrics::gauge!("leadline_messages_in_progress", "queue" => queue);
            in_progress.increment(1.0);
            let disposition = if message.is_newer_than_known(self.stage) {
                self.leave_to_newer(&message)
            } else {
                self.handled(delivery).await
            };
            in_progress.decrement(1.0);
            // The handler finds what is newer in the ledger.
            if matches!(disposition, Disposition::Defer { reason: Reason::NewerVersion, .. }) {
                metrics::counter!("leadline_messages_newer_version_total", "queue" => queue).increment(1);
            }
            if let Disposition::Retry { reason, .. } | Disposition::Park { reason, .. } = &disposition {
                spans::fail(&traced, reason.as_str());
            }
            metrics::counter!("leadline_messages_total", "queue" => queue, "outcome" => disposition.as_str())
                .increment(1);
            metrics::histogram!("leadline_message_seconds", "queue" => queue).record(started.elapsed().as_secs_f64());
            self.carry_out(disposition, message, acker, channel).await;
        }
        .instrument(traced.clone())
        .instrument(span)
        .await;
    }

    async fn handled(&self, delivery: Delivery) -> Disposition {
        // After a panic the delivery would stay unacknowledged until the channel closes, then come back and panic again.
        let handled = AssertUnwindSafe(self.handler.handle(delivery)).catch_unwind().await;
        handled.unwrap_or_else(|_| Disposition::Park {
            reason: Reason::Panicked,
            detail: "the handler panicked; see the service's log".to_owned(),
        })
    }

    /// A message of a version that this program does not know. It is no failure, and nothing that a person has to look at: while the fleet
    /// is upgraded, one of the newer workers gets the message when it comes back. Handing it back at once would count towards the delivery
    /// limit and deliver it here again without rest. When no newer one comes before it is too old, a person has to know.
    fn leave_to_newer(&self, message: &Message) -> Disposition {
        let queue = self.stage.queue();
        // Each comes back every few seconds.
        if !self.has_told_newer.swap(true, Ordering::Relaxed) {
            let (version, known) = (message.version, self.stage.version());
            tracing::warn!(queue, version, known, "messages of a newer version wait for a worker that knows it");
        }
        let tries = Tries { age: message.age(), ..Tries::default() };
        self.retry_schedule.defer(&tries).disposition(Reason::NewerVersion, "no worker of its version has come")
    }

    /// Publishes first and acknowledges after the confirm: a crash in between delivers the message twice and never loses it.
    async fn carry_out(&self, disposition: Disposition, message: Arc<Message>, acker: &Acker, channel: &Channel) {
        if let Some((route, message)) = self.next_queue(disposition, &message)
            && let Err(error) = Box::pin(self.publish(route, &message, channel)).await
        {
            tracing::warn!(%error, %route, "the message could not be published to its next queue; handing it back");
            let requeue = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            if let Err(error) = acker.nack(requeue).await {
                tracing::debug!(%error, "the channel is closed; RabbitMQ requeues the message by itself");
            }
            return;
        }
        crash_point!("consumer.before_ack");
        if let Err(error) = acker.ack(BasicAckOptions::default()).await {
            tracing::debug!(%error, "the channel is closed; the message will be delivered again");
        }
    }

    /// The queue that the message moves to, and the message with its new headers; `None` if it is only acknowledged.
    fn next_queue(&self, disposition: Disposition, message: &Message) -> Option<(Route, Message)> {
        match disposition {
            Disposition::Done => None,
            Disposition::Retry { delay, reason, detail } => {
                let mut message = message.clone().with_reason(reason, &detail);
                message.attempts += 1;
                Some((Route::Retry(self.stage, delay), message))
            }
            Disposition::Defer { delay, reason } => {
                let delay = delay.unwrap_or(self.retry_schedule.shortest());
                Some((Route::Retry(self.stage, delay), message.clone().with_reason(reason, "")))
            }
            Disposition::Park { reason, detail } => {
                Some((Route::Parked(self.stage), message.clone().with_reason(reason, &detail)))
            }
        }
    }

    /// Publishes, and repeats it while the broker blocks publishers. Handing the message back instead would deliver it again
    /// at once, and each delivery counts towards the delivery limit: an alarm of an hour would park everything.
    async fn publish(&self, route: Route, message: &Message, channel: &Channel) -> Result<(), PublishError> {
        let started = Instant::now();
        loop {
            let Err(error) = self.publisher.publish(route, message).await else { return Ok(()) };
            // Once its channel is closed, RabbitMQ requeues the delivery.
            if !channel.status().connected() || started.elapsed() > MAX_PUBLISH_WAIT {
                return Err(error);
            }
            tokio::time::sleep(PUBLISH_PAUSE).await;
        }
    }
}
