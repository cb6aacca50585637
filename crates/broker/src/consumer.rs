//! The consumer of a stage: takes deliveries, bounds how many are in progress, and stops gracefully.

use std::{
    future::Future,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{
    Channel,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::Connection,
    delivery_worker::DeliveryWorker,
    handler::{Delivery, Handler},
    message::Message,
    publisher::Publisher,
    route::Stage,
};

/// How long RabbitMQ may take to answer when a consumer is cancelled or a channel is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause after an error. Without it, a consumer that the broker closes again and again would loop without rest.
const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// How a stage is consumed.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerSettings {
    /// The stage.
    pub stage: Stage,
    /// The most deliveries in progress at once. Each is a task, not a thread: thousands are fine.
    pub concurrency: usize,
    /// How long a stop waits for deliveries in progress. Those that are not done then are handed back to RabbitMQ.
    pub shutdown_grace: Duration,
}

/// How many deliveries a consumer takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConsumeMode {
    /// As many as its concurrency allows.
    #[default]
    Normal,
    /// One message at a time.
    OneAtATime,
    /// None: the messages stay in the queue.
    Paused,
}

/// Consumes a stage until `stop`: it takes no more deliveries then, waits for those in progress for the grace period, and
/// hands the rest back. Takes as many as `mode` allows, and reconnects by itself.
pub async fn consume<H: Handler>(
    connection: Connection,
    publisher: Publisher,
    settings: ConsumerSettings,
    handler: Arc<H>,
    mut mode: watch::Receiver<ConsumeMode>,
    stop: CancellationToken,
) {
    let queue = settings.stage.queue();
    let retry_schedule = connection.settings().topology.retry_schedule.clone();
    let worker = DeliveryWorker {
        publisher,
        stage: settings.stage,
        retry_schedule,
        handler,
        has_told_newer: AtomicBool::new(false),
    };
    let slots = Arc::new(Semaphore::new(settings.concurrency));
    // Deliveries in progress may outlive their channel. They can still commit to the ledger; their acknowledgement fails, the
    // message is delivered again, and the ledger recognises it.
    let in_progress = JoinSet::new();
    let mut consumer = Consumer { settings, worker: Arc::new(worker), slots, in_progress };
    let mut open;
    loop {
        open = tokio::select! {
            open = connection.wait_for_channel() => open,
            () = stop.cancelled() => return consumer.finish(None).await,
        };
        let current = *mode.borrow_and_update();
        if current == ConsumeMode::Paused {
            tracing::warn!(queue, "consuming is paused");
            tokio::select! {
                () = mode_changed(&mut mode, current) => continue,
                () = stop.cancelled() => break,
            }
        }
        match consumer.consume_until_changed(open.channel(), current, &mut mode, &stop).await {
            Ok(ConsumeEnd::Stopped) => break,
            Ok(ConsumeEnd::ModeChanged) => {}
            Ok(ConsumeEnd::CancelledByBroker) => {
                // The channel may still look connected: connected = true in this line is no contradiction.
                tracing::warn!(queue, connected = open.channel().status().connected(), "the broker ended the consumer");
            }
            Err(error) => {
                tracing::warn!(%error, queue, "consuming failed; starting again");
                metrics::counter!("leadline_consumer_restarts_total", "queue" => queue).increment(1);
                open.report_broken();
                tokio::time::sleep(RESTART_PAUSE).await;
            }
        }
    }
    consumer.finish(Some(open.channel())).await;
}

/// Why a consumer took no more deliveries.
enum ConsumeEnd {
    /// The service stops.
    Stopped,
    /// Another [`ConsumeMode`] was set.
    ModeChanged,
    /// The broker ended the consumer: the queue was deleted, or the channel was closed.
    CancelledByBroker,
}

struct Consumer<H> {
    settings: ConsumerSettings,
    worker: Arc<DeliveryWorker<H>>,
    slots: Arc<Semaphore>,
    in_progress: JoinSet<()>,
}

