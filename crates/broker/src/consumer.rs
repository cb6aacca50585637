//! The consumer runtime: takes deliveries, bounds how many are worked on, and carries out what the handler decides.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use lapin::{
    Channel,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions},
    types::FieldTable,
};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    link::Link,
    message::Message,
    publisher::Publisher,
    topology::{Route, Stage},
    trace,
};

/// How long RabbitMQ may take to answer when we go.
const GOODBYE: Duration = Duration::from_secs(2);

/// How a stage is consumed.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerSettings {
    /// The stage.
    pub stage: Stage,
    /// Deliveries worked on at once. Each is a task, not a thread: thousands are fine.
    pub concurrency: usize,
    /// How long a stop waits for deliveries that are being worked on; what is not done then is handed back.
    pub grace: Duration,
}

/// A delivery, as the handler sees it.
#[derive(Debug)]
pub struct Delivered {
    /// What came.
    pub message: Message,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
}

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// What it asked for is done or decided: acknowledge it.
    Done,
    /// It failed: back through the waiting room with this delay, and count the attempt.
    Retry {
        /// The waiting room, as [`crate::Ladder`] chose it.
        delay: Duration,
        /// Why, in `snake_case`.
        reason: &'static str,
        /// Why, in words.
        detail: String,
    },
    /// It did not fail, it only cannot go on now: back through a waiting room, nothing is counted.
    Wait {
        /// The waiting room; the shortest if `None`.
        delay: Option<Duration>,
        /// Why, in `snake_case`.
        reason: &'static str,
    },
    /// It can never succeed: into the parking lot.
    Park {
        /// Why, in `snake_case`.
        reason: &'static str,
        /// Why, in words.
        detail: String,
    },
}

impl Next {
    /// Back through the shortest waiting room, because of `reason`.
    pub fn wait(reason: &'static str) -> Self {
        Self::Wait { delay: None, reason }
    }
}

/// Works on deliveries.
pub trait Handler: Send + Sync + 'static {
    /// Works on one delivery and decides about it. It must be in the ledger, or confirmed in the next queue, before
    /// this returns [`Next::Done`]: the delivery is acknowledged then.
    fn handle(&self, delivered: Delivered) -> impl Future<Output = Next> + Send;
}

/// Consumes a stage until `stop`: then takes no more, lets what is being worked on finish within the grace period,
/// and hands the rest back. Comes back by itself when the broker does.
pub async fn consume<H: Handler>(
    link: Link,
    publisher: Publisher,
    settings: ConsumerSettings,
    handler: Arc<H>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(settings.concurrency));
    while !stop.is_cancelled() {
        let channel = tokio::select! {
            channel = link.wait() => channel,
            () = stop.cancelled() => return,
        };
        let worker = Worker { publisher: publisher.clone(), link: link.clone(), settings, handler: handler.clone() };
        if let Err(error) = drain(&channel, Arc::new(worker), &slots, &stop).await {
            tracing::warn!(%error, queue = settings.stage.queue(), "consuming stopped; starting again");
            link.report_broken();
            // Without a pause, a consumer that the broker keeps closing would spin.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn drain<H: Handler>(
    channel: &Channel,
    worker: Arc<Worker<H>>,
    slots: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Result<(), lapin::Error> {
    let queue = worker.settings.stage.queue();
    let mut deliveries =
        channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
    tracing::info!(queue, concurrency = worker.settings.concurrency, "consuming");
    let mut working = JoinSet::new();
    let result = loop {
        // A free slot first: a delivery is only taken when it can be worked on at once.
        let slot = tokio::select! {
            () = stop.cancelled() => break Ok(()),
            slot = slots.clone().acquire_owned() => match slot {
                Ok(slot) => slot,
                Err(_) => break Ok(()),
            },
        };
        let delivery = loop {
            tokio::select! {
                () = stop.cancelled() => break None,
                Some(_) = working.join_next(), if !working.is_empty() => {}
                delivery = deliveries.next() => break Some(delivery),
            }
        };
        match delivery {
            None => break Ok(()),
            // The broker cancelled the consumer (the queue was deleted) or the channel is gone.
            Some(None) => {
                link_lost(channel);
                break Ok(());
            }
            Some(Some(Err(error))) => break Err(error),
            Some(Some(Ok(delivery))) => {
                let worker = worker.clone();
                working.spawn(async move {
                    worker.work(delivery).await;
                    drop(slot);
                });
            }
        }
    };
    if stop.is_cancelled() {
        finish(channel, deliveries.tag().as_str(), working, worker.settings.grace).await;
    } else {
        // The old channel's deliveries will come again; what is being worked on may still reach the ledger, and its
        // acknowledgement will fail in silence. Let it run: the ledger sorts out who is first.
        tokio::spawn(async move { while working.join_next().await.is_some() {} });
    }
    result
}

/// A consumer that ends without an error leaves a channel that may still look alive.
fn link_lost(channel: &Channel) {
    tracing::warn!(connected = channel.status().connected(), "the broker ended the consumer");
}

async fn finish(channel: &Channel, tag: &str, mut working: JoinSet<()>, grace: Duration) {
    polite("cancelling the consumer", channel.basic_cancel(tag.into(), BasicCancelOptions::default())).await;
    let left = working.len();
    let all_done = async { while working.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, all_done).await.is_err() {
        tracing::warn!(unfinished = working.len(), "the grace period is over; handing the rest back");
        working.abort_all();
    } else if left > 0 {
        tracing::info!(finished = left, "finished what was being worked on");
    }
    // Closing the channel hands back what was delivered and not acknowledged.
    polite("closing the channel", channel.close(200, "stopping".into())).await;
}

/// Says goodbye to a broker that may not listen any more; whatever it answers, we go.
async fn polite(what: &str, goodbye: impl Future<Output = Result<(), lapin::Error>>) {
    match tokio::time::timeout(GOODBYE, goodbye).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, what),
        Err(_) => tracing::warn!(what, "RabbitMQ did not answer"),
    }
}

