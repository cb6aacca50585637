//! Actions are carried out once.

use std::time::Duration;

use broker::Disposition;
use domain::{
    ActionId, ActionState, EventState, Reason, RecordRef,
    write_command::{ActionSpec, DealStage, Task, TaskPriority, TaskType, marker},
};
use futures_util::future::join_all;
use simulator::{Fault, FaultKind, Target, admin::Quirks};
use testbed::Redirection;
use time::OffsetDateTime;

use crate::fixtures::{MAX_ATTEMPTS, TestWriter, WriterOptions, set};

pub fn task(record: &RecordRef, owner: Option<&str>) -> ActionSpec {
    ActionSpec::CreateTask(Task {
        subject: "Call Ada".to_owned(),
        body: "She has a budget.".to_owned(),
        priority: TaskPriority::High,
        task_type: TaskType::Call,
        owner: owner.map(ToOwned::to_owned),
        due: OffsetDateTime::now_utc(),
        associations: vec![record.clone()],
    })
}

/// The answer to the creation is lost, late, or says nothing.
#[tokio::test]
async fn a_task_whose_answer_was_lost_is_looked_for_before_it_is_made_again() {
    let writer = TestWriter::with(WriterOptions {
        call_timeout: Duration::from_millis(300),
        linger: Duration::from_millis(5),
        ..WriterOptions::default()
    })
    .await;
    for (id, kind) in [
        (1, FaultKind::LostAnswer),
        (2, FaultKind::LateAnswer(1_000)),
        (3, FaultKind::Status { code: 503, retry_after: None }),
        (4, FaultKind::Status { code: 429, retry_after: Some(1) }),
    ] {
        let record = writer.contact(id).await;
        let command = writer.decide(&record, 1, &[], vec![task(&record, None)]).await;
        let fault = Fault::new(Target::Hubspot, kind).on_path("/objects/tasks").containing("hs_task_subject").times(1);
        writer.fault(&fault).await;
        writer.until_done(&command).await;
        let story = writer.ended_as(&command, EventState::Written, None).await;
        assert!(matches!(&story.actions[..], [action] if action.state == ActionState::Done), "{:?}", story.actions);
        assert!(story.actions[0].hubspot_id.is_some());
        assert_eq!(writer.tasks().await.len(), usize::try_from(id).expect("small"), "after round {id}");
    }
    assert_eq!(writer.query::<i64>("select count(*) from action where state <> 'done'").await, 0);
}

/// A model may quote what a stranger wrote, and strangers may write the line by which the fleet finds its own tasks.
#[tokio::test]
async fn a_task_that_quotes_a_marker_is_made_once_and_found_again() {
    let options = WriterOptions { linger: Duration::from_millis(5), ..WriterOptions::default() };
    let writer = TestWriter::with(options).await;
    let record = writer.contact(1).await;
    let ActionSpec::CreateTask(mut quoting) = task(&record, None) else { panic!("a task") };
    quoting.body = format!("She wrote: {}", marker(ActionId::new()));
    let command = writer.decide(&record, 1, &[], vec![ActionSpec::CreateTask(quoting)]).await;
    let fault = Fault::new(Target::Hubspot, FaultKind::LostAnswer)
        .on_path("/objects/tasks")
        .containing("hs_task_subject")
        .times(1);
    writer.fault(&fault).await;
    writer.until_done(&command).await;
    let story = writer.ended_as(&command, EventState::Written, None).await;
    assert!(matches!(&story.actions[..], [action] if action.state == ActionState::Done), "{:?}", story.actions);
    assert_eq!(writer.tasks().await.len(), 1);
}

#[tokio::test]
async fn a_task_is_created_without_an_owner_that_hubspot_does_not_know() {
    for names_in_message_only in [false, true] {
        let writer = TestWriter::start().await;
        writer.quirks(&Quirks { names_in_message_only, ..Quirks::default() }).await;
        let record = writer.contact(1).await;
        let command = writer.decide(&record, 1, &[], vec![task(&record, Some("4711"))]).await;
        assert_eq!(writer.handle(&command).await, Disposition::Done);
        let tasks = writer.tasks().await;
        assert!(matches!(&tasks[..], [task] if !task.properties.contains_key("hubspot_owner_id")), "{tasks:?}");
    }
}

