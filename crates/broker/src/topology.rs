//! Which queues there are, and what becomes of a message in each. Right on RabbitMQ 3.10 and 4, without plugins.
//!
//! ```text
//! leadline.events ──rejected too often──▶ leadline.events.parked      (the broker's own doing)
//!    │   ▲      └──parked by a service──▶ leadline.events.parked      (with its reason as headers)
//!    ▼   │ time is up
//! leadline.events.retry.10s · .1m · .10m · .1h                        (retry queues)
//! ```
//!
//! and the same for `leadline.backfill` and `leadline.writes`. Everything is a quorum queue. Dead lettering is at-least-once, which needs
//! `reject-publish`: a full queue refuses the publisher instead of losing its oldest message.

use std::{fmt, time::Duration};

use lapin::{
    Channel, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString},
};
use retry::{Reason, RetryAction};

use crate::consumer::Disposition;

/// The one exchange: direct, durable; every queue is bound to it under its own name.
pub const EXCHANGE: &str = "leadline";

/// A parked message may be looked at in the management UI any number of times; each look counts as a delivery.
const PARKED_DELIVERY_LIMIT: i64 = 1_000_000;

/// A stage of the way, named by its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// `leadline.events`: what HubSpot said, for `inference`.
    Events,
    /// `leadline.backfill`: what no webhook told of, for `inference`, on a lane of its own so that live events are not
    /// delayed. A queue and not a priority: quorum queues of RabbitMQ 3 have none.
    Backfill,
    /// `leadline.writes`: what is to be written, for `writer`.
    Writes,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 3] = [Self::Events, Self::Backfill, Self::Writes];

    /// The name of the stage's queue.
    pub fn queue(self) -> &'static str {
        match self {
            Self::Events => "leadline.events",
            Self::Backfill => "leadline.backfill",
            Self::Writes => "leadline.writes",
        }
    }
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// A stage's queue.
    Queue(Stage),
    /// A stage's retry queue with this delay; the message comes back to the queue by itself.
    Retry(Stage, Duration),
    /// A stage's parking lot.
    Parked(Stage),
}

impl fmt::Display for Route {
    /// The queue's name, which is also the routing key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(stage) => f.write_str(stage.queue()),
            Self::Retry(stage, delay) => write!(f, "{}.retry.{}", stage.queue(), short(*delay)),
            Self::Parked(stage) => write!(f, "{}.parked", stage.queue()),
        }
    }
}

/// `10s`, `1m`, `1h`: the largest unit that is exact.
fn short(delay: Duration) -> String {
    match delay.as_secs() {
        seconds if seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// The retry queues, and how often a message may pass through them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySchedule {
    /// The delays in ascending order, at least one, whole seconds.
    delays: Vec<Duration>,
    /// Failed tries after which a message is parked. The last delay repeats.
    max_attempts: u32,
}

impl RetrySchedule {
    /// A retry schedule of `delays`, in ascending order.
    ///
    /// # Errors
    /// The delays are not as [`RetryScheduleError`] demands.
    pub fn new(delays: Vec<Duration>, max_attempts: u32) -> Result<Self, RetryScheduleError> {
        if delays.is_empty() || delays.iter().any(|delay| delay.as_secs() == 0) {
            return Err(RetryScheduleError::TooShort);
        }
        if !delays.is_sorted_by(|a, b| a < b) {
            return Err(RetryScheduleError::NotAscending);
        }
        Ok(Self { delays, max_attempts })
    }

    /// The delay of the shortest retry queue, for what only has to wait for its turn.
    pub fn shortest(&self) -> Duration {
        self.delays[0]
    }

    /// The longest retry queue.
    pub fn longest(&self) -> Duration {
        self.delays[self.delays.len() - 1]
    }

    /// The retry queue for a message that failed `attempts` times before and wants to come back not before `after`;
    /// `None` when it has used up the retry_schedule.
    pub fn delay(&self, attempts: u32, after: Option<Duration>) -> Option<Duration> {
        if attempts + 1 >= self.max_attempts {
            return None;
        }
        let last = self.delays.len() - 1;
        let by_attempt = usize::try_from(attempts).unwrap_or(last).min(last);
        Some(self.delays[by_attempt].max(self.room(after)))
    }

    /// The shortest retry queue that is long enough for `after`, or the longest there is.
    fn room(&self, after: Option<Duration>) -> Duration {
        let long_enough = self.delays.iter().find(|delay| **delay >= after.unwrap_or_default());
        *long_enough.unwrap_or(&self.longest())
    }

    /// What a failure's retry action means for a message that failed `attempts` times before.
    pub fn decide(&self, retry_action: RetryAction, attempts: u32) -> RetryDecision {
        match retry_action {
            RetryAction::RetryNow { after } | RetryAction::RetryLater { after } => {
                self.delay(attempts, after).map_or(RetryDecision::Exhausted, RetryDecision::Retry)
            }
            RetryAction::RateLimited { after } => RetryDecision::Defer(self.room(after)),
            RetryAction::Park => RetryDecision::Park,
            RetryAction::Discard => RetryDecision::Discard,
        }
    }
}

/// Why delays make no retry schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RetryScheduleError {
    /// There is none, or one is shorter than a second.
    #[error("needs at least one delay, and each of at least a second")]
    TooShort,
    /// They are not in ascending order, each longer than the one before.
    #[error("delays must ascend")]
    NotAscending,
}

