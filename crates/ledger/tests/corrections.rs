//! What people change of written values is recorded once, however often and by whatever it is seen.

use std::time::Duration;

use domain::{CommandState, Correction, CorrectionSource, ObjectId, RecordRef, inference::ErasureCause};
use ledger::{CommandResult, RecordMerge, RecordedCorrection};
use time::OffsetDateTime;

use crate::fixtures::{PLAYBOOK, TestLedger, contact, event, result, written};

/// A person sets the score of a contact, so many seconds from now.
fn set(id: i64, value: &str, seconds: i64) -> Correction {
    Correction {
        record: contact(id),
        property: "lead_score".to_owned(),
        value: Some(value.to_owned()).filter(|value| !value.is_empty()),
        changed_at: OffsetDateTime::now_utc() + time::Duration::seconds(seconds),
    }
}

impl TestLedger {
    /// How many corrections were not known before.
    async fn seen(&self, correction: &Correction, by: CorrectionSource) -> usize {
        let corrections = std::slice::from_ref(correction);
        self.ledger.record_corrections(corrections, by).await.expect("recorded").len()
    }

    /// Each correction: the written value, the person's, by what it was seen, whether it was taken back.
    async fn overrides(&self) -> String {
        self.value(
            "select coalesce(string_agg(concat_ws(' ', written_value, coalesce(persons_value, '-'), seen_by,
                                                  case when taken_back_at is not null then 'taken back' end),
                                        ', ' order by changed_at), 'none') from overrides",
        )
        .await
    }
}

#[tokio::test]
async fn a_persons_value_is_recorded_once_however_often_it_is_seen() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    test.written(&command, "a").await;
    let corrections = [set(1, "12", 10)];
    let recorded = test.ledger.record_corrections(&corrections, CorrectionSource::Webhook).await.expect("recorded");
    assert_eq!(recorded, [RecordedCorrection { playbook: PLAYBOOK.to_owned(), property: "lead_score".to_owned() }]);
    assert_eq!(test.seen(&corrections[0], CorrectionSource::Webhook).await, 0, "HubSpot delivered it again");
    assert_eq!(test.seen(&set(1, "12", 9), CorrectionSource::Read).await, 0, "by a clock that differs a little");
    assert_eq!(test.overrides().await, "85 12 webhook");
    assert_eq!(test.seen(&set(1, "15", 20), CorrectionSource::Webhook).await, 1, "another value");
    assert_eq!(test.seen(&set(1, "", 30), CorrectionSource::Read).await, 1, "it was cleared");
    assert_eq!(test.overrides().await, "85 12 webhook, 85 15 webhook, 85 - read");
    assert_eq!(test.seen(&set(1, "12", 40), CorrectionSource::Read).await, 0, "a value that was there before");
    assert_eq!(test.overrides().await, "85 15 webhook, 85 - read, 85 12 webhook", "and is the newest now");
}

#[tokio::test]
async fn two_that_see_a_correction_at_the_same_time_record_it_once() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    test.written(&command, "a").await;
    let correction = set(1, "12", 10);
    let seen = |by| test.seen(&correction, by);
    let (webhook, read, again) =
        tokio::join!(seen(CorrectionSource::Webhook), seen(CorrectionSource::Read), seen(CorrectionSource::Webhook));
    assert_eq!(webhook + read + again, 1);
}

#[tokio::test]
async fn only_what_was_written_before_is_corrected_and_only_by_another_value() {
    let test = TestLedger::new().await;
    assert_eq!(test.seen(&set(1, "12", 10), CorrectionSource::Webhook).await, 0, "nothing was written");
    let first = test.decided(&event(1, 1)).await;
    test.written(&first, "a").await;
    assert_eq!(test.seen(&set(1, "12", -60), CorrectionSource::Webhook).await, 0, "it was there before");
    assert_eq!(test.seen(&set(1, "85", 10), CorrectionSource::Webhook).await, 0, "the same value");
    let other = Correction { property: "jobtitle".to_owned(), ..set(1, "12", 10) };
    assert_eq!(test.seen(&other, CorrectionSource::Webhook).await, 0, "another property");
    assert_eq!(test.seen(&set(2, "12", 10), CorrectionSource::Webhook).await, 0, "another record");
    assert_eq!(test.overrides().await, "none");

    // Told late: the person corrected the first value, before the second was written.
    test.run("update write set written_at = now() - interval '1 hour', after = '40'").await;
    let second = test.decided(&event(1, 2)).await;
    test.written(&second, "a").await;
    assert_eq!(test.seen(&set(1, "12", -600), CorrectionSource::Webhook).await, 1);
    assert_eq!(test.overrides().await, "40 12 webhook");
}

