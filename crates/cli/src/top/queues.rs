//! How fast queues grow and shrink: the messages in them, compared with a moment before.

use std::time::{Duration, Instant};

use broker::Route;

use crate::print::{Cell, Table, column};

/// The messages in every queue at one moment.
#[derive(Debug, Clone)]
pub struct Depths {
    at: Instant,
    queues: Vec<(Route, u32)>,
}

/// How many messages a queue holds, and how many more it got within a minute, at the pace since the look before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePace {
    route: Route,
    messages: u32,
    /// Negative when it gets shorter; `None` without a look before.
    change_a_minute: Option<i64>,
}

impl Depths {
    /// What the queues hold now.
    pub fn now(queues: Vec<(Route, u32)>) -> Self {
        Self { at: Instant::now(), queues }
    }

    /// Every queue, compared with what was seen before.
    pub fn since(&self, before: Option<&Self>) -> Vec<QueuePace> {
        let pace = |&(route, messages): &(Route, u32)| {
            let change_a_minute = before.and_then(|before| {
                let (_, then) = before.queues.iter().find(|(known, _)| *known == route)?;
                a_minute(i64::from(messages) - i64::from(*then), self.at.duration_since(before.at))
            });
            QueuePace { route, messages, change_a_minute }
        };
        self.queues.iter().map(pace).collect()
    }
}

fn a_minute(change: i64, within: Duration) -> Option<i64> {
    let milliseconds = i64::try_from(within.as_millis()).ok().filter(|milliseconds| *milliseconds > 0)?;
    Some(change.saturating_mul(60_000) / milliseconds)
}

/// The queues that hold messages, or held some a moment before.
pub fn table(queues: &[QueuePace]) -> Table {
    let mut table = Table::new([
        column("queue", "queue"),
        column("messages", "messages"),
        column("change a minute", "change_a_minute"),
    ]);
    let has_news = |queue: &&QueuePace| queue.messages > 0 || queue.change_a_minute.is_some_and(|change| change != 0);
    for queue in queues.iter().filter(has_news) {
        table.add([queue.route.to_string().into(), queue.messages.into(), Cell::from(queue.change_a_minute)]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use broker::{Route, Stage};

    use super::{Depths, QueuePace, table};

    #[test]
    fn a_queue_has_a_pace_once_it_was_looked_at_twice() {
        let (events, writes) = (Route::Queue(Stage::Events), Route::Queue(Stage::Writes));
        let at = Instant::now();
        let before = Depths { at, queues: vec![(events, 100), (writes, 0)] };
        let now = Depths { at: at + Duration::from_secs(2), queues: vec![(events, 90), (writes, 0)] };
        let text = |pace: Vec<QueuePace>| table(&pace).whole_text();
        assert_eq!(
            text(now.since(Some(&before))),
            "QUEUE            MESSAGES  CHANGE A MINUTE\nleadline.events        90             -300\n"
        );
        assert_eq!(text(now.since(None)).lines().nth(1), Some("leadline.events        90"));
    }
}
