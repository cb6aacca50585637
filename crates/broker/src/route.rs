//! The names of the queues.

use std::{fmt, time::Duration};

use domain::{Event, EventKey, MessageBody, event::EventKind, write_command::CommandMessage};

/// A stage of processing, named by its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// `leadline.events`: webhook events, for `leadline-inference`.
    Events,
    /// `leadline.backfill`: changes that no webhook reported, for `leadline-inference`. They have a queue of their own so
    /// that they do not delay live events. Message priorities cannot do that: quorum queues of RabbitMQ 3 have none.
    Backfill,
    /// `leadline.erasures`: deletions for privacy reasons, for `leadline-inference`. They need the ledger alone, so they do not wait
    /// with the events for an outage of HubSpot or OpenAI to end.
    Erasures,
    /// `leadline.writes`: write commands, for `leadline-writer`.
    Writes,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 4] = [Self::Events, Self::Backfill, Self::Erasures, Self::Writes];

    /// The stage that an event goes to, be it for the first time or again.
    pub fn of_event(key: &EventKey) -> Self {
        if key.kind() == Some(EventKind::PrivacyDeletion) { Self::Erasures } else { Self::Events }
    }

    /// The name of the stage's queue.
    pub fn queue(self) -> &'static str {
        match self {
            Self::Events => "leadline.events",
            Self::Backfill => "leadline.backfill",
            Self::Erasures => "leadline.erasures",
            Self::Writes => "leadline.writes",
        }
    }

    /// The newest version of its messages' bodies that this program reads.
    pub fn version(self) -> u16 {
        match self {
            Self::Events | Self::Backfill | Self::Erasures => Event::VERSION,
            Self::Writes => CommandMessage::VERSION,
        }
    }

    /// The name of the stage's exchange: direct and durable. The stage's queue, its retry queues and its parking lot are
    /// bound to it, each under its own name. Who may write to this exchange can put messages into this stage and no other.
    pub fn exchange(self) -> &'static str {
        match self {
            Self::Events => "leadline.events.exchange",
            Self::Backfill => "leadline.backfill.exchange",
            Self::Erasures => "leadline.erasures.exchange",
            Self::Writes => "leadline.writes.exchange",
        }
    }
}

/// The queue that a message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// A stage's queue.
    Queue(Stage),
    /// A stage's retry queue with this delay. RabbitMQ moves the message back to the stage's queue when the delay is over.
    Retry(Stage, Duration),
    /// A stage's parking lot: its dead-letter queue.
    Parked(Stage),
}

impl Route {
    /// The stage that the queue belongs to.
    pub fn stage(self) -> Stage {
        match self {
            Self::Queue(stage) | Self::Retry(stage, _) | Self::Parked(stage) => stage,
        }
    }
}

impl fmt::Display for Route {
    /// The queue's name, which is also the routing key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(stage) => f.write_str(stage.queue()),
            Self::Retry(stage, delay) => write!(f, "{}.retry.{}", stage.queue(), in_largest_unit(*delay)),
            Self::Parked(stage) => write!(f, "{}.parked", stage.queue()),
        }
    }
}

/// `10s`, `1m`, `1h`: in the largest unit that gives a whole number.
fn in_largest_unit(delay: Duration) -> String {
    match delay.as_secs() {
        seconds if seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::{
        EventKey, ObjectId, ObjectType, PortalId,
        event::{EventKind, Subject},
    };

    use super::{Route, Stage};

    #[test]
    fn a_privacy_deletion_has_a_stage_of_its_own_whatever_it_is_about() {
        let of_key = |object_type: &str, kind| {
            let subject = Subject::Record { object_type: ObjectType::from(object_type), object_id: ObjectId(7) };
            Stage::of_event(&EventKey::new(PortalId(1), kind, &subject, Some("a.b:privacyDeletion"), 1, "1"))
        };
        for object_type in ["0-1", "2-123"] {
            for kind in EventKind::ALL.iter().copied() {
                let expected = if kind == EventKind::PrivacyDeletion { Stage::Erasures } else { Stage::Events };
                assert_eq!(of_key(object_type, kind), expected, "{object_type} {kind}");
            }
        }
        assert_eq!(Stage::of_event(&EventKey::from_text("erased:0190")), Stage::Events);
    }

    #[test]
    fn a_retry_queue_is_named_by_its_delay_in_the_largest_unit() {
        let name = |seconds| Route::Retry(Stage::Writes, Duration::from_secs(seconds)).to_string();
        assert_eq!(name(90), "leadline.writes.retry.90s");
        assert_eq!(name(600), "leadline.writes.retry.10m");
        assert_eq!(name(7_200), "leadline.writes.retry.2h");
    }
}