impl<H: Handler> Consumer<H> {
    /// Consumes on `channel` until `stop`, until the mode is another than `current`, or until the broker ends it.
    async fn consume_until_changed(
        &mut self,
        channel: &Channel,
        current: ConsumeMode,
        mode: &mut watch::Receiver<ConsumeMode>,
        stop: &CancellationToken,
    ) -> Result<ConsumeEnd, lapin::Error> {
        let queue = self.settings.stage.queue();
        // No more than can be processed at once: a delivery that waits in a buffer behind slow ones could stay
        // unacknowledged beyond RabbitMQ's consumer timeout (30 minutes by default), and no other replica could have it.
        let prefetch = match current {
            ConsumeMode::OneAtATime => 1,
            _ => u16::try_from(self.settings.concurrency).unwrap_or(u16::MAX),
        };
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let mut deliveries = channel
            .basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await?;
        tracing::info!(queue, prefetch, "consuming");
        let tag = deliveries.tag().to_string();
        let mut ending = None;
        loop {
            let delivery = tokio::select! {
                biased;
                () = stop.cancelled(), if ending.is_none() => {
                    ending = Some(ConsumeEnd::Stopped);
                    cancel(channel, &tag).await;
                    continue;
                }
                () = mode_changed(mode, current), if ending.is_none() => {
                    ending = Some(ConsumeEnd::ModeChanged);
                    cancel(channel, &tag).await;
                    continue;
                }
                Some(_) = self.in_progress.join_next(), if !self.in_progress.is_empty() => continue,
                delivery = next_delivery(&mut deliveries, ending.is_some()) => delivery,
            };
            let Some(delivery) = delivery else {
                return Ok(ending.unwrap_or(ConsumeEnd::CancelledByBroker));
            };
            self.start(channel, delivery?);
        }
    }

    fn start(&mut self, channel: &Channel, delivery: lapin::message::Delivery) {
        // Only the message is kept while it is processed, and not the AMQP frame: there are thousands in progress.
        let message = Arc::new(Message::from_parts(&delivery.properties, delivery.data));
        let (acker, delivery) = (delivery.acker, Delivery { message, redelivered: delivery.redelivered });
        let (worker, slots, channel) = (self.worker.clone(), self.slots.clone(), channel.clone());
        self.in_progress.spawn(async move {
            // Waits only when deliveries of an earlier channel are still in progress.
            let Ok(_slot) = slots.acquire_owned().await else { return };
            worker.process(delivery, &acker, &channel).await;
        });
    }

    /// Waits for the deliveries in progress within the grace period, then closes `channel`.
    async fn finish(mut self, channel: Option<&Channel>) {
        let remaining = self.in_progress.len();
        let all_done = async { while self.in_progress.join_next().await.is_some() {} };
        if tokio::time::timeout(self.settings.shutdown_grace, all_done).await.is_err() {
            let unfinished = self.in_progress.len();
            tracing::warn!(unfinished, "the grace period is over; handing back what is not finished");
            self.in_progress.abort_all();
        } else if remaining > 0 {
            tracing::info!(finished = remaining, "finished the deliveries in progress");
        }
        if let Some(channel) = channel {
            // Closing the channel hands back all deliveries that are not acknowledged.
            with_close_timeout("closing the channel", channel.close(200, "stopping".into())).await;
        }
    }
}

/// The next delivery. After a cancellation, deliveries that were already sent still arrive and are processed; then the stream
/// ends.
async fn next_delivery(
    deliveries: &mut lapin::Consumer,
    is_cancelled: bool,
) -> Option<Result<lapin::message::Delivery, lapin::Error>> {
    if is_cancelled {
        return tokio::time::timeout(CLOSE_TIMEOUT, deliveries.next()).await.unwrap_or(None);
    }
    deliveries.next().await
}

/// Waits until the mode is another than `current`.
async fn mode_changed(mode: &mut watch::Receiver<ConsumeMode>, current: ConsumeMode) {
    if mode.wait_for(|mode| *mode != current).await.is_err() {
        // The sender is dropped: the mode cannot change any more.
        std::future::pending::<()>().await;
    }
}

async fn cancel(channel: &Channel, tag: &str) {
    with_close_timeout("cancelling the consumer", channel.basic_cancel(tag.into(), BasicCancelOptions::default()))
        .await;
}

/// Waits for a closing call, but not for ever: the broker may be unreachable. Its errors change nothing for a consumer that
/// stops.
async fn with_close_timeout(what: &str, close: impl Future<Output = Result<(), lapin::Error>>) {
    match tokio::time::timeout(CLOSE_TIMEOUT, close).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, what),
        Err(_) => tracing::warn!(what, "RabbitMQ did not answer in time"),
    }
}
