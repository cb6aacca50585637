//! What is not finished within a lease comes back, and a record whose lease was lost is verified.

use std::time::Duration;

use broker::Disposition;
use domain::{
    Reason,
    review::WriteMode,
    write_command::{ActionSpec, DealStage},
};
use simulator::{Fault, FaultKind, Target};

use crate::{
    fixtures::{TestWriter, WriterOptions, set},
    review::under,
};

#[tokio::test]
async fn a_write_that_is_not_finished_within_its_lease_comes_back() {
    let writer = TestWriter::with(WriterOptions {
        lease: Duration::from_secs(1),
        linger: Duration::from_millis(5),
        call_timeout: Duration::from_secs(10),
        ..WriterOptions::default()
    })
    .await;
    let record = writer.contact(1).await;
    let command = writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await;
    writer.fault(&Fault::new(Target::Hubspot, FaultKind::Hang).containing("lead_score").times(1)).await;
    let expected = Disposition::Defer { delay: None, reason: Reason::DeadlineExceeded };
    assert_eq!(writer.handle(&command).await, expected);
    assert_eq!(writer.query::<i64>("select count(*) from record_lease where verify").await, 1);

    writer.until_done(&command).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("85"));
    writer.verifier.pass().await.expect("verified");
    assert_eq!(writer.query::<i64>("select count(*) from record_lease").await, 0);
}

/// HubSpot is asked for what is proposed before anything is written: what it has then is recorded.
#[tokio::test]
async fn a_proposal_that_outlasts_the_lease_leaves_no_value_in_hubspot_that_the_ledger_does_not_have() {
    let writer = TestWriter::with(WriterOptions {
        lease: Duration::from_secs(2),
        linger: Duration::from_millis(200),
        call_timeout: Duration::from_secs(10),
        ..WriterOptions::default()
    })
    .await;
    let record = writer.contact(1).await;
    let deal = writer.object("deal", 20, &[("pipeline", "default"), ("dealstage", "contractsent")]).await;
    let written = writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await;
    let to_risk = vec![ActionSpec::MoveDeal(DealStage { stage: "Risk".to_owned(), pipeline: None })];
    let proposed = writer.decide_under(under(WriteMode::Review), &deal, 1, (&[], to_risk)).await;
    writer.fault(&Fault::new(Target::Hubspot, FaultKind::Hang).on_path("/pipelines").times(1)).await;
    let (first, second) = tokio::join!(writer.handle(&written), writer.handle(&proposed));
    let expected = Disposition::Defer { delay: None, reason: Reason::DeadlineExceeded };
    assert_eq!((first, second), (expected.clone(), expected));
    assert_eq!(writer.property(1, "lead_score").await, None, "the ledger does not have it");
    writer.until_done(&written).await;
    writer.until_done(&proposed).await;
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("85"));
}

/// The call of a writer that lost its lease took effect late and put an older value over a newer one.
#[tokio::test]
async fn the_verifier_writes_the_newest_value_again_but_never_over_a_persons() {
    let writer = TestWriter::start().await;
    for id in [1, 2] {
        let record = writer.contact(id).await;
        let older = writer.decide(&record, 1, &[set("lead_score", "25")], Vec::new()).await;
        assert_eq!(writer.handle(&older).await, Disposition::Done);
        let newer = writer.decide(&record, 2, &[set("lead_score", "85")], Vec::new()).await;
        assert_eq!(writer.handle(&newer).await, Disposition::Done);
        writer.ledger.mark_for_verification(&[record]).await.expect("marked");
    }
    writer.edit_as_app(1, "lead_score", "25").await;
    writer.edit(2, "lead_score", "12", "CRM_UI").await;
    writer.verifier.pass().await.expect("verified");
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("85"), "our own older value is replaced");
    assert_eq!(writer.property(2, "lead_score").await.as_deref(), Some("12"), "the person's value stays");
    assert_eq!(writer.query::<i64>("select count(*) from record_lease").await, 0);
}

/// A protected property was never ours to write, whoever put it into the ledger; a deal's stage is ours, by an action.
#[tokio::test]
async fn the_verifier_leaves_protected_properties_and_unreadable_records_alone() {
    let writer = TestWriter::start().await;
    for id in [1, 2] {
        let record = writer.contact(id).await;
        let changes = [set("lead_score", "85"), set("ai_budget_estimate", "50000")];
        let command = writer.decide(&record, 1, &changes, Vec::new()).await;
        assert_eq!(writer.handle(&command).await, Disposition::Done);
        writer.edit_as_app(id, "lead_score", "25").await;
        writer.ledger.mark_for_verification(&[record]).await.expect("marked");
    }
    writer.execute("update write set property = 'hubspot_owner_id' where property = 'ai_budget_estimate'").await;
    writer.edit_as_app(2, "hubspot_owner_id", "7").await;
    writer.fault(&Fault::new(Target::Hubspot, FaultKind::Malformed).on_path("/batch/read").containing("\"1\"")).await;
    writer.verifier.pass().await.expect("the other one is verified");
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("25"), "it stays marked");
    assert_eq!(writer.property(2, "lead_score").await.as_deref(), Some("85"));
    assert_eq!(writer.property(2, "hubspot_owner_id").await.as_deref(), Some("7"));
    assert_eq!(writer.query::<i64>("select count(*) from record_lease where verify").await, 1);
}

#[tokio::test]
async fn a_value_that_hubspot_refuses_keeps_no_record_marked_and_costs_it_no_other_value() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let changes = [set("lead_score", "85"), set("ai_budget_estimate", "50000")];
    let command = writer.decide(&record, 1, &changes, Vec::new()).await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    for property in ["lead_score", "ai_budget_estimate"] {
        writer.edit_as_app(1, property, "25").await;
    }
    writer.execute("update write set after = 'no number' where property = 'lead_score'").await;
    writer.ledger.mark_for_verification(&[record]).await.expect("marked");
    writer.verifier.pass().await.expect("verified");
    assert_eq!(writer.property(1, "ai_budget_estimate").await.as_deref(), Some("50000"));
    assert_eq!(writer.property(1, "lead_score").await.as_deref(), Some("25"));
    assert_eq!(writer.query::<i64>("select count(*) from record_lease").await, 0);
}

#[tokio::test]
async fn a_record_whose_verification_is_refused_again_and_again_is_given_up() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let command = writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await;
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    writer.edit_as_app(1, "lead_score", "25").await;
    writer.ledger.mark_for_verification(&[record]).await.expect("marked");
    writer.fault(&Fault::new(Target::Hubspot, FaultKind::Status { code: 403, retry_after: None })).await;
    for failures in 1..=5 {
        let marked = writer.query::<i64>("select count(*) from record_lease where verify").await;
        assert_eq!(marked, 1, "before failure {failures}");
        writer.verifier.pass().await.expect("nothing else is wrong");
        writer.execute("update record_lease set expires_at = 'epoch'").await;
    }
    assert_eq!(writer.query::<i64>("select count(*) from record_lease").await, 0);
}
