//! Proposals and what is decided about them, with the rights of the roles that do it.

use std::{collections::BTreeMap, time::Duration};

use domain::{CommandState, EventState, Reason, WriteCommand, inference::ErasureCause, review::WriteMode};
use ledger::{CommandResult, Ledger, Proposal, ProposalFilter, ProposedWrite, Verdict};
use testbed::Role;

use crate::{
    fixtures::{LEASE, PORTAL, TestLedger, contact, decision_with_commands, event, result, worker},
    roles::ledger_of,
};

impl TestLedger {
    /// An event whose write command is in review, and is proposed by a writer.
    async fn proposed(&self, contact: i64, n: i64, writer: &Ledger) -> WriteCommand {
        self.proposed_values(contact, n, writer, (&["lead_score"], None)).await
    }

    /// The same, for these properties, or approved by a rule of this name.
    pub async fn proposed_values(
        &self,
        contact: i64,
        n: i64,
        writer: &Ledger,
        (properties, rule): (&[&str], Option<&str>),
    ) -> WriteCommand {
        let event = event(contact, n);
        let claimed = self.claimed(&event, "inference").await;
        let mut decision = decision_with_commands(&event, &claimed, 1);
        decision.commands[0].terms.mode = WriteMode::Review;
        decision.commands[0].terms.review.fields = [("lead_score".to_owned(), "lead_score".to_owned())].into();
        assert!(self.commit(&decision).await);
        let command = decision.commands.remove(0);
        let attempt = self.claimed_command(&command, "writer").await;
        let write = |property: &&str| ProposedWrite {
            property: (*property).to_owned(),
            before: None,
            proposed: "85".to_owned(),
        };
        let proposal = Proposal {
            writes: properties.iter().map(write).collect(),
            approved_by: rule.map(ToOwned::to_owned),
            expires_after: Duration::from_secs(60),
        };
        let state = if rule.is_some() { CommandState::Waiting } else { CommandState::Proposed };
        let proposed = CommandResult { proposal: Some(proposal), ..result(&command, attempt, state, None) };
        let committed = writer.finish_commands(&[proposed], &worker("writer")).await.expect("the writer may");
        assert_eq!(committed, [true]);
        command
    }
}

#[tokio::test]
async fn the_roles_propose_decide_and_expire_and_an_approved_command_is_carried_out_as_it_was_seen() {
    let test = TestLedger::new().await;
    let (writer, operator) = (ledger_of(Role::Writer, &test.url), ledger_of(Role::Operator, &test.url));
    let command = test.proposed(1, 1, &writer).await;
    assert_eq!(test.state(&event(1, 1)).await, (EventState::Proposed, None));
    let waiting = operator.proposals(&ProposalFilter::default()).await.expect("the operator may");
    assert_eq!(waiting.len(), 1);
    assert!(!operator.decide_proposal(command.id, 7, &Verdict::Approve(BTreeMap::new()), "a").await.expect("asked"));
    let edit = Verdict::Approve([("lead_score".to_owned(), "70".to_owned())].into());
    assert!(operator.decide_proposal(command.id, 1, &edit, "a").await.expect("the operator may"));
    assert!(!operator.decide_proposal(command.id, 1, &edit, "b").await.expect("asked"), "twice is once");
    assert_eq!(test.state(&event(1, 1)).await, (EventState::Decided, None));
    // The process may die before it publishes the message.
    let stuck = test.ledger.stuck_commands(Duration::ZERO, 10).await.expect("asked");
    assert_eq!(stuck.iter().map(|stuck| stuck.id).collect::<Vec<_>>(), [command.id]);
    let claims = writer.claim_commands(&[command.id], PORTAL, &worker("writer"), LEASE).await.expect("the writer may");
    let ledger::CommandClaim::Granted { command: claimed, .. } = &claims[0] else { panic!("{claims:?}") };
    let [change] = &claimed.properties[..] else { panic!("{claimed:?}") };
    assert_eq!((&*change.value, change.expected.as_ref().map(|expected| &expected.value)), ("70", Some(&None)));
    assert!(claimed.terms.mode == WriteMode::Live && claimed.terms.approved.is_some());

    let old = test.proposed(2, 1, &writer).await;
    let end = "update write_command set expires_at = now() - interval '1 second' where state = 'proposed'";
    sqlx::query(end).execute(&test.database).await.expect("ended");
    assert_eq!(writer.expire_proposals(10).await.expect("the writer may"), 1);
    assert_eq!(test.state(&event(2, 1)).await, (EventState::Skipped, Some(Reason::ReviewExpired)));
    let decided = operator.reviews(old.id).await.expect("the operator may");
    assert_eq!(decided[0].decision.as_str(), "expired");
}

#[tokio::test]
async fn a_proposal_of_which_a_newer_one_takes_a_part_over_is_told_of_again_and_decided_about_anew() {
    let test = TestLedger::new().await;
    let writer = ledger_of(Role::Writer, &test.url);
    let older = test.proposed_values(1, 1, &writer, (&["lead_score", "ai_lead_summary"], None)).await;
    writer.record_announced(&[(older.id, 1)]).await.expect("the writer may");
    let newer = test.proposed(1, 2, &writer).await;
    let approve = Verdict::Approve(BTreeMap::new());
    assert!(!writer.decide_proposal(older.id, 1, &approve, "a").await.expect("asked"), "the reviewer saw both values");
    let to_tell = ProposalFilter { unannounced: Some(10), ..ProposalFilter::default() };
    let waiting = writer.proposals(&to_tell).await.expect("the writer may");
    let waiting: Vec<_> = waiting.iter().map(|waits| (waits.id, waits.attempt, waits.properties.len())).collect();
    assert_eq!(waiting, [(older.id, 2, 1), (newer.id, 1, 1)]);
    assert!(writer.decide_proposal(older.id, 2, &approve, "a").await.expect("decided"));
}

