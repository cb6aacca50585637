//! A write command is claimed as an event is: by one writer at a time, until it has ended.

use std::time::Duration;

use domain::{CommandState, EventState, PortalId, Reason, WriteCommandId};
use ledger::CommandClaim;

use crate::fixtures::{LEASE, PORTAL, TestLedger, event, granted, result, worker, written};

#[tokio::test]
async fn a_command_is_granted_to_one_writer_until_its_lease_ends() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    assert_eq!(test.claim_command(&command, "a").await, granted(&command, 1, &[]));
    assert_eq!(test.claim_command(&command, "b").await, CommandClaim::LeasedElsewhere);
    test.end_command_leases().await;
    assert_eq!(test.claim_command(&command, "b").await, granted(&command, 2, &[]));
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
    assert_eq!(claim, granted(&command, 2, &["lead_score"]));
}

#[tokio::test]
async fn a_batch_is_answered_in_its_order_and_each_command_once() {
    let test = TestLedger::new().await;
    let first = test.decided(&event(1, 1)).await;
    let second = test.decided(&event(2, 1)).await;
    let ids = [second.id, WriteCommandId::new(), first.id, second.id];
    let claims = test.ledger.claim_commands(&ids, PORTAL, &worker("a"), LEASE).await.expect("claimed");
    let expected =
        [granted(&second, 1, &[]), CommandClaim::Unknown, granted(&first, 1, &[]), CommandClaim::LeasedElsewhere];
    assert_eq!(claims, expected, "with properties and actions as decided");
}

#[tokio::test]
async fn a_command_of_another_portal_is_told_apart_and_can_be_ended() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    let other = PortalId(1);
    let claims = test.ledger.claim_commands(&[command.id], other, &worker("a"), LEASE).await.expect("asked");
    assert_eq!(claims, [CommandClaim::OtherPortal { attempt: 1, portal: PORTAL }]);
    let parked = result(&command, 1, CommandState::Parked, Some(Reason::WrongPortal));
    assert!(test.finish(&parked, "a").await);
    assert_eq!(test.state(&event(1, 1)).await, (EventState::Parked, Some(Reason::WrongPortal)));
}

#[tokio::test]
async fn a_command_whose_row_cannot_be_read_keeps_no_other_of_its_batch_away() {
    let test = TestLedger::new().await;
    let (bad, good) = (test.decided(&event(1, 1)).await, test.decided(&event(2, 1)).await);
    test.run(&format!("update write_command set properties = '[{{\"secret\": 1}}]' where id = '{}'", bad.id)).await;
    let claims = test.ledger.claim_commands(&[bad.id, good.id], PORTAL, &worker("a"), LEASE).await.expect("claimed");
    let detail = "the ledger's column `properties` does not have the documented form".to_owned();
    assert_eq!(claims, [CommandClaim::Unreadable { attempt: 1, detail }, granted(&good, 1, &[])]);
}

#[tokio::test]
async fn a_command_of_a_newer_format_is_told_apart_and_can_wait() {
    let test = TestLedger::new().await;
    let (newer, known) = (test.decided(&event(1, 1)).await, test.decided(&event(2, 1)).await);
    // A form that this version cannot read.
    test.run(&format!("update write_command set format = 2, properties = '{{}}' where id = '{}'", newer.id)).await;
    let claims = test.ledger.claim_commands(&[newer.id, known.id], PORTAL, &worker("a"), LEASE).await.expect("claimed");
    let expected = CommandClaim::NewerFormat { attempt: 1, format: 2, age: Duration::ZERO };
    assert_eq!(claims, [expected, granted(&known, 1, &[])]);
    let waits = result(&newer, 1, CommandState::Waiting, Some(Reason::NewerVersion));
    assert!(test.finish(&waits, "a").await);
    assert_eq!(test.ledger.command_state(newer.id).await.expect("asked"), Some(CommandState::Waiting));
    let formats = "select string_agg(format::text, ' ' order by object_id) from write_command";
    assert_eq!(test.value::<String>(formats).await, "2 1", "a command has the format of its writer");
}

#[tokio::test]
async fn a_commands_state_is_known_by_its_id() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    assert_eq!(test.ledger.command_state(command.id).await.expect("asked"), Some(CommandState::Recorded));
    let unknown = WriteCommandId::new();
    assert_eq!(test.ledger.command_state(unknown).await.expect("asked"), None);
}
