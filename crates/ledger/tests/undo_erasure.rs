//! What is erased with a person is erased of undos and of proposals, too, also while an undo is recorded.

use std::time::Duration;

use domain::{CommandState, ObjectId, ObjectType, WriteCommand, inference::ErasureCause, review::WriteMode};
use ledger::{
    CommandClaim, CommandResult, Proposal, ProposedWrite, RecordMerge, UndoCommand, Verdict, WrittenProperty,
};

use crate::{
    erasure::{MARKER, OTHERS, ZEBULON, read, zebulon},
    fixtures::{PORTAL, TestLedger, contact, decision_with_commands, event, result},
    undo::{request, undo_to},
};

impl TestLedger {
    /// A value that rests on what was read of the erased person, at another contact, and the command that has replaced it since.
    async fn replaced(&self) -> WriteCommand {
        let reads = vec![read(ObjectType::Contact, ZEBULON, false)];
        let first = self.answered(&event(2, 1), &contact(2), reads, MARKER).await;
        self.carried_out(&first, None).await;
        let later = self.answered(&event(2, 2), &contact(2), vec![], OTHERS).await;
        self.carried_out(&later, Some(MARKER)).await;
        later.commands[0].clone()
    }

    async fn recorded(&self, undo: &UndoCommand) -> bool {
        let recorded = self.ledger.record_undo(&request(), std::slice::from_ref(undo)).await.expect("recorded");
        recorded == [undo.id]
    }

    /// What the `n`th event of a contact proposes in the place of `before`.
    async fn proposed_over(&self, id: i64, n: i64, before: &str) -> WriteCommand {
        let event = event(id, n);
        let claimed = self.claimed(&event, "inference").await;
        let mut decision = decision_with_commands(&event, &claimed, 1);
        decision.commands[0].terms.mode = WriteMode::Review;
        // Otherwise the newer one would replace the older one.
        decision.inferences[0].playbook = format!("playbook {n}");
        assert!(self.commit(&decision).await);
        let command = decision.commands.remove(0);
        let attempt = self.claimed_command(&command, "writer").await;
        let (property, proposed) = ("lead_score".to_owned(), "85".to_owned());
        let write = ProposedWrite { property, before: Some(before.to_owned()), proposed };
        let proposal = Proposal { writes: vec![write], approved_by: None, expires_after: Duration::from_secs(60) };
        let proposed =
            CommandResult { proposal: Some(proposal), ..result(&command, attempt, CommandState::Proposed, None) };
        assert!(self.finish(&proposed, "writer").await);
        command
    }
}

#[tokio::test]
async fn an_erased_value_that_an_undo_has_put_back_at_another_record_goes_and_nothing_else() {
    let test = TestLedger::new().await;
    let later = test.replaced().await;
    let undo = undo_to(&later, MARKER);
    assert!(test.recorded(&undo).await);
    let command = WriteCommand { id: undo.id, ..later };
    test.lease(&command.record, "writer").await;
    let attempt = test.claimed_command(&command, "writer").await;
    let (property, before, after) = ("lead_score".to_owned(), Some(OTHERS.to_owned()), MARKER.to_owned());
    let written = vec![WrittenProperty { property, before, after }];
    assert!(
        test.finish(&CommandResult { written, ..result(&command, attempt, CommandState::Written, None) }, "writer")
            .await
    );
    // What the undo command expected goes with what it was to put back.
    let of_others = async || {
        let found = test.found(OTHERS).await;
        found.into_iter().filter(|found| !found.starts_with("write_command.properties")).collect::<Vec<_>>()
    };
    let others = of_others().await;
    test.erase(&zebulon(), ErasureCause::PrivacyDeletion).await;
    assert_eq!(test.found(MARKER).await, Vec::<String>::new());
    assert_eq!(of_others().await, others);
    let told: String =
        test.value("select concat_ws(' ', undone_value, restored_value, outcome) from undone_properties").await;
    assert_eq!(told, format!("{OTHERS} (erased) written"));
}

#[tokio::test]
async fn an_undo_that_is_to_put_an_erased_value_back_is_dropped_and_undoes_nothing() {
    let test = TestLedger::new().await;
    let later = test.replaced().await;
    let undo = undo_to(&later, MARKER);
    assert!(test.recorded(&undo).await);
    test.erase(&zebulon(), ErasureCause::PrivacyDeletion).await;
    assert_eq!(test.found(MARKER).await, Vec::<String>::new());
    let command = WriteCommand { id: undo.id, ..later };
    assert_eq!(test.claim_command(&command, "writer").await, CommandClaim::Finished);
    assert_eq!(test.ledger.erased_commands(&[undo.id]).await.expect("asked"), [undo.id]);
    assert_eq!(test.value::<i64>("select count(*) from undone_write").await, 0, "what else it wrote can be undone");
}

