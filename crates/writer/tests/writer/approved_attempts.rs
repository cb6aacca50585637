//! What an attempt of an approved command did before its writer died is known: it is neither asked about again nor done twice, and can
//! be undone. What is not going to be written replaces nothing.

use broker::Disposition;
use domain::{
    ActionState, EventState, Reason, WriteCommand,
    review::WriteMode,
    write_command::{ActionSpec, DealStage, PropertyChange, WritePolicy},
};
use ledger::Verdict;

use crate::{
    fixtures::{TestWriter, set, task},
    review::under,
};

const WRITTEN: &str =
    "select string_agg(concat_ws(' ', property, coalesce(before, '-'), after), ', ' order by property)
                       from write";

/// The writer has begun an action, and died a minute ago.
const BEGUN: &str = "update action set state = 'sending', sending_since = now() - interval '1 minute'";

impl TestWriter {
    /// A command that was proposed and approved.
    async fn approved(&self, record: &domain::RecordRef, asked: (&[PropertyChange], Vec<ActionSpec>)) -> WriteCommand {
        let command = self.decide_under(under(WriteMode::Review), record, 2, asked).await;
        self.proposed(&command).await;
        self.approve(&command).await;
        command
    }
}

#[tokio::test]
async fn what_a_person_changed_after_an_attempt_wrote_it_is_neither_asked_about_nor_written_again() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    writer.edit(1, "lead_score", "7", "AUTOMATION_PLATFORM").await;
    let changes = [set("lead_score", "85"), set("ai_lead_summary", "A buyer.")];
    let command = writer.approved(&record, (&changes, vec![])).await;
    // HubSpot has both values, the ledger does not know it, and a person comes in between.
    writer.edit_as_app(1, "lead_score", "85").await;
    writer.edit_as_app(1, "ai_lead_summary", "A buyer.").await;
    writer.edit(1, "lead_score", "12", "CRM_UI").await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    writer.ended_as(&command, EventState::Written, None).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("12"), "the person's value stays");
    assert_eq!(writer.query::<String>(WRITTEN).await, "ai_lead_summary - A buyer., lead_score 7 85");
    assert!(writer.contact_writes().await.is_empty());
}

#[tokio::test]
async fn of_a_part_that_an_attempt_has_written_and_done_only_the_rest_is_proposed_again() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let changes = [set("lead_score", "85"), set("ai_lead_summary", "A buyer.")];
    let command = writer.approved(&record, (&changes, vec![task(&record)])).await;
    writer.edit_as_app(1, "lead_score", "85").await;
    writer.execute(BEGUN).await;
    writer.marked_task(900, 1, command.actions[0].id).await;
    writer.edit(1, "ai_lead_summary", "A person's words.", "CRM_UI").await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    let story = writer.ended_as(&command, EventState::Proposed, Some(Reason::ValueChanged)).await;
    assert_eq!(writer.query::<String>(WRITTEN).await, "lead_score - 85", "it can be undone");
    assert_eq!((story.actions[0].state, story.actions[0].hubspot_id), (ActionState::Done, Some(900)));
    let proposal = writer.proposals().await.remove(0);
    assert_eq!(proposal.properties.iter().map(|asked| &*asked.property).collect::<Vec<_>>(), ["ai_lead_summary"]);
    assert!(proposal.actions.is_empty(), "the task is there: {proposal:#?}");

    let reject = Verdict::Reject("she knows it".to_owned());
    assert!(writer.ledger.decide_proposal(command.id, proposal.attempt, &reject, "a reviewer").await.expect("decided"));
    writer.ended_as(&command, EventState::Written, None).await;
    assert_eq!(writer.property(1, "ai_lead_summary").await.as_deref(), Some("A person's words."));
    assert_eq!(writer.tasks().await.len(), 1);
}

#[tokio::test]
async fn a_message_that_may_have_been_sent_is_not_proposed_again() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let told = ActionSpec::Notify { channel: "sales".to_owned(), text: "A buyer".to_owned() };
    let command = writer.approved(&record, (&[set("ai_lead_summary", "A buyer.")], vec![told])).await;
    writer.execute(BEGUN).await;
    writer.edit(1, "ai_lead_summary", "A person's words.", "CRM_UI").await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    let story = writer.ended_as(&command, EventState::Proposed, Some(Reason::ValueChanged)).await;
    assert_eq!(story.actions[0].reason, Some(Reason::MaybeDone));
    assert!(writer.proposals().await.remove(0).actions.is_empty());
}

#[tokio::test]
async fn a_value_that_the_verifier_has_put_back_after_an_attempt_is_written_again() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let before = writer.decide(&record, 1, &[set("lead_score", "50")], vec![]).await;
    assert_eq!(writer.handle(&before).await, Disposition::Done);
    let command = writer.approved(&record, (&[set("lead_score", "70")], vec![])).await;
    writer.edit_as_app(1, "lead_score", "70").await;
    writer.ledger.mark_for_verification(&[record]).await.expect("marked");
    writer.verifier.pass().await.expect("verified");
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("50"), "the ledger knows no newer value");
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    writer.ended_as(&command, EventState::Written, None).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("70"));
}

#[tokio::test]
async fn what_another_command_has_written_is_not_taken_for_an_attempt() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let asked = (&[set("lead_score", "70")][..], vec![]);
    let command = writer.decide_under(under(WriteMode::Review), &record, 3, asked).await;
    writer.proposed(&command).await;
    let other = writer.decide(&record, 2, &[set("lead_score", "70")], vec![]).await;
    assert_eq!(writer.handle(&other).await, Disposition::Done);
    writer.edit(1, "lead_score", "60", "CRM_UI").await;
    writer.approve(&command).await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    writer.ended_as(&command, EventState::Proposed, Some(Reason::ValueChanged)).await;
    assert_eq!(writer.query::<i64>("select count(*) from write").await, 1, "that of the other command");
}

