//! The consumer runtime: takes deliveries, bounds how many are worked on, and carries out what the handler decides.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use crashpoint::crash_point;
use futures_util::{FutureExt, StreamExt};
use lapin::{
    Acker, Channel,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions},
    types::FieldTable,
};
use retry::Reason;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    connection::Connection,
    message::Message,
    publisher::{PublishError, Publisher},
    topology::{Route, Stage},
    trace,
};

/// How long RabbitMQ may take to answer when we go.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a delivery is held while nothing can be published: well below RabbitMQ's consumer timeout.
const MAX_PUBLISH_WAIT: Duration = Duration::from_secs(1_200);
const TRY_EVERY: Duration = Duration::from_millis(500);

/// How a stage is consumed.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerSettings {
    /// The stage.
    pub stage: Stage,
    /// Deliveries worked on at once. Each is a task, not a thread: thousands are fine.
    pub concurrency: usize,
    /// How long a stop waits for deliveries that are being worked on; what is not done then is handed back.
    pub shutdown_grace: Duration,
}

/// A delivery, as the handler sees it.
#[derive(Debug)]
pub struct Delivery {
    /// What came.
    pub message: Arc<Message>,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
}

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// What it asked for is done or decided: acknowledge it.
    Done,
    /// It failed: back through the retry queue with this delay, and count the attempt.
    Retry {
        /// The retry queue, as [`crate::RetrySchedule`] chose it.
        delay: Duration,
        /// Why.
        reason: Reason,
        /// Why, in words.
        detail: String,
    },
    /// It did not fail, it only cannot go on now: back through a retry queue, nothing is counted.
    Defer {
        /// The retry queue; the shortest if `None`.
        delay: Option<Duration>,
        /// Why.
        reason: Reason,
    },
    /// It can never succeed: into the parking lot.
    Park {
        /// Why.
        reason: Reason,
        /// Why, in words.
        detail: String,
    },
}

impl Disposition {
    /// Back through the shortest retry queue, because of `reason`.
    pub fn defer(reason: Reason) -> Self {
        Self::Defer { delay: None, reason }
    }
}

/// Works on deliveries.
pub trait Handler: Send + Sync + 'static {
    /// Works on one delivery and decides about it. It must be in the ledger, or confirmed in the next queue, before
    /// this returns [`Disposition::Done`]: the delivery is acknowledged then.
    fn handle(&self, delivered: Delivery) -> impl Future<Output = Disposition> + Send;
}

/// How much a consumer takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConsumeMode {
    /// As much as it may work on at once.
    #[default]
    Normal,
    /// One message at a time.
    OneAtATime,
    /// Nothing: the messages stay in the queue.
    Paused,
}

