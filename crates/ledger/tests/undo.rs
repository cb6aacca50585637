//! What an undo leaves in the ledger, and what becomes of that.

use domain::{
    EventState, ObjectId, UndoId, WriteCommand, WriteCommandId,
    inference::ErasureCause,
    write_command::{ExpectedValue, PropertyChange, WritePolicy},
};
use ledger::{KnownWrite, RecordMerge, UndoCommand, UndoRequest, UndoSelection, WriteStanding};

use crate::fixtures::{PORTAL, TestLedger, contact, event};

impl TestLedger {
    /// The writes of the properties of which one is selected.
    async fn to_undo(&self, selection: &UndoSelection) -> Vec<KnownWrite> {
        let records = self.ledger.records_to_undo(PORTAL, selection).await.expect("asked");
        self.ledger.writes_to_undo(PORTAL, selection, &records).await.expect("asked")
    }
}

pub fn request() -> UndoRequest {
    let (asked_by, selection) = ("sales-ops".to_owned(), "one event".to_owned());
    UndoRequest { id: UndoId::new(), asked_by, why: Some("wrong playbook".to_owned()), selection }
}

/// The command that puts a property back from what `of` wrote to what was there before.
pub fn undo_to(of: &WriteCommand, value: &str) -> UndoCommand {
    UndoCommand {
        id: WriteCommandId::new(),
        of: of.id,
        occurred_at: of.occurred_at + time::Duration::microseconds(1),
        record: of.record.clone(),
        properties: vec![PropertyChange {
            property: "lead_score".to_owned(),
            value: value.to_owned(),
            policy: WritePolicy::Always,
            expected: Some(ExpectedValue { value: Some(of.properties[0].value.clone()) }),
        }],
        actions: Vec::new(),
        undone_writes: vec![(of.id, "lead_score".to_owned())],
        undone_actions: Vec::new(),
    }
}

fn undo(of: &WriteCommand) -> UndoCommand {
    undo_to(of, "")
}

#[tokio::test]
async fn a_write_is_selected_until_it_is_undone_and_its_event_goes_with_it_in_time() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    test.written(&command, "a").await;
    let portal = command.record.portal_id;
    let selection = UndoSelection { records: Some(vec![command.record.clone()]), ..UndoSelection::default() };
    let standing = async || {
        let writes = test.to_undo(&selection).await;
        writes.iter().map(|write| write.standing).collect::<Vec<_>>()
    };
    assert_eq!(standing().await, [WriteStanding::Selected]);
    let undo = undo(&command);
    assert_eq!(test.ledger.record_undo(&request(), std::slice::from_ref(&undo)).await.expect("recorded"), [undo.id]);
    assert_eq!(standing().await, []);
    assert_eq!(test.ledger.unfinished_undo_commands(portal).await.expect("asked"), [undo.id]);
    // A writer carries it out; the event's outcome is not touched.
    test.written(&WriteCommand { id: undo.id, ..command.clone() }, "a").await;
    assert_eq!(test.state(&event(1, 1)).await, (EventState::Written, None));
    let told: String =
        test.value("select concat_ws(' ', asked_by, why, undone_value, outcome) from undone_properties").await;
    assert_eq!(told, "sales-ops wrong playbook 85 written");

    test.run(
        "alter table event disable trigger user;
         update event set finished_at = '2020-01-01 12:00:00+00';
         alter table event enable trigger user",
    )
    .await;
    assert_eq!(test.ledger.delete_finished(10).await.expect("deleted"), 1);
    assert_eq!(test.value::<i64>("select count(*) from write_command").await, 0);
    assert_eq!(test.value::<i64>("select count(*) from undone_write").await, 0);
}

#[tokio::test]
async fn nothing_of_an_erased_person_is_left_in_an_undo() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    test.written(&command, "a").await;
    let undo = undo(&command);
    test.ledger.record_undo(&request(), std::slice::from_ref(&undo)).await.expect("recorded");
    test.ledger.request_erasure(&command.record, ErasureCause::Operator).await.expect("requested");
    test.ledger.erase(&command.record).await.expect("erased");
    let left: i64 = test
        .value("select count(*) from write_command where object_id = 1 or properties <> '[]' or event_key like '%:1:%'")
        .await;
    assert_eq!(left, 0);
    let undo: String = test.value("select concat_ws(' ', asked_by, why, selection) from undo").await;
    assert!(!undo.contains('1'), "{undo}");
    let erased: String = test.value("select undone_value from undone_properties").await;
    assert_eq!(erased, "(erased)");
}

#[tokio::test]
async fn a_selection_names_the_records_as_they_are_known_now_and_tells_of_every_write_of_a_concerned_property() {
    let test = TestLedger::new().await;
    let first = test.decided(&event(1, 1)).await;
    test.written(&first, "a").await;
    test.run("update write set written_at = now() - interval '2 hours'").await;
    for (id, n) in [(1, 2), (2, 1)] {
        let command = test.decided(&event(id, n)).await;
        test.written(&command, "a").await;
    }
    let merge = RecordMerge { old: contact(1), survivor: ObjectId(7) };
    test.ledger.record_merges(&[merge]).await.expect("recorded");
    let since = Some(time::OffsetDateTime::now_utc() - time::Duration::hours(1));
    let selection = UndoSelection { since, ..UndoSelection::default() };
    let records = test.ledger.records_to_undo(PORTAL, &selection).await.expect("asked");
    assert_eq!(records, [contact(2), contact(7)]);
    // A page of one record tells nothing of the other.
    let page = test.ledger.writes_to_undo(PORTAL, &selection, &records[1..]).await.expect("asked");
    let told: Vec<_> = page.iter().map(|write| (write.record.clone(), write.standing)).collect();
    assert_eq!(told, [(contact(7), WriteStanding::Selected), (contact(7), WriteStanding::Other)]);
    let earlier = UndoSelection { until: since, ..UndoSelection::default() };
    assert_eq!(test.ledger.records_to_undo(PORTAL, &earlier).await.expect("asked"), [contact(7)]);
    let other = UndoSelection { playbook: Some("another".to_owned()), ..UndoSelection::default() };
    assert_eq!(test.ledger.records_to_undo(PORTAL, &other).await.expect("asked"), []);
}