#[tokio::test]
async fn a_newer_proposal_that_a_rule_approves_takes_over_as_well() {
    let test = TestLedger::new().await;
    let writer = ledger_of(Role::Writer, &test.url);
    let older = test.proposed(1, 1, &writer).await;
    let partly = test.proposed_values(1, 2, &writer, (&["ai_lead_summary"], None)).await;
    test.proposed_values(1, 3, &writer, (&["lead_score"], Some("small_change"))).await;
    assert_eq!(test.state(&event(1, 1)).await, (EventState::Superseded, Some(Reason::NewerProposal)));
    let waiting = writer.proposals(&ProposalFilter::default()).await.expect("the writer may");
    let [waits] = &waiting[..] else { panic!("{waiting:#?}") };
    assert_eq!((waits.id, waits.properties.len(), waits.actions.len()), (partly.id, 1, 0), "no second note");
    let approve = Verdict::Approve(BTreeMap::new());
    assert!(!writer.decide_proposal(older.id, 1, &approve, "a").await.expect("asked"));
    assert_eq!(test.state(&event(1, 3)).await, (EventState::Decided, None));
}

#[tokio::test]
async fn an_event_with_a_written_and_a_proposed_command_ends_when_the_last_proposal_is_decided_about() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "inference").await;
    let mut decision = decision_with_commands(&event, &claimed, 2);
    decision.commands[1].terms.mode = WriteMode::Review;
    assert!(test.commit(&decision).await);
    test.written(&decision.commands[0], "a").await;
    assert_eq!(test.state(&event).await, (EventState::Decided, None));
    let attempt = test.claimed_command(&decision.commands[1], "a").await;
    assert!(test.finish(&result(&decision.commands[1], attempt, CommandState::Proposed, None), "a").await);
    assert_eq!(test.state(&event).await, (EventState::Proposed, None));
    let reject = Verdict::Reject("no".to_owned());
    let decided = test.ledger.decide_proposal(decision.commands[1].id, attempt, &reject, "a").await;
    assert!(decided.expect("decided"));
    assert_eq!(test.state(&event).await, (EventState::Written, None));
}

#[tokio::test]
async fn an_erased_record_has_no_proposal_left_and_no_word_of_one() {
    let test = TestLedger::new().await;
    let command = test.proposed(1, 1, &test.ledger).await;
    let (id, verdict) = (command.id, Verdict::Reject("Ada is a student".to_owned()));
    test.ledger.request_erasure(&contact(1), ErasureCause::Operator).await.expect("requested");
    test.ledger.erase(&contact(1)).await.expect("erased");
    assert!(!test.ledger.decide_proposal(id, 1, &verdict, "a").await.expect("asked"));
    let left = "select concat_ws(' ', c.state, p.proposed, p.before, c.review)
                from write_command c join proposed_write p on p.write_command_id = c.id";
    assert_eq!(test.value::<String>(left).await, "dropped (erased)");
}

#[tokio::test]
async fn a_reviewers_value_is_a_correction_and_a_rejection_has_none() {
    let test = TestLedger::new().await;
    let operator = ledger_of(Role::Operator, &test.url);
    let edited = test.proposed(1, 1, &test.ledger).await;
    let rejected = test.proposed(2, 1, &test.ledger).await;
    let edit = Verdict::Approve([("lead_score".to_owned(), "70".to_owned())].into());
    assert!(operator.decide_proposal(edited.id, 1, &edit, "a").await.expect("decided"));
    let reject = Verdict::Reject("a student".to_owned());
    assert!(operator.decide_proposal(rejected.id, 1, &reject, "a").await.expect("decided"));

    let since = time::OffsetDateTime::now_utc() - Duration::from_secs(60);
    let answers = operator.corrected_answers(None, since, 10).await.expect("the operator may");
    let [answer] = &answers[..] else { panic!("{answers:#?}") };
    let [value] = &answer.values[..] else { panic!("{answer:#?}") };
    assert_eq!((&answer.record, &*value.written, value.value.as_deref()), (&contact(1), "85", Some("70")));
    assert_eq!((&*value.property, value.seen_by), ("lead_score", None));
    let rejections = operator.rejected_answers(None, since, 10).await.expect("the operator may");
    let [answer] = &rejections[..] else { panic!("{rejections:#?}") };
    assert_eq!((&answer.record, answer.why.as_deref()), (&contact(2), Some("a student")));
    assert_eq!(answer.proposed, [("lead_score".to_owned(), "85".to_owned())]);
    let figures = operator.playbook_figures(&answers[0].playbook, since).await.expect("the operator may");
    assert_eq!((figures[0].edited().part(), figures[0].rejected().part()), (1, 1));

    test.ledger.request_erasure(&contact(1), ErasureCause::Operator).await.expect("requested");
    test.ledger.erase(&contact(1)).await.expect("erased");
    assert_eq!(operator.corrected_answers(None, since, 10).await.expect("asked"), []);
}