struct Worker<H> {
    publisher: Publisher,
    link: Link,
    settings: ConsumerSettings,
    handler: Arc<H>,
}

impl<H: Handler> Worker<H> {
    async fn work(&self, mut delivery: Delivery) {
        let stage = self.settings.stage;
        let message = Message::from_parts(&delivery.properties, std::mem::take(&mut delivery.data));
        let span = tracing::info_span!("message", queue = stage.queue(), id = message.id, attempts = message.attempts);
        trace::set_parent(&span, message.trace());
        async {
            let started = Instant::now();
            let gauge = metrics::gauge!("leadline_messages_in_progress", "queue" => stage.queue());
            gauge.increment(1.0);
            let delivered = Delivered { message: message.clone(), redelivered: delivery.redelivered };
            // A panic must not leave the delivery unacknowledged until the channel closes, nor come back for ever.
            let handled = AssertUnwindSafe(self.handler.handle(delivered)).catch_unwind().await;
            let next = handled.unwrap_or_else(|_| Next::Park {
                reason: "panicked",
                detail: "the handler panicked; see the service's log".to_owned(),
            });
            gauge.decrement(1.0);
            metrics::counter!("leadline_messages_total", "queue" => stage.queue(), "outcome" => next.name())
                .increment(1);
            metrics::histogram!("leadline_message_seconds", "queue" => stage.queue())
                .record(started.elapsed().as_secs_f64());
            self.carry_out(next, message, delivery).await;
        }
        .instrument(span)
        .await;
    }

    /// Publishes first and acknowledges after the confirm, so that a crash in between doubles and never loses.
    async fn carry_out(&self, next: Next, message: Message, delivery: Delivery) {
        let stage = self.settings.stage;
        let onward = match next {
            Next::Done => None,
            Next::Retry { delay, reason, detail } => {
                let mut message = message.because(reason, &detail);
                message.attempts += 1;
                Some((Route::Waiting(stage, delay), message))
            }
            Next::Wait { delay, reason } => {
                let delay = delay.unwrap_or_else(|| self.link.settings().topology.ladder.shortest());
                Some((Route::Waiting(stage, delay), message.because(reason, "")))
            }
            Next::Park { reason, detail } => Some((Route::Parked(stage), message.because(reason, &detail))),
        };
        if let Some((route, message)) = onward
            && let Err(error) = self.publisher.publish(route, &message).await
        {
            tracing::warn!(%error, %route, "could not move the message on; handing it back");
            // The broker is in trouble; a pause keeps a hand-back from becoming a spin.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let requeue = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            if let Err(error) = delivery.nack(requeue).await {
                tracing::debug!(%error, "handing back on a channel that is gone; the broker does it by itself");
            }
            return;
        }
        if let Err(error) = delivery.ack(BasicAckOptions::default()).await {
            tracing::debug!(%error, "acknowledging on a channel that is gone; the message will come again");
        }
    }
}

impl Next {
    fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry { .. } => "retry",
            Self::Wait { .. } => "wait",
            Self::Park { .. } => "parked",
        }
    }
}