/// HubSpot refuses a whole batch of new tasks because one of them is for a record that is gone.
#[tokio::test]
async fn a_task_for_a_record_that_is_gone_costs_no_other_command_its_task() {
    let linger = Duration::from_millis(500);
    let writer = TestWriter::with(WriterOptions { linger, ..WriterOptions::default() }).await;
    let mut commands = Vec::new();
    for id in 1..=8 {
        let record = writer.contact(id).await;
        commands.push(writer.decide(&record, 1, &[], vec![task(&record, None)]).await);
    }
    let not_found = FaultKind::Status { code: 404, retry_after: None };
    let fault = Fault::new(Target::Hubspot, not_found).on_path("/tasks/batch/create").containing(r#""id":"7""#);
    writer.fault(&fault).await;
    let dispositions = join_all(commands.iter().map(|command| writer.handle(command))).await;
    for (command, disposition) in commands.iter().zip(dispositions) {
        if command.record.object_id.0 == 7 {
            let is_retried = matches!(disposition, Disposition::Retry { reason: Reason::HubSpotRefused, .. });
            assert!(is_retried, "{disposition:?}");
        } else {
            assert_eq!(disposition, Disposition::Done);
            writer.ended_as(command, EventState::Written, None).await;
        }
    }
    assert_eq!(writer.tasks().await.len(), 7);
    // The next attempt sees whose record it is.
    writer.delete(7).await;
    assert_eq!(writer.handle(&commands[6]).await, Disposition::Done);
    writer.ended_as(&commands[6], EventState::Dropped, Some(Reason::RecordGone)).await;
}

/// Something else of the command counts: a value that a person set and that stays, or the task itself.
#[tokio::test]
async fn a_value_that_hubspot_refuses_does_not_cost_the_tasks() {
    let writer = TestWriter::start().await;
    let quirks = Quirks { maxima: [("ai_budget_estimate".to_owned(), 10_000_000)].into(), ..Quirks::default() };
    writer.quirks(&quirks).await;
    let refused = set("ai_budget_estimate", "900000000");
    let cases = [
        (1, vec![set("lead_score", "85"), refused.clone()], true, Reason::KeptHumanValue),
        (2, vec![refused.clone()], true, Reason::ValueRefused),
        (3, vec![set("lead_score", "85"), refused], false, Reason::KeptHumanValue),
    ];
    for (id, changes, with_task, reason) in cases {
        let record = writer.contact(id).await;
        writer.edit(id, "lead_score", "12", "CRM_UI").await;
        let actions = if with_task { vec![task(&record, None)] } else { Vec::new() };
        let command = writer.decide(&record, 1, &changes, actions).await;
        assert_eq!(writer.handle(&command).await, Disposition::Done, "contact {id}");
        let story = writer.ended_as(&command, EventState::Skipped, Some(reason)).await;
        let refused = story.skipped_writes.iter().filter(|skipped| skipped.reason == Reason::ValueRefused);
        assert_eq!(refused.count(), 1, "{:?}", story.skipped_writes);
        let done = story.actions.iter().filter(|action| action.state == ActionState::Done).count();
        assert_eq!(done, usize::from(with_task));
    }
    assert_eq!(writer.tasks().await.len(), 2);
}

/// A deal in another pipeline, which has no stage `Risk`: it stays, and so does a closed one in any pipeline.
#[tokio::test]
async fn a_deal_is_moved_within_its_pipeline_only_and_never_when_it_is_closed() {
    let writer = TestWriter::start().await;
    let move_to = |stage: &str, pipeline: Option<&str>| {
        let (stage, pipeline) = (stage.to_owned(), pipeline.map(ToOwned::to_owned));
        vec![ActionSpec::MoveDeal(DealStage { stage, pipeline })]
    };
    let cases = [
        (20, ("default", "contractsent"), move_to("risk", None), None, "991231"),
        (21, ("default", "closedwon"), move_to("Risk", None), Some(Reason::DealClosed), "closedwon"),
        (22, ("renewals", "880003"), move_to("Risk", None), Some(Reason::DealClosed), "880003"),
        (23, ("renewals", "880001"), move_to("Risk", None), Some(Reason::NoSuchStage), "880001"),
        (24, ("default", "contractsent"), move_to("Risk", Some("Sales pipeline")), None, "991231"),
        (25, ("default", "contractsent"), move_to("Risk", Some("Renewals")), Some(Reason::NoSuchStage), "contractsent"),
    ];
    for (id, (pipeline, stage), actions, reason, after) in cases {
        let deal = writer.object("deal", id, &[("pipeline", pipeline), ("dealstage", stage)]).await;
        let command = writer.decide(&deal, 1, &[], actions).await;
        assert_eq!(writer.handle(&command).await, Disposition::Done, "deal {id}");
        let story = writer.ended_as(&command, EventState::Written, None).await;
        assert_eq!(story.actions[0].reason, reason, "deal {id}");
        assert_eq!(writer.value("deal", id, "dealstage").await.as_deref(), Some(after), "deal {id}");
    }
}

#[tokio::test]
async fn a_channel_that_does_not_answer_parks_its_command_and_holds_nothing_else_up() {
    let channels = [("sales".to_owned(), "http://127.0.0.1:9/secret".to_owned())].into();
    let writer = TestWriter::with(WriterOptions { channels, ..WriterOptions::default() }).await;
    let record = writer.contact(1).await;
    let notify = ActionSpec::Notify { channel: "sales".to_owned(), text: "A budget!".to_owned() };
    let changes = [set("lead_score", "85")];
    let command = writer.decide(&record, 1, &changes, vec![notify, task(&record, None)]).await;
    let first = writer.handle(&command).await;
    assert!(matches!(first, Disposition::Retry { reason: Reason::ChannelUnreachable, .. }), "{first:?}");
    // The channel is tried again when its earlier call must be over. The last attempt parks the command.
    writer
        .execute("update action set sending_since = sending_since - interval '1 minute' where state = 'sending'")
        .await;
    let Disposition::Park { reason: Reason::ChannelUnreachable, detail } =
        writer.handle_after(&command, MAX_ATTEMPTS).await
    else {
        panic!("it is parked")
    };
    assert!(!detail.contains("secret"), "the URL is a secret: {detail}");
    let story = writer.ended_as(&command, EventState::Parked, Some(Reason::ChannelUnreachable)).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("85"), "the properties are written");
    assert_eq!(writer.tasks().await.len(), 1, "the task is created");
    assert_eq!(
        story.actions.iter().filter(|action| action.state == ActionState::Done).count(),
        1,
        "{:?}",
        story.actions
    );
}

