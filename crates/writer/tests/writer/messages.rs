//! What becomes of a message that is no write command, not ours, or delivered twice.

use std::sync::Arc;

use broker::{Delivery, Disposition, Handler, Message};
use domain::{PortalId, Reason, WriteCommandId};

use crate::fixtures::{TestWriter, set};

#[tokio::test]
async fn a_message_that_is_not_a_valid_write_command_is_parked() {
    let writer = TestWriter::start().await;
    let message = Arc::new(Message::new("x", b"{}".to_vec()));
    let disposition = writer.handler.handle(Delivery { message, redelivered: false }).await;
    assert!(matches!(disposition, Disposition::Park { reason: Reason::CommandInvalid, .. }), "{disposition:?}");
}

#[tokio::test]
async fn a_command_for_another_portal_or_unknown_to_the_ledger_is_parked() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let command = writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await;
    let mut foreign = command.clone();
    foreign.record.portal_id = PortalId(1);
    let disposition = writer.handle(&foreign).await;
    assert!(matches!(disposition, Disposition::Park { reason: Reason::WrongPortal, .. }), "{disposition:?}");
    let unknown = domain::WriteCommand { id: WriteCommandId::new(), ..command };
    let disposition = writer.handle(&unknown).await;
    assert!(matches!(disposition, Disposition::Park { reason: Reason::UnknownCommand, .. }), "{disposition:?}");
    assert!(writer.contact_writes().await.is_empty());
}

#[tokio::test]
async fn a_command_that_is_delivered_twice_is_written_once() {
    let writer = TestWriter::start().await;
    let record = writer.contact(1).await;
    let command = writer.decide(&record, 1, &[set("lead_score", "85")], Vec::new()).await;
    let (first, second) = tokio::join!(writer.handle(&command), writer.handle(&command));
    let deferred = Disposition::Defer { delay: None, reason: Reason::LeasedElsewhere };
    let both = [first, second];
    assert!(both.contains(&Disposition::Done), "{both:?}");
    assert!(both.iter().all(|one| *one == Disposition::Done || *one == deferred), "{both:?}");
    assert_eq!(writer.handle(&command).await, Disposition::Done);
    assert_eq!(writer.contact_writes().await.len(), 1);
}
