//! What an undo puts back, and what has happened meanwhile.

use broker::Disposition;
use domain::{
    ActionId, CommandState, EventState, ObjectType, Reason, RecordRef, UndoId, WriteCommand, WriteCommandId,
    write_command::{Action, ActionSpec, DealStage, ExpectedValue, PropertyChange, WritePolicy},
};
use ledger::{UndoCommand, UndoRequest};
use time::Duration;

use crate::fixtures::{TestWriter, set, task};

fn request() -> UndoRequest {
    let (asked_by, selection) = ("sales-ops".to_owned(), "one record".to_owned());
    UndoRequest { id: UndoId::new(), asked_by, why: None, selection }
}

/// The command that takes `of` back: to an empty value where it wrote a property, and with these actions.
fn undo(of: &WriteCommand, actions: Vec<ActionSpec>) -> UndoCommand {
    let back = |change: &PropertyChange| PropertyChange {
        property: change.property.clone(),
        value: String::new(),
        policy: WritePolicy::Always,
        expected: Some(ExpectedValue { value: Some(change.value.clone()) }),
    };
    let action = |spec| Action { id: ActionId::new(), name: "undo".to_owned(), cooldown_hours: 0, spec };
    UndoCommand {
        id: WriteCommandId::new(),
        of: of.id,
        occurred_at: of.occurred_at + Duration::microseconds(1),
        record: of.record.clone(),
        properties: of.properties.iter().map(back).collect(),
        actions: actions.into_iter().map(action).collect(),
        undone_writes: of.properties.iter().map(|change| (of.id, change.property.clone())).collect(),
        undone_actions: Vec::new(),
    }
}

/// Carries an undo out that is recorded.
async fn carry_out(writer: &TestWriter, undo: &UndoCommand, of: &WriteCommand) -> CommandState {
    let command = WriteCommand { id: undo.id, ..of.clone() };
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    writer.ledger.command_state(undo.id).await.expect("asked").expect("known")
}

#[tokio::test]
async fn a_value_goes_back_once_and_the_event_keeps_its_outcome() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let command = writer.decide(&record, 1, &[set("lead_score", "85")], vec![]).await;
    writer.until_done(&command).await;
    let (first, second) = (undo(&command, vec![]), undo(&command, vec![]));
    let recorded = writer.ledger.record_undo(&request(), std::slice::from_ref(&first)).await.expect("recorded");
    assert_eq!(recorded, [first.id]);
    let again = writer.ledger.record_undo(&request(), &[second]).await.expect("asked");
    assert!(again.is_empty(), "each write is undone once");
    assert_eq!(carry_out(&writer, &first, &command).await, CommandState::Written);
    assert_eq!(writer.property(1, "lead_score").await.filter(|value| !value.is_empty()), None);
    let story = writer.ended_as(&command, EventState::Written, None).await;
    assert_eq!(story.writes.len(), 1, "{:?}", story.writes);
}

#[tokio::test]
async fn what_a_person_or_a_newer_event_wrote_after_the_undo_was_recorded_stays() {
    let writer = TestWriter::start().await;
    let (by_person, by_event) = (writer.contact(1).await, writer.contact(2).await);
    for (record, expected) in [(&by_person, CommandState::Skipped), (&by_event, CommandState::Superseded)] {
        let command = writer.decide(record, 1, &[set("lead_score", "85")], vec![]).await;
        writer.until_done(&command).await;
        let undo = undo(&command, vec![]);
        writer.ledger.record_undo(&request(), std::slice::from_ref(&undo)).await.expect("recorded");
        let id = record.object_id.0;
        if expected == CommandState::Skipped {
            writer.edit(id, "lead_score", "40", "CRM_UI").await;
        } else {
            let newer = writer.decide(record, 2, &[set("lead_score", "40")], vec![]).await;
            writer.until_done(&newer).await;
        }
        assert_eq!(carry_out(&writer, &undo, &command).await, expected);
        assert_eq!(writer.property(id, "lead_score").await.as_deref(), Some("40"));
    }
    let left = writer.query::<i64>("select count(*) from skipped_write where reason = 'value_changed'").await;
    assert_eq!(left, 1);
}