/// What becomes of a message that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// It comes back after this delay, one failure older.
    Retry(Duration),
    /// It comes back after this delay as if nothing had happened.
    Defer(Duration),
    /// It wanted to come back, but has done so often enough: park it.
    Exhausted,
    /// A retry cannot help: park it.
    Park,
    /// Forget it.
    Discard,
}

impl RetryDecision {
    /// What the consumer does with the message, because of `reason` and its `detail` in words.
    pub fn disposition(self, reason: Reason, detail: &str) -> Disposition {
        match self {
            Self::Retry(delay) => Disposition::Retry { delay, reason, detail: detail.to_owned() },
            Self::Defer(delay) => Disposition::Defer { delay: Some(delay), reason },
            Self::Exhausted | Self::Park => Disposition::Park { reason, detail: detail.to_owned() },
            Self::Discard => Disposition::Done,
        }
    }
}

/// The queues and their arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// The retry queues.
    pub retry_schedule: RetrySchedule,
    /// A message whose consumers died this often goes to the parking lot.
    pub delivery_limit: u32,
    /// A queue with this many messages refuses more, and the receiver answers 503.
    pub max_queue_length: u32,
}

/// A queue that exists with other arguments than ours.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// RabbitMQ does not change a queue's arguments.
    #[error(
        "the queue or exchange `{name}` exists with other arguments: {reply}. Drain and delete it, or give back the \
         settings it was declared with"
    )]
    Mismatch {
        /// Which one.
        name: String,
        /// What RabbitMQ says.
        reply: String,
    },
    /// Anything else.
    #[error("declaring `{name}`: {error}")]
    Other {
        /// Which one.
        name: String,
        /// What lapin says.
        error: lapin::Error,
    },
}

impl Topology {
    /// Every queue with its arguments, in an order in which dead-letter targets come first.
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

            for delay in &self.retry_schedule.delays {
                let mut room = arguments();
                dead_letters_to(&mut room, Route::Queue(stage));
                let ttl = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
                room.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ttl));
                queues.push((Route::Retry(stage, *delay), room));
            }
        }
        queues
    }

    /// Makes sure that everything is there as it should be. Does nothing when it is.
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

    /// How many messages wait in each queue at this moment, by the queue's name; those that are being worked on are not
    /// counted. Exact, unlike the management API, whose numbers are seconds old.
    pub async fn depths(&self, channel: &Channel) -> Result<Vec<(String, u32)>, TopologyError> {
        let mut depths = Vec::new();
        for (route, _) in self.queues() {
            let name = route.to_string();
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue = channel
                .queue_declare(name.as_str().into(), passive, FieldTable::default())
                .await
                .map_err(|error| classify(&name, error))?;
            depths.push((name, queue.message_count()));
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
    use super::*;

    fn seconds(list: &[u64]) -> Vec<Duration> {
        list.iter().map(|seconds| Duration::from_secs(*seconds)).collect()
    }

    #[test]
    fn queue_names_are_the_documented_ones() {
        let retry_schedule = RetrySchedule::new(seconds(&[10, 60, 600, 3600]), 10).expect("right");
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

    #[test]
    fn a_message_climbs_the_ladder_obeys_wishes_and_ends() {
        let retry_schedule = RetrySchedule::new(seconds(&[10, 60, 600]), 5).expect("right");
        let delay = |attempts, after| retry_schedule.delay(attempts, after).map(|delay| delay.as_secs());
        assert_eq!(
            [0, 1, 2, 3, 4].map(|attempts| delay(attempts, None)),
            [Some(10), Some(60), Some(600), Some(600), None]
        );
        assert_eq!(delay(0, Some(Duration::from_secs(45))), Some(60));
        assert_eq!(delay(2, Some(Duration::from_secs(1))), Some(600));
        assert_eq!(delay(0, Some(Duration::from_secs(86_400))), Some(600), "the longest there is");
        assert_eq!(retry_schedule.decide(RetryAction::RetryNow { after: None }, 9), RetryDecision::Exhausted);
        assert_eq!(retry_schedule.decide(RetryAction::Park, 0), RetryDecision::Park);
        let throttled =
            |seconds| retry_schedule.decide(RetryAction::RateLimited { after: Some(Duration::from_secs(seconds)) }, 99);
        assert_eq!(
            throttled(1),
            RetryDecision::Defer(Duration::from_secs(10)),
            "a limit never uses up the retry_schedule"
        );
        assert_eq!(throttled(3_600), RetryDecision::Defer(Duration::from_secs(600)));
    }

    #[test]
    fn a_ladder_must_ascend() {
        assert!(RetrySchedule::new(vec![], 3).is_err());
        assert!(RetrySchedule::new(seconds(&[60, 10]), 3).is_err());
        assert!(RetrySchedule::new(seconds(&[0, 10]), 3).is_err());
    }
}