fn to_risk() -> Vec<ActionSpec> {
    vec![ActionSpec::MoveDeal(DealStage { stage: "Risk".to_owned(), pipeline: None })]
}

#[tokio::test]
async fn a_deal_that_an_attempt_moved_and_a_person_moved_on_stays_there_and_the_move_is_recorded() {
    let writer = TestWriter::start().await;
    let deal = writer.object("deal", 20, &[("pipeline", "default"), ("dealstage", "contractsent")]).await;
    let command = writer.approved(&deal, (&[], to_risk())).await;
    writer.execute(BEGUN).await;
    writer.move_deal(20, "991231", "decisionmakerboughtin").await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    writer.ended_as(&command, EventState::Written, None).await;
    assert_eq!(writer.value("deal", 20, "dealstage").await.as_deref(), Some("decisionmakerboughtin"));
    assert_eq!(writer.query::<String>(WRITTEN).await, "dealstage contractsent 991231");
}

#[tokio::test]
async fn a_move_that_another_app_made_is_not_taken_for_that_of_an_attempt() {
    let writer = TestWriter::start().await;
    for (id, stages) in [(20, &["991231", "decisionmakerboughtin"][..]), (21, &["991231"])] {
        let deal = writer.object("deal", id, &[("pipeline", "default"), ("dealstage", "contractsent")]).await;
        let command = writer.approved(&deal, (&[], to_risk())).await;
        writer.execute(BEGUN).await;
        for stage in stages {
            writer.move_deal_as(id, stage, "5").await;
        }
        assert_eq!(writer.handle(&command).await, Disposition::Done);
        assert_eq!(writer.query::<i64>("select count(*) from write").await, 0, "{stages:?}");
        assert_eq!(writer.value("deal", id, "dealstage").await.as_deref(), stages.last().copied());
    }
}

#[tokio::test]
async fn a_move_that_another_command_made_is_not_taken_for_that_of_an_attempt() {
    let writer = TestWriter::start().await;
    let deal = writer.object("deal", 20, &[("pipeline", "default"), ("dealstage", "contractsent")]).await;
    let command = writer.decide_under(under(WriteMode::Review), &deal, 3, (&[], to_risk())).await;
    writer.proposed(&command).await;
    let other = writer.decide(&deal, 2, &[], to_risk()).await;
    assert_eq!(writer.handle(&other).await, Disposition::Done);
    writer.approve(&command).await;
    writer.execute("update action set state = 'sending', sending_since = now() - interval '1 minute' where finished_at is null").await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    assert_eq!(writer.query::<i64>("select count(*) from write").await, 1, "that of the other command");
}

#[tokio::test]
async fn a_command_that_asks_again_replaces_no_value_of_an_older_one_in_its_batch() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let changes = [set("lead_score", "85"), set("ai_lead_summary", "New.")];
    let newer = writer.approved(&record, (&changes, vec![])).await;
    let older = writer.decide(&record, 1, &[set("ai_lead_summary", "Old.")], vec![task(&record)]).await;
    writer.edit(1, "lead_score", "12", "CRM_UI").await;
    let (first, second) = tokio::join!(writer.handle(&newer), writer.handle(&older));
    assert_eq!((first, second), (Disposition::Done, Disposition::Done));
    writer.ended_as(&newer, EventState::Proposed, Some(Reason::ValueChanged)).await;
    writer.ended_as(&older, EventState::Written, None).await;
    assert_eq!(writer.property(1, "ai_lead_summary").await.as_deref(), Some("Old."));
    assert_eq!(writer.tasks().await.len(), 1);
}

#[tokio::test]
async fn a_value_that_a_policy_leaves_out_replaces_no_older_one_in_its_batch() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    writer.edit(1, "lead_score", "7", "AUTOMATION_PLATFORM").await;
    let with = |value: &str, policy| [PropertyChange { policy, ..set("lead_score", value) }];
    let newer = writer.decide(&record, 2, &with("85", WritePolicy::IfEmpty), vec![]).await;
    let older = writer.decide(&record, 1, &with("40", WritePolicy::Always), vec![]).await;
    let (first, second) = tokio::join!(writer.handle(&newer), writer.handle(&older));
    assert_eq!((first, second), (Disposition::Done, Disposition::Done));
    writer.ended_as(&newer, EventState::Skipped, Some(Reason::KeptFilled)).await;
    writer.ended_as(&older, EventState::Written, None).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("40"));
}

#[tokio::test]
async fn an_action_that_is_not_proposed_ends_with_the_proposal_and_not_before() {
    let writer = TestWriter::start().await;
    let deal = writer.object("deal", 21, &[("pipeline", "default"), ("dealstage", "closedwon")]).await;
    let asked = (&[set("dealname", "Renewal")][..], to_risk());
    let command = writer.decide_under(under(WriteMode::Review), &deal, 1, asked).await;
    writer
        .execute_all(
            "create function refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
             create trigger refuse before insert on proposed_write for each row execute function refuse()",
        )
        .await;
    assert_ne!(writer.handle(&command).await, Disposition::Done);
    let state = "select state::text from action";
    assert_eq!(writer.query::<String>(state).await, "intended", "the proposal is not there");
    writer
        .execute_all(
            "drop trigger refuse on proposed_write;
             update write_command set state = 'waiting', finished_at = null, reason = null, detail = null",
        )
        .await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    assert_eq!(writer.query::<String>(state).await, "skipped");
    let proposal = writer.proposals().await.remove(0);
    assert_eq!((proposal.properties.len(), proposal.actions.len()), (1, 0));
}
