//! An event that the ledger refuses fails alone; one whose ledger is absent waits.

use broker::{Disposition, Handler};
use domain::{Event, Reason};
use futures_util::future::join_all;

use crate::fixtures::{delivery, event, handler};

/// An event of a time that Postgres does not have. No webhook makes one, but a message can hold it.
fn of_the_stone_age(event: &Event) -> Event {
    Event { occurred_at: time::Date::MIN.midnight().assume_utc(), ..event.clone() }
}

#[tokio::test]
async fn an_event_that_the_ledger_refuses_is_parked_and_its_neighbours_are_claimed() {
    let (handler, ledger) = handler().await;
    let events: Vec<_> = (0..12).map(event).collect();
    // At once, so that they are claimed in one batch.
    let handled = events.iter().enumerate().map(|(index, event)| {
        let event = if index == 5 { of_the_stone_age(event) } else { event.clone() };
        let message = maintenance::event_message(&event).expect("a message");
        let handler = &handler;
        async move { handler.handle(delivery(&message, false)).await }
    });
    let dispositions = join_all(handled).await;
    for (index, disposition) in dispositions.iter().enumerate() {
        let is_parked = matches!(disposition, Disposition::Park { reason: Reason::LedgerRefused, .. });
        assert_eq!(is_parked, index == 5, "{index}: {disposition:?}");
        let story = ledger.event_story(events[index].key.as_str()).await.expect("asked");
        assert_eq!(story.is_some(), index != 5, "{index}: the ledger has what it did not refuse");
    }
    let Disposition::Park { detail, .. } = &dispositions[5] else { panic!("it is parked") };
    assert!(detail.contains("22008"), "the operator is told what Postgres said: {detail}");
}