/// The older event decided something before the undo, and comes to the writer after it.
#[tokio::test]
async fn an_older_event_that_comes_late_does_not_write_over_an_undo() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let late = writer.decide(&record, 1, &[set("lead_score", "10")], vec![]).await;
    let command = writer.decide(&record, 2, &[set("lead_score", "85")], vec![]).await;
    writer.until_done(&command).await;
    let undo = undo(&command, vec![]);
    writer.ledger.record_undo(&request(), std::slice::from_ref(&undo)).await.expect("recorded");
    carry_out(&writer, &undo, &command).await;
    assert_eq!(writer.handle(&late).await, Disposition::Done);
    writer.ended_as(&late, EventState::Superseded, Some(Reason::NewerEventWritten)).await;
    assert_eq!(writer.property(1, "lead_score").await.filter(|value| !value.is_empty()), None);
}

#[tokio::test]
async fn a_task_is_deleted_also_where_its_values_are_overtaken_and_one_that_is_gone_counts_as_deleted() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let command = writer.decide(&record, 1, &[set("lead_score", "85")], vec![task(&record)]).await;
    writer.until_done(&command).await;
    let newer = writer.decide(&record, 2, &[set("lead_score", "40")], vec![]).await;
    writer.until_done(&newer).await;
    let [made] = &writer.tasks().await[..] else { panic!("one task") };
    let engagement =
        RecordRef { object_type: ObjectType::Task, object_id: domain::ObjectId(made.id), ..record.clone() };
    let delete = || vec![ActionSpec::DeleteEngagement { engagement: engagement.clone() }];
    let first = undo(&command, delete());
    writer.ledger.record_undo(&request(), std::slice::from_ref(&first)).await.expect("recorded");
    carry_out(&writer, &first, &command).await;
    assert!(writer.tasks().await.is_empty());
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("40"));
    let gone = UndoCommand { undone_writes: Vec::new(), properties: Vec::new(), ..undo(&command, delete()) };
    writer.ledger.record_undo(&request(), std::slice::from_ref(&gone)).await.expect("recorded");
    carry_out(&writer, &gone, &command).await;
    assert_eq!(
        writer.query::<i64>("select count(*) from action where kind = 'delete_engagement' and state = 'done'").await,
        2
    );
}

#[tokio::test]
async fn a_deal_moves_back_only_from_the_stage_to_which_it_was_moved() {
    let writer = TestWriter::start().await;
    for (id, moved_on, state, stage) in [(20, false, "done", "contractsent"), (21, true, "skipped", "closedlost")] {
        let deal = writer.object("deal", id, &[("dealstage", "contractsent"), ("pipeline", "default")]).await;
        let to_risk = ActionSpec::MoveDeal(DealStage { stage: "Risk".to_owned(), pipeline: None });
        let command = writer.decide(&deal, 1, &[], vec![to_risk]).await;
        writer.until_done(&command).await;
        let from = writer.value("deal", id, "dealstage").await.expect("set");
        if moved_on {
            writer.move_deal(id, "contractsent", "closedlost").await;
        }
        let back = ActionSpec::MoveDealBack { from, to: "contractsent".to_owned() };
        let undo = undo(&command, vec![back]);
        writer.ledger.record_undo(&request(), std::slice::from_ref(&undo)).await.expect("recorded");
        carry_out(&writer, &undo, &command).await;
        assert_eq!(writer.value("deal", id, "dealstage").await.as_deref(), Some(stage));
        let states: i64 = match state {
            "done" => {
                writer.query("select count(*) from action where kind = 'move_deal_back' and state = 'done'").await
            }
            _ => {
                writer
                    .query("select count(*) from action where kind = 'move_deal_back' and reason = 'value_changed'")
                    .await
            }
        };
        assert_eq!(states, 1);
    }
}
