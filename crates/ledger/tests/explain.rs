//! A property's history names the people who had a part in it.

use std::{collections::BTreeMap, time::Duration};

use domain::{CommandState, Correction, CorrectionSource, review::ReviewDecision, review::WriteMode};
use ledger::{CommandResult, Proposal, ProposedWrite, Verdict, WrittenProperty};
use time::OffsetDateTime;

use crate::fixtures::{TestLedger, contact, decision_with_commands, event, result};

#[tokio::test]
async fn who_edited_a_proposal_and_who_overrode_the_value_is_in_its_history() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "inference").await;
    let mut decision = decision_with_commands(&event, &claimed, 1);
    decision.commands[0].terms.mode = WriteMode::Review;
    assert!(test.commit(&decision).await);
    let mut command = decision.commands.remove(0);
    let attempt = test.claimed_command(&command, "writer").await;
    let write = ProposedWrite { property: "lead_score".to_owned(), before: None, proposed: "85".to_owned() };
    let proposal = Proposal { writes: vec![write], approved_by: None, expires_after: Duration::from_secs(60) };
    let proposed =
        CommandResult { proposal: Some(proposal), ..result(&command, attempt, CommandState::Proposed, None) };
    assert!(test.finish(&proposed, "writer").await);
    let explained = async || test.ledger.explain(&[contact(1)], "lead_score").await.expect("asked");
    assert_eq!(explained().await.decisions, []);

    let edit = Verdict::Approve(BTreeMap::from([("lead_score".to_owned(), "70".to_owned())]));
    assert!(test.ledger.decide_proposal(command.id, attempt, &edit, "sales-manager").await.expect("decided"));
    "70".clone_into(&mut command.properties[0].value);
    test.written(&command, "writer").await;
    let explanation = explained().await;
    let written = explanation.counting().expect("written");
    let decided = explanation.decision_about(written).expect("decided about");
    assert_eq!((decided.decision, decided.by.as_str()), (ReviewDecision::Edited, "sales-manager"));
    assert_eq!((decided.proposed.as_deref(), decided.edited.as_deref()), (Some("85"), Some("70")));
    assert_eq!(explanation.override_of(written), None);

    let correction = Correction {
        record: contact(1),
        property: "lead_score".to_owned(),
        value: Some("12".to_owned()),
        changed_at: OffsetDateTime::now_utc() + Duration::from_secs(10),
    };
    test.ledger.record_corrections(&[correction], CorrectionSource::Webhook).await.expect("recorded");
    let explanation = explained().await;
    let over = explanation.counting().and_then(|write| explanation.override_of(write)).expect("overridden");
    assert_eq!((over.written.as_str(), over.value.as_deref()), ("70", Some("12")));
    assert_eq!((over.seen_by, over.taken_back_at), (CorrectionSource::Webhook, None));
}

#[tokio::test]
async fn a_decision_is_in_the_history_of_the_properties_that_it_was_about() {
    let test = TestLedger::new().await;
    let both = ["lead_score", "ai_lead_summary"];
    let decisions = async |contact_id: i64, property: &str| -> Vec<ReviewDecision> {
        let explained = test.ledger.explain(&[contact(contact_id)], property).await.expect("asked");
        explained.decisions.iter().map(|decided| decided.decision).collect()
    };
    let reject = Verdict::Reject("no".to_owned());

    // A newer proposal has taken the score over.
    let older = test.proposed_values(1, 1, &test.ledger, (&both, None)).await;
    test.proposed_values(1, 2, &test.ledger, (&["lead_score"], None)).await;
    let attempt = test.value::<i32>("select attempt from proposals order by proposed_at limit 1").await;
    assert!(test.ledger.decide_proposal(older.id, attempt, &reject, "a").await.expect("decided"));
    assert_eq!(decisions(1, "ai_lead_summary").await, [ReviewDecision::Rejected]);
    assert_eq!(decisions(1, "lead_score").await, []);

    // An attempt has written the score, and asks again about the rest.
    let command = test.proposed_values(2, 1, &test.ledger, (&both, None)).await;
    let approve = Verdict::Approve(BTreeMap::new());
    assert!(test.ledger.decide_proposal(command.id, 1, &approve, "a").await.expect("decided"));
    test.lease(&command.record, "writer").await;
    let attempt = test.claimed_command(&command, "writer").await;
    let score = WrittenProperty { property: "lead_score".to_owned(), before: None, after: "85".to_owned() };
    let asks_again = CommandResult { written: vec![score], ..result(&command, attempt, CommandState::Proposed, None) };
    assert!(test.finish(&asks_again, "writer").await);
    assert!(test.ledger.decide_proposal(command.id, attempt, &reject, "a").await.expect("decided"));
    assert_eq!(decisions(2, "ai_lead_summary").await, [ReviewDecision::Rejected, ReviewDecision::Approved]);
    assert_eq!(decisions(2, "lead_score").await, [ReviewDecision::Approved]);
}
