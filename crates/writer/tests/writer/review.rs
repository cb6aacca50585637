//! What is reviewed, or in shadow, is not written before somebody approves it.

use std::{collections::BTreeMap, time::Duration};

use broker::Disposition;
use domain::{
    EventState, Reason, WriteCommand,
    review::{ApprovalRule, ReviewDecision, ReviewTerms, WriteMode, WriteTerms},
    write_command::{ActionSpec, DealStage},
};
use ledger::{ProposalEntry, ProposalFilter, Verdict};

use crate::{
    actions::task,
    fixtures::{TestWriter, set},
};

/// Terms with a mode.
pub fn under(mode: WriteMode) -> WriteTerms {
    WriteTerms { mode, ..WriteTerms::default() }
}

fn approval() -> Verdict {
    Verdict::Approve(BTreeMap::new())
}

impl TestWriter {
    pub async fn proposals(&self) -> Vec<ProposalEntry> {
        self.ledger.proposals(&ProposalFilter::default()).await.expect("an answer")
    }

    /// Approves a command that waits, as it is proposed now.
    pub async fn approve(&self, command: &WriteCommand) {
        let proposals = self.proposals().await;
        let proposal = proposals.iter().find(|proposal| proposal.id == command.id).expect("it waits");
        let decided = self.ledger.decide_proposal(proposal.id, proposal.attempt, &approval(), "a reviewer").await;
        assert!(decided.expect("an answer"));
    }

    /// Decides about the only proposal as the first reviewer does who saw it.
    async fn review(&self, verdict: &Verdict) -> WriteCommandVerdict {
        let proposals = self.proposals().await;
        let [proposal] = &proposals[..] else { panic!("{proposals:#?}") };
        let decide = || self.ledger.decide_proposal(proposal.id, proposal.attempt, verdict, "a reviewer");
        WriteCommandVerdict { first: decide().await.expect("decided"), second: decide().await.expect("decided") }
    }

    /// Handles a command, of which everything is then proposed.
    pub async fn proposed(&self, command: &WriteCommand) {
        assert_eq!(self.handle(command).await, Disposition::Done);
        self.ended_as(command, EventState::Proposed, None).await;
    }
}

/// Whether a verdict counted, and whether the same one counted once more.
#[derive(Debug, PartialEq, Eq)]
struct WriteCommandVerdict {
    first: bool,
    second: bool,
}

const ONCE: WriteCommandVerdict = WriteCommandVerdict { first: true, second: false };

#[tokio::test]
async fn what_is_in_review_is_written_once_when_it_is_approved_and_not_before() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let asked = (&[set("lead_score", "85")][..], vec![task(&record, None)]);
    let command = writer.decide_under(under(WriteMode::Review), &record, 1, asked).await;
    writer.proposed(&command).await;
    assert_eq!(writer.property(1, "lead_score").await, None);
    assert_eq!(writer.query::<i64>("select count(*) from action where state = 'intended'").await, 1, "no task yet");
    // Its message again, as when the writer died before it acknowledged it.
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    let proposals = writer.proposals().await;
    let [proposal] = &proposals[..] else { panic!("{proposals:#?}") };
    let property = &proposal.properties[0];
    assert_eq!((&*property.property, property.before.as_deref(), property.after()), ("lead_score", None, "85"));
    assert!(matches!(proposal.actions[0].spec, ActionSpec::CreateTask(_)), "{proposal:#?}");

    assert_eq!(writer.review(&approval()).await, ONCE);
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("85"));
    let story = writer.ended_as(&command, EventState::Written, None).await;
    assert_eq!((story.writes.len(), story.actions[0].reason), (1, None));
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    assert_eq!(writer.query::<i64>("select count(*) from action where state = 'done'").await, 1);
    let reviews = writer.ledger.reviews(command.id).await.expect("an answer");
    assert_eq!((reviews[0].decision, &*reviews[0].by, reviews.len()), (ReviewDecision::Approved, "a reviewer", 1));
}