#[tokio::test]
async fn an_undo_of_what_was_erased_since_it_was_planned_is_not_recorded() {
    let test = TestLedger::new().await;
    let later = test.replaced().await;
    let own = test.decided(&event(ZEBULON, 1)).await;
    test.written(&own, "writer").await;
    let bystander = test.decided(&event(3, 1)).await;
    test.written(&bystander, "writer").await;
    let planned = [undo_to(&later, MARKER), undo_to(&own, ""), undo_to(&bystander, "")];
    test.erase(&zebulon(), ErasureCause::PrivacyDeletion).await;
    let recorded = test.ledger.record_undo(&request(), &planned).await.expect("recorded");
    assert_eq!(recorded, [planned[2].id]);
    assert_eq!(test.found(MARKER).await, Vec::<String>::new());
    test.ledger.conclude_erasure(&zebulon(), true).await.expect("finished");
    assert_eq!(test.found(&ZEBULON.to_string()).await, Vec::<String>::new());
}

/// The eraser has emptied the rows and not committed yet.
#[tokio::test]
async fn an_undo_that_is_recorded_while_its_values_are_erased_waits_and_is_left_out() {
    let test = TestLedger::new().await;
    let later = test.replaced().await;
    let own = test.decided(&event(ZEBULON, 1)).await;
    test.written(&own, "writer").await;
    let planned = [undo_to(&later, MARKER), undo_to(&own, "")];
    test.ledger.request_erasure(&zebulon(), ErasureCause::PrivacyDeletion).await.expect("requested");
    let mut erasing = test.database.begin().await.expect("a transaction");
    let step = format!("select erase_record({}, '0-1', {ZEBULON}, 200, 0)", PORTAL.0);
    for _ in ["what is about the person", "what others read"] {
        sqlx::query(sqlx::AssertSqlSafe(step.clone())).execute(&mut *erasing).await.expect("erased");
    }
    let ledger = test.ledger.clone();
    let recording = tokio::spawn(async move { ledger.record_undo(&request(), &planned).await });
    test.waits_for_lock(&recording).await;
    erasing.commit().await.expect("committed");
    assert_eq!(recording.await.expect("no panic").expect("asked"), []);
    assert_eq!(test.found(MARKER).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_erased_value_goes_where_a_proposal_would_replace_it_and_where_one_was_decided_about() {
    let test = TestLedger::new().await;
    test.replaced().await;
    let decided = test.proposed_over(2, 3, MARKER).await;
    let verdict = Verdict::Reject("no".to_owned());
    assert!(test.ledger.decide_proposal(decided.id, 1, &verdict, "a").await.expect("decided"));
    let waiting = test.proposed_over(2, 4, MARKER).await;
    let other = test.proposed_over(2, 5, OTHERS).await;
    test.erase(&zebulon(), ErasureCause::PrivacyDeletion).await;
    assert_eq!(test.found(MARKER).await, Vec::<String>::new());
    let before: String = test
        .value(&format!(
            "select string_agg(p.before, ' ' order by p.proposed_at) from proposed_write p where write_command_id in ('{}', '{}')",
            waiting.id, other.id
        ))
        .await;
    assert_eq!(before, format!("(erased) {OTHERS}"), "both still wait");
    let told: String = test.value("select properties ->> 0 from review").await;
    assert!(told.contains("85") && told.contains("(erased)"), "{told}");
}

/// The value was written to contact 2, which was merged into 9 since, as was 8.
#[tokio::test]
async fn an_erased_value_goes_under_every_id_of_a_record_that_was_merged_since() {
    let test = TestLedger::new().await;
    let reads = vec![read(ObjectType::Contact, ZEBULON, false)];
    let first = test.answered(&event(2, 1), &contact(2), reads, MARKER).await;
    test.carried_out(&first, None).await;
    let merge = |old| RecordMerge { old: contact(old), survivor: ObjectId(9) };
    test.ledger.record_merges(&[merge(2), merge(8)]).await.expect("recorded");
    for id in [9, 8] {
        let later = test.answered(&event(id, 2), &contact(id), vec![], OTHERS).await;
        test.carried_out(&later, Some(MARKER)).await;
        test.proposed_over(id, 3, MARKER).await;
    }
    test.corrected(9, MARKER).await;
    let bystander = test.answered(&event(7, 2), &contact(7), vec![], OTHERS).await;
    test.carried_out(&bystander, Some("Bystander before")).await;
    let others = test.found(OTHERS).await;
    test.erase(&zebulon(), ErasureCause::PrivacyDeletion).await;
    assert_eq!(test.found(MARKER).await, Vec::<String>::new());
    assert_eq!(test.found(OTHERS).await, others);
    let erased = "select count(*) from write where before = '(erased)' and object_id in (8, 9)";
    assert_eq!(test.value::<i64>(erased).await, 2, "an undo puts nothing back");
}
