//! What was done and a recovered ledger has forgotten is not done again: HubSpot knows it.

use std::time::Duration;

use domain::{
    ActionId, ActionState, EventState, Reason, RecordRef, WriteCommand,
    write_command::{ActionSpec, DealStage, PropertyChange, Task, TaskPriority, TaskType, WritePolicy},
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::fixtures::{TestWriter, WriterOptions, set};

/// A writer whose calls are over soon, so that it looks soon.
async fn writer() -> TestWriter {
    let options = WriterOptions {
        call_timeout: Duration::from_millis(500),
        linger: Duration::from_millis(5),
        channels: [("sales".to_owned(), "/_simulator/channels/sales".to_owned())].into(),
        ..WriterOptions::default()
    };
    TestWriter::with(options).await
}

fn task(record: &RecordRef) -> ActionSpec {
    ActionSpec::CreateTask(Task {
        subject: "Call Ada".to_owned(),
        body: String::new(),
        priority: TaskPriority::High,
        task_type: TaskType::Call,
        owner: None,
        due: OffsetDateTime::now_utc(),
        associations: vec![record.clone()],
    })
}

fn notification() -> ActionSpec {
    ActionSpec::Notify { channel: "sales".to_owned(), text: "A new lead".to_owned() }
}

/// The same action, told with a time that differs by so many milliseconds, or of another event.
fn varied(id: ActionId, milliseconds: u128, event: u128) -> ActionId {
    ActionId(Uuid::from_u128(id.0.as_u128().wrapping_add(milliseconds << 80) ^ event))
}

/// A task for each of so many new contacts, decided and not carried out.
async fn decided_tasks(writer: &TestWriter, contacts: i64) -> Vec<WriteCommand> {
    let mut commands = Vec::new();
    for id in 1..=contacts {
        let record = writer.contact(id).await;
        commands.push(writer.decide_now(&record, &[], vec![task(&record)]).await);
    }
    commands
}

async fn carry_out(writer: &TestWriter, command: &WriteCommand) -> Vec<(ActionState, Option<Reason>)> {
    writer.until_done(command).await;
    let story = writer.story(command).await;
    story.actions.iter().map(|action| (action.state, action.reason)).collect()
}

const DONE: (ActionState, Option<Reason>) = (ActionState::Done, None);

#[tokio::test]
async fn a_task_that_the_ledger_has_forgotten_is_found_and_one_that_was_not_made_is_made() {
    let writer = writer().await;
    let commands = decided_tasks(&writer, 5).await;
    let id = |index: usize| commands[index].actions[0].id;
    writer.marked_task(71, 1, id(0)).await;
    writer.marked_task(72, 2, varied(id(1), 900, 0)).await;
    // Of a newer event, of an older one, and of a stranger.
    writer.marked_task(73, 3, varied(id(2), 60_000, 1)).await;
    writer.marked_task(74, 4, varied(id(3), 0_u128.wrapping_sub(60_000), 1)).await;
    writer.marked_task(75, 5, ActionId::new()).await;
    writer.restored().await;
    assert_eq!(carry_out(&writer, &commands[0]).await, [DONE]);
    assert_eq!(carry_out(&writer, &commands[1]).await, [DONE], "the backfill tells of it with another time");
    let story = writer.story(&commands[1]).await;
    assert_eq!((ActionId(story.actions[0].id), story.actions[0].hubspot_id), (varied(id(1), 900, 0), Some(72)));
    let overtaken = (ActionState::Skipped, Some(Reason::NewerEventWritten));
    assert_eq!(carry_out(&writer, &commands[2]).await, [overtaken]);
    assert_eq!(writer.tasks().await.len(), 5);
    assert_eq!(carry_out(&writer, &commands[3]).await, [DONE]);
    assert_eq!(carry_out(&writer, &commands[4]).await, [DONE]);
    assert_eq!(writer.tasks().await.len(), 7, "two were never made");
}

/// HubSpot's association endpoints have a limit of their own, which a look for each action would use up for minutes.
#[tokio::test]
async fn the_tasks_of_a_hundred_contacts_are_looked_for_together() {
    let options = WriterOptions {
        call_timeout: Duration::from_secs(3),
        linger: Duration::from_secs(1),
        ..WriterOptions::default()
    };
    let writer = TestWriter::with(options).await;
    let commands = decided_tasks(&writer, 100).await;
    for (task, command) in (1_000..).zip(&commands) {
        writer.marked_task(task, task - 999, command.actions[0].id).await;
    }
    writer.restored().await;
    let before = writer.calls().await.len();
    futures_util::future::join_all(commands.iter().map(|command| writer.until_done(command))).await;
    let calls = writer.calls().await.split_off(before);
    let of_associations = calls.iter().filter(|call| call.path.contains("/associations/")).count();
    assert!((1..50).contains(&of_associations), "{of_associations} calls for associations");
    assert_eq!(writer.tasks().await.len(), 100, "none is made again");
}

/// The cooldown holds for what is forgotten, also for an event that happens after the recovery.
#[tokio::test]
async fn a_cooldown_outlives_the_ledger() {
    let writer = writer().await;
    let record = writer.contact(1).await;
    let forgotten = writer.decide_now(&record, &[], vec![task(&record)]).await.actions[0].id;
    writer.execute("delete from action").await;
    writer.marked_task(71, 1, forgotten).await;
    writer.restored().await;
    // Its event is in the future of the recovery.
    let next = writer.decide(&record, 1, &[], vec![task(&record)]).await;
    writer.execute("update action set cooldown_hours = 168").await;
    let repeated = varied(forgotten, 1, 1);
    writer.give_action_id(&next, repeated).await;
    let next = WriteCommand { actions: Vec::new(), ..next };
    assert_eq!(carry_out(&writer, &next).await, [(ActionState::Skipped, Some(Reason::DoneRecently))]);
    assert_eq!(writer.tasks().await.len(), 1);
}

/// A channel cannot be asked. What was done beside the notification tells whether it was sent.
#[tokio::test]
async fn a_notification_is_sent_unless_its_task_or_its_values_were_there_before_the_recovery() {
    let writer = writer().await;
    let mut commands = Vec::new();
    for id in 1..=3 {
        let record = writer.contact(id).await;
        let actions = vec![notification(), task(&record)];
        commands.push(writer.decide_now(&record, &[set("lead_score", "85")], actions).await);
    }
    writer.marked_task(71, 1, commands[0].actions[1].id).await;
    writer.edit_as_app(2, "lead_score", "85").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    writer.restored().await;
    let maybe = (ActionState::Skipped, Some(Reason::MaybeDone));
    assert_eq!(carry_out(&writer, &commands[0]).await, [maybe, DONE]);
    assert_eq!(carry_out(&writer, &commands[1]).await, [maybe, DONE]);
    assert_eq!(carry_out(&writer, &commands[2]).await, [DONE, DONE], "nothing says that it was carried out");
    let keys: Vec<_> = writer.messages().await.into_iter().map(|message| message.key).collect();
    assert_eq!(keys, [Some(commands[2].actions[0].id.to_string())]);
}

/// Of a list's items each is an action of its own, and so is that of another event, however close.
#[tokio::test]
async fn another_item_of_a_list_or_an_event_a_moment_older_does_not_stand_for_a_task() {
    let writer = writer().await;
    let commands = decided_tasks(&writer, 3).await;
    let id = |index: usize| commands[index].actions[0].id;
    writer.marked_task(71, 1, varied(id(0), 0, 1 << 64)).await;
    writer.marked_task(72, 2, varied(id(1), 0_u128.wrapping_sub(500), 1)).await;
    writer.marked_task(73, 3, varied(id(2), 1, 1)).await;
    writer.restored().await;
    assert_eq!(carry_out(&writer, &commands[0]).await, [DONE]);
    assert_eq!(carry_out(&writer, &commands[1]).await, [DONE]);
    let overtaken = (ActionState::Skipped, Some(Reason::NewerEventWritten));
    assert_eq!(carry_out(&writer, &commands[2]).await, [overtaken], "a newer event's was made");
    assert_eq!(writer.tasks().await.len(), 5);
}

/// The dump has the first action as under way, and its task was made since.
#[tokio::test]
async fn a_task_that_was_under_way_at_the_dump_begins_the_cooldown_and_overtakes_nothing() {
    let writer = writer().await;
    let record = writer.contact(1).await;
    let under_way = writer.decide_now(&record, &[], vec![task(&record)]).await;
    let next = writer.decide_now(&record, &[], vec![task(&record)]).await;
    writer.execute("update action set cooldown_hours = 168").await;
    let first = under_way.actions[0].id;
    writer.give_action_id(&next, varied(first, 1, 1)).await;
    writer.marked_task(71, 1, first).await;
    writer.restored().await;
    assert_eq!(carry_out(&writer, &next).await, [(ActionState::Skipped, Some(Reason::DoneRecently))]);
    assert_eq!(carry_out(&writer, &under_way).await, [DONE]);
    assert_eq!(writer.tasks().await.len(), 1);

    // Without a cooldown each event has its task, in whichever order.
    let record = writer.contact(2).await;
    let newer = writer.decide_now(&record, &[], vec![task(&record)]).await;
    let older = writer.decide_now(&record, &[], vec![task(&record)]).await;
    writer.give_action_id(&older, varied(newer.actions[0].id, 0_u128.wrapping_sub(60_000), 1)).await;
    writer.restored().await;
    for command in [&newer, &older] {
        assert_eq!(carry_out(&writer, command).await, [DONE]);
    }
    assert_eq!(writer.tasks().await.len(), 3);
}

#[tokio::test]
async fn the_task_of_an_attempt_that_the_ledger_remembers_does_not_keep_the_notification() {
    let writer = writer().await;
    let record = writer.contact(1).await;
    let command = writer.decide_now(&record, &[], vec![notification(), task(&record)]).await;
    writer.execute("update action set state = 'sending', sending_since = now() where name = 'action-1'").await;
    writer.marked_task(71, 1, command.actions[1].id).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    writer.restored().await;
    assert_eq!(carry_out(&writer, &command).await, [DONE, DONE]);
    assert_eq!((writer.messages().await.len(), writer.tasks().await.len()), (1, 1));
}

/// What the fleet wrote since the last event happened is all recorded, for older events.
#[tokio::test]
async fn after_a_promotion_that_lost_nothing_no_write_counts_as_forgotten() {
    let writer = writer().await;
    let contact = writer.contact(1).await;
    let stage = [("dealname", "Renewal"), ("dealstage", "appointmentscheduled"), ("pipeline", "default")];
    let deal = writer.object("deal", 2, &stage).await;
    let move_to = |stage: &str| ActionSpec::MoveDeal(DealStage { stage: stage.to_owned(), pipeline: None });
    let (mut scores, mut moves) = (Vec::new(), Vec::new());
    for (score, stage) in [("40", "qualifiedtobuy"), ("55", "contractsent"), ("70", "991231")] {
        scores.push(writer.decide_now(&contact, &[set("lead_score", score)], vec![notification()]).await);
        moves.push(writer.decide_now(&deal, &[], vec![move_to(stage)]).await);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for command in scores[..2].iter().chain(&moves[..2]) {
        assert_eq!(carry_out(&writer, command).await, [DONE]);
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    writer.restored().await;
    for command in [&scores[2], &moves[2]] {
        assert_eq!(carry_out(&writer, command).await, [DONE]);
    }
    assert_eq!(writer.messages().await.len(), 3);
    assert_eq!(writer.value("deal", 2, "dealstage").await.as_deref(), Some("991231"));
}

#[tokio::test]
async fn a_stage_that_a_person_set_is_not_taken_for_a_write_of_the_fleet() {
    let writer = writer().await;
    let stage = [("dealname", "Renewal"), ("dealstage", "contractsent"), ("pipeline", "default")];
    let deal = writer.object("deal", 1, &stage).await;
    let there = ActionSpec::MoveDeal(DealStage { stage: "contractsent".to_owned(), pipeline: None });
    let command = writer.decide_now(&deal, &[], vec![there]).await;
    writer.restored().await;
    assert_eq!(carry_out(&writer, &command).await, [(ActionState::Skipped, Some(Reason::AlreadyThere))]);
    assert_eq!(writer.query::<i64>("select count(*) from write").await, 0);
}

#[tokio::test]
async fn a_deal_that_a_person_moved_on_since_is_not_moved_back() {
    let writer = writer().await;
    let stage = [("dealname", "Renewal"), ("dealstage", "contractsent"), ("pipeline", "default")];
    let risk = || ActionSpec::MoveDeal(DealStage { stage: "Risk".to_owned(), pipeline: None });
    let mut commands = Vec::new();
    for id in 1..=3 {
        let deal = writer.object("deal", id, &stage).await;
        commands.push(writer.decide_now(&deal, &[], vec![risk()]).await);
    }
    assert_eq!(carry_out(&writer, &commands[2]).await, [DONE]);
    let risk = writer.value("deal", 3, "dealstage").await.expect("a stage");
    writer.move_deal(1, &risk, "contractsent").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    writer.restored().await;
    for command in &commands[..2] {
        assert_eq!(carry_out(&writer, command).await, [DONE]);
    }
    assert_eq!(writer.value("deal", 1, "dealstage").await.as_deref(), Some("contractsent"));
    assert_eq!(writer.value("deal", 2, "dealstage").await, Some(risk));
}

/// The ledger of the backup still wants to write what a newer event, which it has forgotten, has replaced.
#[tokio::test]
async fn a_value_that_was_decided_before_the_backup_does_not_replace_a_forgotten_newer_one() {
    let writer = writer().await;
    let always = |value: &str| PropertyChange { policy: WritePolicy::Always, ..set("lead_score", value) };
    let (first, second) = (writer.contact(1).await, writer.contact(2).await);
    let overtaken = writer.decide_now(&first, &[always("10")], Vec::new()).await;
    let written = writer.decide_now(&second, &[always("10")], Vec::new()).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    writer.edit_as_app(1, "lead_score", "90").await;
    writer.edit_as_app(2, "lead_score", "10").await;
    writer.restored().await;
    writer.until_done(&overtaken).await;
    writer.ended_as(&overtaken, EventState::Skipped, Some(Reason::NewerEventWritten)).await;
    writer.until_done(&written).await;
    writer.ended_as(&written, EventState::Written, None).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("90"));
    // What is decided now is about what the record holds now.
    let anew = writer.decide_now(&first, &[always("20")], Vec::new()).await;
    writer.until_done(&anew).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("20"));
}

#[tokio::test]
async fn the_verifier_takes_no_forgotten_value_for_a_late_call() {
    let writer = writer().await;
    let record = writer.contact(1).await;
    let command = writer.decide_now(&record, &[set("lead_score", "10")], Vec::new()).await;
    writer.until_done(&command).await;
    writer.edit_as_app(1, "lead_score", "90").await;
    writer.restored().await;
    writer.ledger.mark_for_verification(&[record]).await.expect("marked");
    writer.verifier.pass().await.expect("verified");
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("90"));
    assert_eq!(writer.query::<i64>("select count(*) from record_lease where verify").await, 0);
}