#[tokio::test]
async fn a_value_that_changed_since_it_was_seen_is_asked_about_again() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let changes = [set("lead_score", "85"), set("ai_lead_summary", "A buyer.")];
    let command = writer.decide_under(under(WriteMode::Review), &record, 1, (&changes, vec![])).await;
    writer.proposed(&command).await;
    writer.edit(1, "lead_score", "12", "CRM_UI").await;
    assert_eq!(writer.review(&approval()).await, ONCE);
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    writer.ended_as(&command, EventState::Proposed, Some(Reason::ValueChanged)).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("12"), "the person's value stays");
    assert_eq!(writer.property(1, "ai_lead_summary").await, None, "a proposal is written as a whole");
    let proposal = writer.proposals().await.remove(0);
    let before: Vec<_> = proposal.properties.iter().map(|property| property.before.as_deref()).collect();
    assert_eq!((proposal.is_changed, before), (true, vec![None, Some("12")]));

    assert_eq!(writer.review(&approval()).await, ONCE);
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    writer.ended_as(&command, EventState::Written, None).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("85"), "the reviewer has seen the 12");
    let before = "select before from write where property = 'lead_score'";
    assert_eq!(writer.query::<String>(before).await, "12");
}

#[tokio::test]
async fn a_reviewer_may_set_another_value_or_reject_and_say_why() {
    let writer = TestWriter::start().await;
    let (first, second) = (writer.contact(1).await, writer.contact(2).await);
    let review = || under(WriteMode::Review);
    let edited = writer.decide_under(review(), &first, 1, (&[set("lead_score", "85")], vec![])).await;
    writer.proposed(&edited).await;
    let edit = Verdict::Approve([("lead_score".to_owned(), "70".to_owned())].into());
    assert_eq!(writer.review(&edit).await, ONCE);
    assert_eq!(writer.handle(&edited).await, Disposition::Done);
    writer.ended_as(&edited, EventState::Written, None).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("70"));
    let kept = "select decision || ' ' || (properties -> 0 ->> 'proposed') || ' ' || (properties -> 0 ->> 'approved')
                from review";
    assert_eq!(writer.query::<String>(kept).await, "edited 85 70");

    let asked = (&[set("lead_score", "85")][..], vec![task(&second, None)]);
    let rejected = writer.decide_under(review(), &second, 1, asked).await;
    writer.proposed(&rejected).await;
    assert_eq!(writer.review(&Verdict::Reject("a student".to_owned())).await, ONCE);
    let story = writer.ended_as(&rejected, EventState::Skipped, Some(Reason::Rejected)).await;
    assert_eq!(story.actions[0].reason, Some(Reason::Rejected));
    assert_eq!(writer.handle(&rejected).await, Disposition::Done);
    assert_eq!(writer.property(2, "lead_score").await, None);
    let reviews = writer.ledger.reviews(rejected.id).await.expect("an answer");
    assert_eq!(reviews[0].why.as_deref(), Some("a student"));
}

#[tokio::test]
async fn shadow_writes_nothing_and_the_ledger_has_what_would_have_been() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let asked = (&[set("lead_score", "85")][..], vec![task(&record, None)]);
    let command = writer.decide_under(under(WriteMode::Shadow), &record, 1, asked).await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    let story = writer.ended_as(&command, EventState::Skipped, Some(Reason::Shadow)).await;
    assert_eq!((story.writes.len(), story.actions[0].reason), (0, Some(Reason::Shadow)));
    assert_eq!(writer.property(1, "lead_score").await, None);
    let would = "select property || ' ' || proposed from proposed_write";
    assert_eq!(writer.query::<String>(would).await, "lead_score 85");
    assert!(writer.proposals().await.is_empty());
}

