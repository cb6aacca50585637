//! A write command is claimed as an event is: by one writer at a time, until it has ended.

use std::time::Duration;

use domain::{CommandState, Reason, WriteCommandId};
use ledger::CommandClaim;

use crate::fixtures::{LEASE, TestLedger, event, result, worker, written};

#[tokio::test]
async fn a_command_is_granted_to_one_writer_until_its_lease_ends() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    assert_eq!(
        test.claim_command(&command, "a").await,
        CommandClaim::Granted { attempt: 1, written: vec![], age: Duration::ZERO }
    );
    assert_eq!(test.claim_command(&command, "b").await, CommandClaim::LeasedElsewhere);
    test.end_command_leases().await;
    assert_eq!(
        test.claim_command(&command, "b").await,
        CommandClaim::Granted { attempt: 2, written: vec![], age: Duration::ZERO }
    );
    assert!(
        !test.finish(&result(&command, 1, CommandState::Superseded, None), "a").await,
        "the late one counts no more"
    );
    assert!(test.finish(&result(&command, 2, CommandState::Superseded, Some(Reason::NewerEventWritten)), "b").await);
    assert_eq!(test.claim_command(&command, "a").await, CommandClaim::Finished);
}

#[tokio::test]
async fn a_waiting_command_is_granted_with_what_it_has_written() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    test.lease(&command.record, "a").await;
    let attempt = test.claimed_command(&command, "a").await;
    let mut waits = written(&command, attempt);
    (waits.state, waits.reason, waits.wait) = (CommandState::Waiting, Some(Reason::ChannelUnavailable), Some(LEASE));
    assert!(test.finish(&waits, "a").await, "its properties are written, its action waits");
    let claim = test.claim_command(&command, "b").await;
    assert_eq!(
        claim,
        CommandClaim::Granted { attempt: 2, written: vec!["lead_score".to_owned()], age: Duration::ZERO }
    );
}

#[tokio::test]
async fn a_batch_is_answered_in_its_order_and_each_command_once() {
    let test = TestLedger::new().await;
    let first = test.decided(&event(1, 1)).await;
    let second = test.decided(&event(2, 1)).await;
    let ids = [second.id, WriteCommandId::new(), first.id, second.id];
    let claims = test.ledger.claim_commands(&ids, &worker("a"), LEASE).await.expect("claimed");
    let granted = || CommandClaim::Granted { attempt: 1, written: vec![], age: Duration::ZERO };
    assert_eq!(claims, [granted(), CommandClaim::Unknown, granted(), CommandClaim::LeasedElsewhere]);
}

#[tokio::test]
async fn a_command_is_read_as_it_was_decided() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    let ids = [command.id.0, WriteCommandId::new().0];
    assert_eq!(test.ledger.commands(&ids).await.expect("read"), [command]);
}