#[tokio::test]
async fn a_channel_without_a_url_is_skipped_with_its_reason() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let notify = ActionSpec::Notify { channel: "sales".to_owned(), text: "A budget!".to_owned() };
    let command = writer.decide(&record, 1, &[], vec![notify]).await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    let story = writer.story(&command).await;
    let states: Vec<_> = story.actions.iter().map(|action| (action.state, action.reason)).collect();
    assert_eq!(states, [(ActionState::Skipped, Some(Reason::ChannelNotConfigured))]);
}

#[tokio::test]
async fn no_action_is_begun_for_a_superseded_command() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let newer = writer.decide(&record, 2, &[set("lead_score", "85")], Vec::new()).await;
    assert_eq!(writer.handle(&newer).await, Disposition::Done);
    let older = writer.decide(&record, 1, &[set("lead_score", "25")], vec![task(&record, None)]).await;
    assert_eq!(writer.handle(&older).await, Disposition::Done);
    let story = writer.ended_as(&older, EventState::Superseded, Some(Reason::NewerEventWritten)).await;
    assert!(matches!(&story.actions[..], [action] if action.state == ActionState::Skipped), "{:?}", story.actions);
    assert!(writer.tasks().await.is_empty());
}

/// Its URL is a secret, and so may be the text.
#[tokio::test]
async fn a_channel_that_redirects_is_refused_and_nobody_else_hears_of_it() {
    let servers = Redirection::start(307).await.expect("servers");
    let channels = [("sales".to_owned(), format!("{}/services/secret", servers.url))].into();
    let writer = TestWriter::with(WriterOptions { channels, ..WriterOptions::default() }).await;
    let record = writer.contact(1).await;
    let notify = ActionSpec::Notify { channel: "sales".to_owned(), text: "A budget!".to_owned() };
    let command = writer.decide(&record, 1, &[], vec![notify]).await;
    let disposition = writer.handle(&command).await;
    assert!(matches!(disposition, Disposition::Park { reason: Reason::ChannelRefused, .. }), "{disposition:?}");
    assert_eq!((servers.asked(), servers.heard()), (1, 0));
}