#[tokio::test]
async fn live_values_are_written_beside_a_proposal_for_the_same_record_and_neither_replaces_the_other() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let proposed =
        writer.decide_under(under(WriteMode::Review), &record, 2, (&[set("lead_score", "85")], vec![])).await;
    let live = writer.decide(&record, 1, &[set("lead_score", "10")], vec![]).await;
    let (first, second) = tokio::join!(writer.handle(&proposed), writer.handle(&live));
    assert_eq!((first, second), (Disposition::Done, Disposition::Done));
    writer.ended_as(&live, EventState::Written, None).await;
    writer.ended_as(&proposed, EventState::Proposed, None).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("10"));
}

#[tokio::test]
async fn a_newer_proposal_takes_over_what_it_proposes_as_well_and_the_rest_waits_on() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let review = || under(WriteMode::Review);
    let both = [set("lead_score", "85"), set("ai_lead_summary", "A buyer.")];
    let other = writer.decide_under(review(), &record, 1, (&both, vec![])).await;
    let older = writer.decide_under(review(), &record, 2, (&[set("lead_score", "80")], vec![])).await;
    let newer = writer.decide_under(review(), &record, 3, (&[set("lead_score", "90")], vec![])).await;
    for command in [&other, &newer, &older] {
        assert_eq!(writer.handle(command).await, Disposition::Done);
    }
    writer.ended_as(&older, EventState::Superseded, Some(Reason::NewerProposal)).await;
    let waiting = writer.proposals().await;
    let properties = |proposal: &ProposalEntry| -> Vec<String> {
        proposal.properties.iter().map(|property| property.property.clone()).collect()
    };
    let waiting: Vec<_> = waiting.iter().map(|proposal| (proposal.id, properties(proposal))).collect();
    let (score, summary) = (vec!["lead_score".to_owned()], vec!["ai_lead_summary".to_owned()]);
    assert_eq!(waiting, [(other.id, summary), (newer.id, score)], "the newer one says nothing of the summary");

    writer.approve(&other).await;
    assert_eq!(writer.handle(&other).await, Disposition::Done);
    writer.ended_as(&other, EventState::Written, None).await;
    assert_eq!(writer.property(1, "ai_lead_summary").await.as_deref(), Some("A buyer."));
    assert_eq!(writer.property(1, "lead_score").await, None, "the newer proposal still waits");
}

#[tokio::test]
async fn an_action_that_a_newer_proposal_has_as_well_is_not_carried_out_twice() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let both = (&[set("lead_score", "80")][..], vec![task(&record, None)]);
    let older = writer.decide_under(under(WriteMode::Review), &record, 1, both).await;
    writer.proposed(&older).await;
    let newer = writer.decide_under(under(WriteMode::Review), &record, 2, (&[], vec![task(&record, None)])).await;
    writer.proposed(&newer).await;
    let waiting = writer.proposals().await;
    let actions: Vec<_> = waiting.iter().map(|proposal| (proposal.properties.len(), proposal.actions.len())).collect();
    assert_eq!(actions, [(1, 0), (0, 1)]);
    writer.approve(&older).await;
    writer.approve(&newer).await;
    for command in [&older, &newer] {
        assert_eq!(writer.handle(command).await, Disposition::Done);
    }
    assert_eq!(writer.tasks().await.len(), 1);
}

#[tokio::test]
async fn a_deal_is_moved_when_its_move_is_approved_unless_somebody_moved_it_on() {
    let writer = TestWriter::start().await;
    let deal = writer.object("deal", 20, &[("pipeline", "default"), ("dealstage", "contractsent")]).await;
    let move_to_risk = || vec![ActionSpec::MoveDeal(DealStage { stage: "Risk".to_owned(), pipeline: None })];
    let command = writer.decide_under(under(WriteMode::Review), &deal, 1, (&[], move_to_risk())).await;
    writer.proposed(&command).await;
    let stage = || async { writer.value("deal", 20, "dealstage").await };
    assert_eq!(stage().await.as_deref(), Some("contractsent"));
    let seen = writer.proposals().await.remove(0).properties.remove(0);
    assert_eq!(
        (&*seen.property, seen.before.as_deref(), &*seen.proposed),
        ("dealstage", Some("contractsent"), "991231")
    );

    writer.move_deal(20, "contractsent", "decisionmakerboughtin").await;
    assert_eq!(writer.review(&approval()).await, ONCE);
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    writer.ended_as(&command, EventState::Proposed, Some(Reason::ValueChanged)).await;
    assert_eq!(stage().await.as_deref(), Some("decisionmakerboughtin"), "where the person moved it");

    assert_eq!(writer.review(&approval()).await, ONCE);
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    writer.ended_as(&command, EventState::Written, None).await;
    assert_eq!(stage().await.as_deref(), Some("991231"));

    let closed = writer.object("deal", 21, &[("pipeline", "default"), ("dealstage", "closedwon")]).await;
    let command = writer.decide_under(under(WriteMode::Review), &closed, 1, (&[], move_to_risk())).await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    writer.ended_as(&command, EventState::Skipped, Some(Reason::DealClosed)).await;
}

