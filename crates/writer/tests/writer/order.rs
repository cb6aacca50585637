//! An older event never overwrites what a newer one wrote.

use broker::Disposition;
use domain::{EventState, Reason};
use futures_util::future::join_all;
use simulator::{Fault, FaultKind, Target};

use crate::fixtures::{TestWriter, set};

/// The older event's write fails first, so that the newer one's overtakes it.
#[tokio::test]
async fn an_older_write_that_is_held_up_does_not_land_on_a_newer_one() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let older = writer.decide(&record, 1, &[set("lead_score", "25")], Vec::new()).await;
    // Longer than the client waits within the process, so that the message goes to a retry queue.
    let unavailable = FaultKind::Status { code: 503, retry_after: Some(8) };
    writer.fault(&Fault::new(Target::Hubspot, unavailable).on_path("/contacts/batch/update").times(1)).await;
    let disposition = writer.handle(&older).await;
    assert!(matches!(disposition, Disposition::Retry { .. } | Disposition::Defer { .. }), "{disposition:?}");
    assert_eq!(writer.property(1, "lead_score").await, None);

    let newer = writer.decide(&record, 2, &[set("lead_score", "85")], Vec::new()).await;
    assert_eq!(writer.handle(&newer).await, Disposition::Done);
    assert_eq!(writer.handle_after(&older, 1).await, Disposition::Done);
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("85"));
    writer.ended_as(&older, EventState::Superseded, Some(Reason::NewerEventWritten)).await;
}

#[tokio::test]
async fn of_an_older_command_only_the_properties_without_a_newer_value_are_written() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let newer = writer.decide(&record, 2, &[set("lead_score", "85")], Vec::new()).await;
    assert_eq!(writer.handle(&newer).await, Disposition::Done);
    let changes = [set("lead_score", "25"), set("ai_budget_estimate", "50000")];
    let older = writer.decide(&record, 1, &changes, Vec::new()).await;
    assert_eq!(writer.handle(&older).await, Disposition::Done);
    let story = writer.ended_as(&older, EventState::Written, None).await;
    assert!(matches!(&story.writes[..], [write] if write.property == "ai_budget_estimate"), "{:?}", story.writes);
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("85"));
    assert_eq!(writer.property(1, "ai_budget_estimate").await.as_deref(), Some("50000"));
}

/// Commands of one record, in any order and each twice, while calls are late: in the end the record has the newest value.
#[tokio::test]
async fn shuffled_and_repeated_commands_leave_the_newest_value() {
    const COMMANDS: i64 = 24;
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let late = Fault { percent: Some(35), ..Fault::new(Target::Hubspot, FaultKind::Latency(100)) };
    writer.fault(&late.on_path("/objects/contacts")).await;
    let mut commands = Vec::new();
    for n in 1..=COMMANDS {
        let second = n * 7 % COMMANDS;
        commands.push(writer.decide(&record, second, &[set("lead_score", &second.to_string())], Vec::new()).await);
    }
    join_all(commands.iter().chain(commands.iter().rev()).map(|command| writer.until_done(command))).await;
    for command in &commands {
        let story = writer.story(command).await;
        assert!([EventState::Written, EventState::Superseded].contains(&story.state), "{story:#?}");
    }
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("23"));
}