#[tokio::test]
async fn a_person_who_puts_the_written_value_back_takes_the_correction_back() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    test.written(&command, "a").await;
    test.seen(&set(1, "12", 10), CorrectionSource::Webhook).await;
    test.seen(&set(1, "85", 20), CorrectionSource::Webhook).await;
    assert_eq!(test.overrides().await, "85 12 webhook taken back");
    let since = OffsetDateTime::now_utc() - Duration::from_secs(3_600);
    assert_eq!(test.ledger.corrected_answers(None, since, 10).await.expect("asked"), []);
    test.seen(&set(1, "12", 15), CorrectionSource::Read).await;
    assert_eq!(test.overrides().await, "85 12 webhook taken back", "told again, and late");
    test.seen(&set(1, "12", 30), CorrectionSource::Read).await;
    assert_eq!(test.overrides().await, "85 12 webhook");
    let answers = test.ledger.corrected_answers(Some(PLAYBOOK), since, 10).await.expect("asked");
    assert_eq!(answers.len(), 1);
    let value = &answers[0].values[0];
    assert_eq!((&answers[0].record, value.written.as_str(), value.value.as_deref()), (&contact(1), "85", Some("12")));
    assert_eq!(test.ledger.corrected_answers(Some("another"), since, 10).await.expect("asked"), []);
}

#[tokio::test]
async fn what_was_written_to_a_record_before_it_was_merged_is_corrected_at_the_survivor() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    test.written(&command, "a").await;
    let merge = RecordMerge { old: contact(1), survivor: ObjectId(7) };
    test.ledger.record_merges(&[merge]).await.expect("recorded");
    assert_eq!(test.seen(&set(7, "12", 10), CorrectionSource::Webhook).await, 1);
}

/// A writer that lost its command, or died before the commit, has recorded nothing; who takes the command over records it.
#[tokio::test]
async fn what_a_writer_sees_is_recorded_with_its_result_or_not_at_all() {
    let test = TestLedger::new().await;
    let first = test.decided(&event(1, 1)).await;
    test.written(&first, "a").await;
    let second = test.decided(&event(1, 2)).await;
    test.lease(&second.record, "a").await;
    let attempt = test.claimed_command(&second, "a").await;
    let seen = |attempt| CommandResult {
        corrections: vec![set(1, "12", 10)],
        ..result(&second, attempt, CommandState::Skipped, Some(domain::Reason::KeptHumanValue))
    };
    assert!(!test.finish(&seen(attempt + 1), "a").await);
    assert_eq!(test.overrides().await, "none");
    test.end_command_leases().await;
    let again = test.claimed_command(&second, "a").await;
    assert!(!test.finish(&seen(attempt), "a").await, "another writer took it over");
    assert_eq!(test.overrides().await, "none");
    assert!(test.finish(&seen(again), "a").await);
    assert_eq!(test.overrides().await, "85 12 read");
}

#[tokio::test]
async fn a_value_of_a_command_itself_is_not_what_a_person_corrected_before() {
    let test = TestLedger::new().await;
    let first = test.decided(&event(1, 1)).await;
    test.written(&first, "a").await;
    let second = test.decided(&event(1, 2)).await;
    test.lease(&second.record, "a").await;
    let attempt = test.claimed_command(&second, "a").await;
    let over = CommandResult { corrections: vec![set(1, "12", 0)], ..written(&second, attempt) };
    assert!(test.finish(&over, "a").await);
    let corrected: String = test.value("select write_command_id::text from correction").await;
    assert_eq!(corrected, first.id.to_string());
}

#[tokio::test]
async fn corrections_go_with_the_record_and_with_the_events() {
    let test = TestLedger::new().await;
    for id in [1, 2] {
        let command = test.decided(&event(id, 1)).await;
        test.written(&command, "a").await;
        test.seen(&set(id, "Zebulon", 10), CorrectionSource::Webhook).await;
    }
    test.ledger.request_erasure(&contact(1), ErasureCause::Operator).await.expect("requested");
    test.ledger.erase(&contact(1)).await.expect("erased");
    let left = "select string_agg(concat_ws(' ', object_id, value), ', ' order by object_id) from correction";
    assert_eq!(test.value::<String>(left).await, "0 (erased), 2 Zebulon");
    let answers = test.ledger.corrected_answers(None, OffsetDateTime::UNIX_EPOCH, 10).await.expect("asked");
    assert_eq!(answers.iter().map(|answer| &answer.record).collect::<Vec<&RecordRef>>(), [&contact(2)]);
    // Told again, it finds nothing that it could be a correction of.
    assert_eq!(test.seen(&set(1, "Zebulon", 10), CorrectionSource::Webhook).await, 0);

    test.run(
        "alter table event disable trigger user; update event set finished_at = '2020-01-01'; alter table event enable trigger user",
    )
    .await;
    assert_eq!(test.ledger.delete_finished(10).await.expect("deleted"), 2);
    assert_eq!(test.value::<i64>("select count(*) from correction").await, 0);
}