#[tokio::test]
async fn a_rule_approves_what_it_holds_for_and_leaves_the_rest_to_a_person() {
    let writer = TestWriter::start().await;
    let (small, large) = (writer.contact(1).await, writer.contact(2).await);
    let terms = || WriteTerms {
        mode: WriteMode::Review,
        review: ReviewTerms {
            fields: [("lead_score".to_owned(), "lead_score".to_owned())].into(),
            approve_if: vec![ApprovalRule {
                name: "small_change".to_owned(),
                when: "changes.lead_score.by <= 5".to_owned(),
            }],
            ..ReviewTerms::default()
        },
        approved: None,
    };
    writer.edit(1, "lead_score", "80", "AUTOMATION_PLATFORM").await;
    let approved = writer.decide_under(terms(), &small, 1, (&[set("lead_score", "84")], vec![])).await;
    assert_eq!(writer.handle(&approved).await, Disposition::Done);
    writer.ended_as(&approved, EventState::Written, None).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("84"));
    let reviews = writer.ledger.reviews(approved.id).await.expect("an answer");
    assert_eq!((reviews[0].decision, &*reviews[0].by), (ReviewDecision::ByRule, "rule small_change"));

    let asked = writer.decide_under(terms(), &large, 1, (&[set("lead_score", "84")], vec![])).await;
    writer.proposed(&asked).await;
    assert_eq!(writer.property(2, "lead_score").await, None);
}

#[tokio::test]
async fn a_proposal_that_nobody_decides_about_is_given_up() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let command = writer.decide_under(under(WriteMode::Review), &record, 1, (&[set("lead_score", "85")], vec![])).await;
    writer.proposed(&command).await;
    assert_eq!(writer.ledger.expire_proposals(10).await.expect("an answer"), 0, "it is young");
    assert!(writer.ledger.waiting_proposals().await.expect("an answer").oldest > Duration::ZERO);
    writer.execute("update write_command set expires_at = now() - interval '1 second'").await;
    assert_eq!(writer.ledger.expire_proposals(10).await.expect("an answer"), 1);
    writer.ended_as(&command, EventState::Skipped, Some(Reason::ReviewExpired)).await;
    assert_eq!(writer.ledger.waiting_proposals().await.expect("an answer").count, 0);
}

#[tokio::test]
async fn what_the_record_has_already_is_not_proposed() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    writer.edit(1, "lead_score", "85", "AUTOMATION_PLATFORM").await;
    let command = writer.decide_under(under(WriteMode::Review), &record, 1, (&[set("lead_score", "85")], vec![])).await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    writer.ended_as(&command, EventState::Skipped, Some(Reason::UnchangedValue)).await;
}

#[tokio::test]
async fn a_writer_of_the_release_before_does_not_get_what_is_to_be_reviewed() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let command = writer.decide_under(under(WriteMode::Review), &record, 1, (&[set("lead_score", "85")], vec![])).await;
    let claim = "with claimed as (update write_command set state = 'sending', attempt = attempt + 1 returning id)
                 select count(*) from claimed";
    assert_eq!(writer.query::<i64>(claim).await, 0, "it takes it for one that another writer has");
    writer.proposed(&command).await;
}