/// Consumes a stage until `stop`: then takes no more, lets what is being worked on finish within the grace period,
/// and hands the rest back. Takes as much as `flow` allows, and comes back by itself when the broker does.
pub async fn consume<H: Handler>(
    connection: Connection,
    publisher: Publisher,
    settings: ConsumerSettings,
    handler: Arc<H>,
    mut flow: watch::Receiver<ConsumeMode>,
    stop: CancellationToken,
) {
    let queue = settings.stage.queue();
    let slots = Arc::new(Semaphore::new(settings.concurrency));
    let worker = Arc::new(Worker { publisher, connection: connection.clone(), settings, handler });
    // Deliveries outlive the channel they came on: what is being worked on may still reach the ledger, its acknowledgement
    // fails in silence, and when it comes again the ledger sorts out who was first.
    let mut working = JoinSet::new();
    let mut channel;
    loop {
        channel = tokio::select! {
            channel = connection.wait() => channel,
            () = stop.cancelled() => return finish(None, working, settings.shutdown_grace).await,
        };
        let now = *flow.borrow_and_update();
        if now == ConsumeMode::Paused {
            tracing::warn!(queue, "taking nothing for now");
            tokio::select! {
                () = changed(&mut flow, now) => continue,
                () = stop.cancelled() => break,
            }
        }
        match consume_until_changed(&channel, &worker, &slots, &mut working, now, &mut flow, &stop).await {
            Ok(Drained::Stopped) => break,
            Ok(Drained::FlowChanged) => {}
            Ok(Drained::Ended) => {
                // A consumer that ends without an error leaves a channel that may still look alive.
                tracing::warn!(queue, connected = channel.status().connected(), "the broker ended the consumer");
            }
            Err(error) => {
                tracing::warn!(%error, queue, "consuming stopped; starting again");
                metrics::counter!("leadline_consumer_restarts_total", "queue" => queue).increment(1);
                connection.report_broken();
                // Without a pause, a consumer that the broker keeps closing would spin.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    finish(Some(&channel), working, settings.shutdown_grace).await;
}

/// Why no more deliveries are taken.
enum Drained {
    /// The service stops.
    Stopped,
    /// Another flow is allowed.
    FlowChanged,
    /// The broker ended the consumer: the queue was deleted, or the channel is gone.
    Ended,
}

async fn consume_until_changed<H: Handler>(
    channel: &Channel,
    worker: &Arc<Worker<H>>,
    slots: &Arc<Semaphore>,
    working: &mut JoinSet<()>,
    now: ConsumeMode,
    flow: &mut watch::Receiver<ConsumeMode>,
    stop: &CancellationToken,
) -> Result<Drained, lapin::Error> {
    let queue = worker.settings.stage.queue();
    // Never more than is worked on at once: a delivery that lay in a buffer behind slow ones could stay unacknowledged
    // beyond RabbitMQ's consumer timeout (30 minutes by default), and no other replica could have it.
    let prefetch =
        if now == ConsumeMode::OneAtATime { 1 } else { u16::try_from(worker.settings.concurrency).unwrap_or(u16::MAX) };
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let mut deliveries =
        channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
    tracing::info!(queue, prefetch, "consuming");
    let tag = deliveries.tag().to_string();
    let mut ending = None;
    loop {
        let delivery = tokio::select! {
            biased;
            () = stop.cancelled(), if ending.is_none() => {
                ending = Some(Drained::Stopped);
                cancel(channel, &tag).await;
                continue;
            }
            () = changed(flow, now), if ending.is_none() => {
                ending = Some(Drained::FlowChanged);
                cancel(channel, &tag).await;
                continue;
            }
            Some(_) = working.join_next(), if !working.is_empty() => continue,
            delivery = next(&mut deliveries, ending.is_some()) => delivery,
        };
        let Some(delivery) = delivery else {
            return Ok(ending.unwrap_or(Drained::Ended));
        };
        let delivery = delivery?;
        // What is kept while it is worked on, thousands of times: not the frame that it came in.
        let message = Arc::new(Message::from_parts(&delivery.properties, delivery.data));
        let delivered = Delivery { message, redelivered: delivery.redelivered };
        let (worker, slots, channel, acker) = (worker.clone(), slots.clone(), channel.clone(), delivery.acker);
        working.spawn(async move {
            // At once, but when a channel before this one left work behind.
            let Ok(_slot) = slots.acquire_owned().await else { return };
            worker.work(delivered, &acker, &channel).await;
        });
    }
}

/// The next delivery. What came before a cancellation is worked on too: the stream ends after it.
async fn next(
    deliveries: &mut lapin::Consumer,
    ending: bool,
) -> Option<Result<lapin::message::Delivery, lapin::Error>> {
    if ending {
        return tokio::time::timeout(CLOSE_TIMEOUT, deliveries.next()).await.unwrap_or(None);
    }
    deliveries.next().await
}

/// Waits until another flow than `now` is allowed.
async fn changed(flow: &mut watch::Receiver<ConsumeMode>, now: ConsumeMode) {
    if flow.wait_for(|flow| *flow != now).await.is_err() {
        // Nobody is left who could change it.
        std::future::pending::<()>().await;
    }
}

/// Lets what is being worked on finish within `grace`.
async fn finish(channel: Option<&Channel>, mut working: JoinSet<()>, shutdown_grace: Duration) {
    let left = working.len();
    let all_done = async { while working.join_next().await.is_some() {} };
    if tokio::time::timeout(shutdown_grace, all_done).await.is_err() {
        tracing::warn!(unfinished = working.len(), "the grace period is over; handing the rest back");
        working.abort_all();
    } else if left > 0 {
        tracing::info!(finished = left, "finished what was being worked on");
    }
    if let Some(channel) = channel {
        // Closing the channel hands back what was delivered and not acknowledged.
        with_close_timeout("closing the channel", channel.close(200, "stopping".into())).await;
    }
}

async fn cancel(channel: &Channel, tag: &str) {
    with_close_timeout("cancelling the consumer", channel.basic_cancel(tag.into(), BasicCancelOptions::default()))
        .await;
}

/// Says goodbye to a broker that may not listen any more; whatever it answers, we go.
async fn with_close_timeout(what: &str, goodbye: impl Future<Output = Result<(), lapin::Error>>) {
    match tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, what),
        Err(_) => tracing::warn!(what, "RabbitMQ did not answer"),
    }
}

struct Worker<H> {
    publisher: Publisher,
    connection: Connection,
    settings: ConsumerSettings,
    handler: Arc<H>,
}

impl<H: Handler> Worker<H> {
    async fn work(&self, delivered: Delivery, acker: &Acker, channel: &Channel) {
        let stage = self.settings.stage;
        let message = delivered.message.clone();
        let span = tracing::info_span!("message", queue = stage.queue(), id = message.id, attempts = message.attempts);
        trace::set_parent(&span, message.trace());
        async {
            let started = Instant::now();
            let gauge = metrics::gauge!("leadline_messages_in_progress", "queue" => stage.queue());
            gauge.increment(1.0);
            // A panic must not leave the delivery unacknowledged until the channel closes, nor come back for ever.
            let handled = AssertUnwindSafe(self.handler.handle(delivered)).catch_unwind().await;
            let next = handled.unwrap_or_else(|_| Disposition::Park {
                reason: Reason::Panicked,
                detail: "the handler panicked; see the service's log".to_owned(),
            });
            gauge.decrement(1.0);
            metrics::counter!("leadline_messages_total", "queue" => stage.queue(), "outcome" => next.name())
                .increment(1);
            metrics::histogram!("leadline_message_seconds", "queue" => stage.queue())
                .record(started.elapsed().as_secs_f64());
            self.carry_out(next, message, acker, channel).await;
        }
        .instrument(span)
        .await;
    }

    /// Publishes, again and again while the broker blocks publishers. Handing the message back instead would bring it again
    /// at once, and each time counts towards the delivery limit: an hour's alarm would park everything.
    async fn move_on(&self, route: Route, message: &Message, channel: &Channel) -> Result<(), PublishError> {
        let started = Instant::now();
        loop {
            let Err(error) = self.publisher.publish(route, message).await else { return Ok(()) };
            // Without its channel the delivery is the broker's again.
            if !channel.status().connected() || started.elapsed() > MAX_PUBLISH_WAIT {
                return Err(error);
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
    }

    /// Publishes first and acknowledges after the confirm, so that a crash in between doubles and never loses.
    async fn carry_out(&self, next: Disposition, message: Arc<Message>, acker: &Acker, channel: &Channel) {
        let stage = self.settings.stage;
        let message = || Message::clone(&message);
        let onward = match next {
            Disposition::Done => None,
            Disposition::Retry { delay, reason, detail } => {
                let mut message = message().with_reason(reason, &detail);
                message.attempts += 1;
                Some((Route::Retry(stage, delay), message))
            }
            Disposition::Defer { delay, reason } => {
                let delay = delay.unwrap_or_else(|| self.connection.settings().topology.retry_schedule.shortest());
                Some((Route::Retry(stage, delay), message().with_reason(reason, "")))
            }
            Disposition::Park { reason, detail } => {
                Some((Route::Parked(stage), message().with_reason(reason, &detail)))
            }
        };
        if let Some((route, message)) = onward
            && let Err(error) = Box::pin(self.move_on(route, &message, channel)).await
        {
            tracing::warn!(%error, %route, "could not move the message on; handing it back");
            let requeue = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            if let Err(error) = acker.nack(requeue).await {
                tracing::debug!(%error, "handing back on a channel that is gone; the broker does it by itself");
            }
            return;
        }
        crash_point!("consumer.before_ack");
        if let Err(error) = acker.ack(BasicAckOptions::default()).await {
            tracing::debug!(%error, "acknowledging on a channel that is gone; the message will come again");
        }
    }
}

impl Disposition {
    /// How long the message stays in a retry queue, where that is said.
    pub fn delay(&self) -> Option<Duration> {
        match self {
            Self::Retry { delay, .. } => Some(*delay),
            Self::Defer { delay, .. } => *delay,
            Self::Done | Self::Park { .. } => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry { .. } => "retry",
            Self::Defer { .. } => "wait",
            Self::Park { .. } => "parked",
        }
    }
}
