//! Nothing that is known about an erased record is left in any table, nothing of others is lost, and nothing comes back.

use std::time::Duration;

use domain::{
    CommandState, Correction, CorrectionSource, Event, EventId, EventState, Inference, ObjectId, ObjectType, Reason,
    RecordRef,
    event::{EventKey, EventKind, Subject},
    inference::{ErasureCause, ReadRecord},
    write_command::ActionSpec,
};
use ledger::{
    ChargeRequest, Claim, ClaimDenied, CommandClaim, Decision, Erased, PriorAnswersRequest, RecordLimits, RecordMerge,
    SkippedWrite, WrittenProperty,
};
use serde_json::json;
use time::OffsetDateTime;

use crate::fixtures::{
    LEASE, PORTAL, TestLedger, command, contact, decision, decision_with_commands, event, inference, result, worker,
    written,
};

/// The contact who is erased: an id that stands nowhere by chance.
pub const ZEBULON: i64 = 777_000_111;

/// What only he has written, or was written about him.
pub const MARKER: &str = "Zebulon";

/// A note of his.
const NOTE: i64 = 880_002_222;

/// What others have written.
pub const OTHERS: &str = "Bystander";

impl TestLedger {
    /// Asks for a record to be erased, and erases it.
    pub async fn erase(&self, record: &RecordRef, cause: ErasureCause) -> Erased {
        self.ledger.request_erasure(record, cause).await.expect("requested");
        self.ledger.erase(record).await.expect("erased").0
    }

    /// The columns of all tables in which a text stands, with the number of rows.
    pub async fn found(&self, text: &str) -> Vec<String> {
        let columns: Vec<String> = self
            .value(
                "select array(select format('%I %I', c.table_name, c.column_name)
                              from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
                              where c.table_schema = 'public' and t.table_type = 'BASE TABLE' order by 1)",
            )
            .await;
        assert!(columns.len() > 100, "{}", columns.len());
        let mut found = Vec::new();
        for (table, column) in columns.iter().filter_map(|column| column.split_once(' ')) {
            let rows: i64 =
                self.value(&format!("select count(*) from {table} where {column}::text like '%{text}%'")).await;
            if rows > 0 {
                found.push(format!("{table}.{column}: {rows}"));
            }
        }
        found
    }

    /// Claims an event and commits an answer about `record`, for which `read` was read, with a write command.
    pub async fn answered(&self, event: &Event, record: &RecordRef, read: Vec<ReadRecord>, text: &str) -> Decision {
        let claimed = self.claimed(event, "inference").await;
        let inference = Inference {
            read,
            prompt: json!([{"role": "user", "content": format!("{text} called")}]),
            answer: format!("{{\"summary\": \"{text}\"}}"),
            fields: json!({"summary": text}),
            ..inference(record)
        };
        let mut command = command(event, &claimed, &inference);
        text.clone_into(&mut command.properties[0].value);
        command.actions[0].spec = ActionSpec::CreateNote { body: text.to_owned(), associations: vec![] };
        let decision = Decision {
            inferences: vec![inference],
            commands: vec![command],
            ..decision(&claimed, EventState::Decided, None)
        };
        assert!(self.commit(&decision).await);
        decision
    }

    /// Carries out the write command of a decision; the property held `before`.
    pub async fn carried_out(&self, decision: &Decision, before: Option<&str>) {
        let command = &decision.commands[0];
        self.lease(&command.record, "writer").await;
        let attempt = self.claimed_command(command, "writer").await;
        let mut result = written(command, attempt);
        result.written = vec![WrittenProperty { before: before.map(str::to_owned), ..result.written.remove(0) }];
        result.skipped_writes = vec![SkippedWrite {
            property: command.properties[0].property.clone(),
            reason: Reason::KeptHumanValue,
            current_value: before.map(str::to_owned),
            proposed_value: command.properties[0].value.clone(),
        }];
        assert!(self.finish(&result, "writer").await);
        let records = std::slice::from_ref(&command.record);
        self.ledger.unlock_records(records, &worker("writer")).await.expect("unlocked");
    }

    /// A person sets the written property of a contact to this.
    pub async fn corrected(&self, id: i64, value: &str) {
        let correction = Correction {
            record: contact(id),
            property: "lead_score".to_owned(),
            value: Some(value.to_owned()),
            changed_at: OffsetDateTime::now_utc() + Duration::from_secs(1),
        };
        let recorded = self.ledger.record_corrections(&[correction], CorrectionSource::Webhook).await;
        assert_eq!(recorded.expect("recorded").len(), 1);
    }

    /// An event whose value holds `text`, in the state that the worker decides.
    async fn ended_as(&self, event: &Event, state: EventState, reason: Reason, text: &str) {
        let claimed = self.claimed(event, "inference").await;
        let detail = Some(format!("{text} is not a date"));
        assert!(self.commit(&Decision { detail, ..decision(&claimed, state, Some(reason)) }).await);
    }
}

pub fn zebulon() -> RecordRef {
    contact(ZEBULON)
}

/// The `n`th event of a contact, about a value that holds `text`.
fn valued(contact: i64, n: i64, text: &str) -> Event {
    let payload = json!({"objectId": contact, "eventId": n, "propertyValue": text});
    Event { payload: payload.into(), ..event(contact, n) }
}

fn of_type(object_type: ObjectType, id: i64, n: i64, text: &str) -> Event {
    let subject = Subject::Record { object_type, object_id: ObjectId(id) };
    let event = valued(id, n, text);
    let key =
        EventKey::new(PORTAL, EventKind::PropertyChange, &subject, Some("x"), 1_900_000_000_000 + n, &n.to_string());
    Event { key, subject, ..event }
}

/// An event about an association of the erased contact with a note or a deal.
fn associated(to_type: &str, to: i64, n: i64) -> Event {
    let payload =
        json!({"fromObjectId": ZEBULON, "toObjectId": to, "fromObjectTypeId": "0-1", "toObjectTypeId": to_type});
    let body = json!([{"eventId": n, "portalId": PORTAL.0, "occurredAt": 1_900_000_000_000_i64 + n,
        "subscriptionType": "contact.associationChange", "associationType": "X", "fromObjectId": ZEBULON, "toObjectId": to}]);
    let subject: Subject =
        serde_json::from_value(json!({"association": {"object_type": "0-1", "from": ZEBULON, "to": to,
        "to_type": to_type, "association": "X+"}}))
        .expect("a subject");
    let key =
        EventKey::new(PORTAL, EventKind::AssociationChange, &subject, None, 1_900_000_000_000 + n, &body.to_string());
    Event {
        key,
        subject,
        kind: EventKind::AssociationChange,
        property_name: None,
        payload: payload.into(),
        ..event(ZEBULON, n)
    }
}

pub fn read(object_type: ObjectType, id: i64, is_own: bool) -> ReadRecord {
    ReadRecord { object_type, object_id: ObjectId(id), is_own }
}

/// The statement that adds so many events of the contact that wait.
fn many_events(count: usize) -> String {
    format!(
        "insert into event (id, event_key, portal_id, subscription_type, object_type, object_id, occurred_at, payload,
                            state, worker, message_copy_id)
         select gen_random_uuid(), 'k' || n, {}, 'contact.creation', '0-1', {ZEBULON}, now(), '{{\"propertyValue\": \"{MARKER}\"}}',
                'waiting', 'a', gen_random_uuid() from generate_series(1, {count}) n",
        PORTAL.0
    )
}

/// Everything that the ledger can know about the contact, and about others beside him.
async fn everything() -> TestLedger {
    let test = TestLedger::new().await;
    let note = || read(ObjectType::Note, NOTE, true);
    // His own: an answer that is written, one that waits for a writer, events that wait, are parked, are claimed.
    let own = test.answered(&valued(ZEBULON, 1, MARKER), &zebulon(), vec![note()], MARKER).await;
    test.carried_out(&own, Some("Zebulon before")).await;
    test.answered(&valued(ZEBULON, 2, MARKER), &zebulon(), vec![], MARKER).await;
    test.ended_as(&valued(ZEBULON, 3, MARKER), EventState::Waiting, Reason::OpenAiTimeout, MARKER).await;
    test.ended_as(&valued(ZEBULON, 4, MARKER), EventState::Parked, Reason::Refused, MARKER).await;
    test.ended_as(&valued(ZEBULON, 5, MARKER), EventState::Skipped, Reason::Guard, MARKER).await;
    let claimed = test.claimed(&valued(ZEBULON, 6, MARKER), "inference").await;
    let charge = ChargeRequest {
        id: domain::ChargeId::new(),
        event_id: claimed.event_id,
        attempt: claimed.attempt,
        inference_id: domain::InferenceId::new(),
        playbook: "p".to_owned(),
        record: zebulon(),
        model: "m".to_owned(),
        most_micro_dollars: 5,
        record_limits: RecordLimits::default(),
    };
    assert_eq!(test.ledger.begin_charges(&[charge]).await.expect("begun"), [true]);
    // A part of a context of his that was never answered as a whole.
    let part = Inference {
        part: Some("hash".to_owned()),
        context_hash: None,
        prompt: json!([MARKER]),
        answer: MARKER.to_owned(),
        ..inference(&zebulon())
    };
    assert!(test.ledger.store_inference(claimed.event_id, claimed.attempt, &part, &[]).await.expect("stored"));
    // Others whose answers read him, or his note; and what was there before a later value.
    let other = test.answered(&event(2, 1), &contact(2), vec![read(ObjectType::Contact, ZEBULON, false)], MARKER).await;
    test.carried_out(&other, Some(OTHERS)).await;
    let later = test.answered(&event(2, 2), &contact(2), vec![], OTHERS).await;
    test.carried_out(&later, Some(MARKER)).await;
    // What people set in place of what was written: of his and of another's, also back to what was read of him.
    for (id, value) in [(ZEBULON, "Zebulon by hand"), (2, "Bystander by hand"), (2, MARKER)] {
        test.corrected(id, value).await;
    }
    let of_note = test.answered(&event(3, 1), &contact(3), vec![note()], MARKER).await;
    test.carried_out(&of_note, None).await;
    // An event of another record that led to an answer about him.
    test.answered(&of_type(ObjectType::Ticket, 9, 1, MARKER), &zebulon(), vec![], MARKER).await;
    // His note, another one that only an association event ties to him, and a deal that does not become his by that.
    test.ended_as(&of_type(ObjectType::Note, NOTE, 1, MARKER), EventState::Parked, Reason::Refused, MARKER).await;
    test.ended_as(&associated("0-46", 55, 1), EventState::Skipped, Reason::NoPlaybook, MARKER).await;
    test.ended_as(&of_type(ObjectType::Note, 55, 1, MARKER), EventState::Parked, Reason::Refused, MARKER).await;
    test.ended_as(&associated("0-3", 56, 2), EventState::Skipped, Reason::NoPlaybook, MARKER).await;
    test.ended_as(&of_type(ObjectType::Deal, 56, 2, OTHERS), EventState::Parked, Reason::Refused, OTHERS).await;
    // A lease that a writer has left behind.
    test.ledger.mark_for_verification(&[zebulon()]).await.expect("marked");
    // Of no concern: another contact, and a deal with the same id.
    let deal = RecordRef { portal_id: PORTAL, object_type: ObjectType::Deal, object_id: ObjectId(ZEBULON) };
    for (event, record) in [(valued(4, 1, OTHERS), contact(4)), (of_type(ObjectType::Deal, ZEBULON, 3, OTHERS), deal)] {
        let bystander = test.answered(&event, &record, vec![read(ObjectType::Note, 77, true)], OTHERS).await;
        test.carried_out(&bystander, Some(OTHERS)).await;
        test.ended_as(
            &Event { key: EventKey::from_text(format!("{} parked", event.key)), ..event },
            EventState::Parked,
            Reason::Refused,
            OTHERS,
        )
        .await;
    }
    test
}

/// Nothing of the contact is left once his erasure is finished, and everything of the others is.
async fn erased_completely(test: &TestLedger) {
    let others = test.found(OTHERS).await;
    let counts = "select concat_ws(' ', (select count(*) from event), (select count(*) from inference), \
                  (select sum(cost_micro_dollars) from inference), (select count(*) from write_command), \
                  (select count(*) from write), (select count(*) from skipped_write), (select count(*) from action), \
                  (select sum(micro_dollars) from charge))";
    let before: String = test.value(counts).await;
    assert!(test.found(MARKER).await.len() > 10 && test.found(&ZEBULON.to_string()).await.len() > 10);

    let erased = test.erase(&zebulon(), ErasureCause::PrivacyDeletion).await;
    assert!(erased.events > 5 && erased.inferences > 4 && erased.values > 4, "{erased:?}");
    test.ledger.conclude_erasure(&zebulon(), true).await.expect("finished");

    assert_eq!(test.found(MARKER).await, Vec::<String>::new());
    // The deal with the same id is somebody else's.
    let deals = format!("{ZEBULON}");
    for column in test.found(&deals).await {
        let (column, _) = column.split_once(": ").expect("a number");
        let (table, column) = column.split_once('.').expect("a column");
        let of_deal = match column {
            "object_id" | "payload" => "object_type = '0-3'".to_owned(),
            _ => format!("{column}::text like '%:0-3:{ZEBULON}:%'"),
        };
        let rows: i64 = test
            .value(&format!("select count(*) from {table} where {column}::text like '%{deals}%' and not ({of_deal})"))
            .await;
        assert_eq!(rows, 0, "{table}.{column}");
    }
    // Of his notes, only their events' keys: by these, an event has its effect once.
    assert_eq!(test.found(&NOTE.to_string()).await, ["event.event_key: 1", "event.object_id: 1", "event.payload: 1"]);
    assert_eq!(test.found(OTHERS).await, others, "nothing of the others is lost");
    assert_eq!(test.value::<String>(counts).await, before, "counts and costs stay");
    assert_eq!(test.value::<i64>("select count(*) from event where finished_at is null").await, 0);
    let parked: String = test
        .value("select string_agg(object_type || '/' || object_id, ' ' order by object_type, object_id) from parked")
        .await;
    // His engagements may be of others, too.
    assert_eq!(parked, format!("0-1/4 0-3/56 0-3/{ZEBULON} 0-46/55 0-46/{NOTE}"), "only what others may wait for");
    assert_eq!(test.erase(&zebulon(), ErasureCause::Operator).await, Erased::default(), "once more finds nothing");
}

#[tokio::test]
async fn nothing_of_an_erased_person_is_left_in_any_table_and_nothing_of_others_is_lost() {
    erased_completely(&everything().await).await;
}

#[tokio::test]
async fn a_person_is_erased_as_completely_when_the_prompts_are_gone_already() {
    let test = everything().await;
    test.run("delete from inference_raw").await;
    erased_completely(&test).await;
}

#[tokio::test]
async fn events_of_an_erased_person_start_nothing_and_leave_no_row() {
    let test = TestLedger::new().await;
    test.decided(&event(ZEBULON, 1)).await;
    test.claimed(&event(ZEBULON, 2), "a").await;
    test.ledger.request_erasure(&zebulon(), ErasureCause::PrivacyDeletion).await.expect("requested");
    let again = [event(ZEBULON, 1), event(ZEBULON, 2), event(ZEBULON, 3), associated("0-3", 5, 1)];
    let erased = || vec![Claim::Denied(ClaimDenied::Erased); again.len()];
    let claim = || async { test.claim(&again.iter().collect::<Vec<_>>(), "b").await };
    assert_eq!(claim().await, erased(), "from the moment in which it is asked for");
    test.ledger.erase(&zebulon()).await.expect("erased");
    assert_eq!(claim().await, erased());
    test.ledger.conclude_erasure(&zebulon(), true).await.expect("finished");
    assert_eq!(claim().await, erased(), "for good");
    assert_eq!(test.value::<i64>("select count(*) from event").await, 2);
    let others = test.claim(&[&event(1, 1), &of_type(ObjectType::Deal, ZEBULON, 1, "x")], "b").await;
    assert!(others.iter().all(|claim| matches!(claim, Claim::Granted(_))), "{others:?}");
}

#[tokio::test]
async fn what_happens_after_an_operator_erased_a_record_is_taken_again() {
    let test = TestLedger::new().await;
    test.decided(&event(ZEBULON, 2)).await;
    test.erase(&zebulon(), ErasureCause::Operator).await;
    for n in [1, 2] {
        let claims = test.claim(&[&event(ZEBULON, n)], "b").await;
        assert_eq!(claims, [Claim::Denied(ClaimDenied::Erased)], "HubSpot delivers event {n} again");
    }
    test.claimed(&event(ZEBULON, 3), "b").await;
}

/// A worker has claimed the event, or a writer the command, before the erasure; it goes on, and finishes.
#[tokio::test]
async fn who_was_at_work_on_it_commits_nothing_afterwards() {
    let test = TestLedger::new().await;
    let claimed = test.claimed(&event(ZEBULON, 1), "inference").await;
    let late = decision_with_commands(&event(ZEBULON, 1), &claimed, 1);
    let sending = test.decided(&event(ZEBULON, 2)).await;
    test.lease(&sending.record, "writer").await;
    let attempt = test.claimed_command(&sending, "writer").await;
    test.erase(&zebulon(), ErasureCause::PrivacyDeletion).await;
    assert!(!test.commit(&late).await);
    let part = &late.inferences[0];
    assert!(!test.ledger.store_inference(claimed.event_id, claimed.attempt, part, &[]).await.expect("asked"));
    assert!(!test.finish(&written(&sending, attempt), "writer").await);
    assert_eq!(test.claim_command(&sending, "writer").await, CommandClaim::Finished);
    let states: String = test.value("select string_agg(state || ' ' || reason, ', ') from event").await;
    assert_eq!(states, "dropped record_erased, dropped record_erased");
    assert_eq!(test.ledger.erased_commands(&[sending.id]).await.expect("asked"), [sending.id]);
    let left: i64 = test.value("select (select count(*) from inference_raw) + (select count(*) from write)").await;
    assert_eq!(left, 0);
}

/// A worker has read the person for an answer about somebody else, and commits it after the first pass.
#[tokio::test]
async fn an_answer_that_read_the_person_and_comes_late_is_erased_by_the_next_pass() {
    let test = TestLedger::new().await;
    let about_him = vec![read(ObjectType::Note, NOTE, true)];
    test.answered(&event(ZEBULON, 1), &zebulon(), about_him.clone(), MARKER).await;
    test.erase(&zebulon(), ErasureCause::PrivacyDeletion).await;
    test.ledger.conclude_erasure(&zebulon(), false).await.expect("erased");
    let late = test.answered(&event(2, 1), &contact(2), about_him, MARKER).await;
    let open = test.ledger.open_erasures(Duration::ZERO, Duration::ZERO, 0, 10).await.expect("asked");
    assert_eq!(open.len(), 1);
    assert!(open[0].is_erased && open[0].record == zebulon() && open[0].records.len() == 2, "{open:?}");
    let (erased, _) = test.ledger.erase(&zebulon()).await.expect("erased");
    assert_eq!((erased.inferences, erased.write_commands), (1, 1));
    assert_eq!(test.found(MARKER).await, Vec::<String>::new());
    assert_eq!(test.claim_command(&late.commands[0], "writer").await, CommandClaim::Finished);
    assert_eq!(test.state(&event(2, 1)).await, (EventState::Dropped, Some(Reason::RecordErased)));
}

#[tokio::test]
async fn many_erasures_at_once_do_not_wait_for_those_that_stay_open() {
    let test = TestLedger::new().await;
    for id in 1..=5 {
        test.ledger.request_erasure(&contact(id), ErasureCause::Operator).await.expect("requested");
    }
    let due = async |open_for: Duration| {
        let open = test.ledger.open_erasures(Duration::ZERO, open_for, 0, 3).await.expect("asked");
        open.iter().map(|open| open.record.object_id.0).collect::<Vec<_>>()
    };
    assert_eq!(due(LEASE).await, [1, 2, 3]);
    for id in [1, 2, 3] {
        test.ledger.erase(&contact(id)).await.expect("erased");
        test.ledger.conclude_erasure(&contact(id), false).await.expect("erased");
    }
    assert_eq!(due(LEASE).await, [4, 5], "the first ones stay open, and there is nothing to do for them yet");
    assert_eq!(due(Duration::ZERO).await, [4, 5, 1], "those that can be finished come after the others");
}

#[tokio::test]
async fn a_record_is_erased_under_all_its_ids_whichever_of_them_is_named() {
    let test = TestLedger::new().await;
    let merge = |old, survivor| RecordMerge { old: contact(old), survivor: ObjectId(survivor) };
    test.ledger.record_merges(&[merge(1, 9), merge(2, 9)]).await.expect("recorded");
    let mut records = test.ledger.request_erasure(&contact(1), ErasureCause::Operator).await.expect("requested");
    records.sort();
    assert_eq!(records, [contact(1), contact(2), contact(9)], "the id is one from before the merge");
    assert_eq!(test.ledger.known_as(&contact(9)).await.expect("asked"), [contact(9)], "and the merges are forgotten");
}

#[tokio::test]
async fn a_merge_that_is_told_after_its_survivor_was_erased_erases_the_old_record_too() {
    let test = TestLedger::new().await;
    for (id, cause) in [(9, ErasureCause::PrivacyDeletion), (8, ErasureCause::Operator)] {
        test.erase(&contact(id), cause).await;
        test.ledger.conclude_erasure(&contact(id), false).await.expect("erased");
    }
    let merge = |old, survivor| RecordMerge { old: contact(old), survivor: ObjectId(survivor) };
    test.ledger.record_merges(&[merge(1, 9), merge(2, 8)]).await.expect("recorded");
    let open = test.ledger.open_erasures(Duration::ZERO, LEASE, 0, 10).await.expect("asked");
    let records: Vec<_> = open.into_iter().map(|open| open.record).collect();
    assert_eq!(records, [contact(1)], "an operator's erasure is not about what comes later");
}

#[tokio::test]
async fn a_chain_of_merges_that_is_told_late_erases_every_record_of_it() {
    let test = TestLedger::new().await;
    let merge = |old, survivor| RecordMerge { old: contact(old), survivor: ObjectId(survivor) };
    test.ledger.record_merges(&[merge(1, 2)]).await.expect("recorded");
    test.erase(&contact(9), ErasureCause::PrivacyDeletion).await;
    test.ledger.conclude_erasure(&contact(9), false).await.expect("erased");
    test.ledger.record_merges(&[merge(2, 9)]).await.expect("recorded");
    let open = test.ledger.open_erasures(Duration::ZERO, LEASE, 0, 10).await.expect("asked");
    let mut records: Vec<_> = open.into_iter().map(|open| open.record).collect();
    records.sort();
    assert_eq!(records, [contact(1), contact(2)], "also the one that was merged before");
    assert_eq!(test.ledger.known_as(&contact(9)).await.expect("asked"), [contact(9)], "and the merges are forgotten");
}

#[tokio::test]
async fn a_merge_that_is_told_while_its_survivor_is_being_erased_is_not_overlooked() {
    let test = TestLedger::new().await;
    // A transaction that tells of a merge and has not ended.
    let mut telling = test.database.begin().await.expect("a transaction");
    for statement in [
        "select lock_merges()",
        "insert into record_merge (portal_id, object_type, old_id, survivor_id)
         values (9876543, '0-1', 1, 9)",
        "select erase_merged(9876543, '0-1', 9)",
    ] {
        sqlx::query(statement).execute(&mut *telling).await.expect(statement);
    }
    let ledger = test.ledger.clone();
    let asked = tokio::spawn(async move { ledger.request_erasure(&contact(9), ErasureCause::PrivacyDeletion).await });
    test.waits_for_lock(&asked).await;
    telling.commit().await.expect("committed");
    let records = asked.await.expect("no panic").expect("requested");
    assert_eq!(records, [contact(9), contact(1)]);
}

/// An email of two persons, whose event waits, is still about the other one when the first is erased.
#[tokio::test]
async fn what_waits_for_an_engagement_of_two_persons_goes_on_when_one_is_erased() {
    let test = TestLedger::new().await;
    let email = of_type(ObjectType::Email, NOTE, 1, MARKER);
    test.answered(&event(ZEBULON, 1), &zebulon(), vec![read(ObjectType::Email, NOTE, true)], MARKER).await;
    test.claimed(&email, "inference").await;
    test.erase(&zebulon(), ErasureCause::PrivacyDeletion).await;
    assert_eq!(test.state(&email).await, (EventState::Claimed, None));
    assert_eq!(test.found(MARKER).await, Vec::<String>::new(), "its value is gone all the same");
    let asked = |record| PriorAnswersRequest {
        event_id: EventId::new(),
        occurred_at: email.occurred_at,
        event_key: email.key.clone(),
        record,
    };
    let prior = test.ledger.prior_answers(&[asked(zebulon()), asked(contact(2))], LEASE).await.expect("asked");
    assert_eq!(prior.iter().map(|prior| prior.is_erased).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn the_receipt_says_what_was_erased_and_not_who() {
    let test = TestLedger::new().await;
    test.answered(&event(ZEBULON, 1), &zebulon(), vec![], MARKER).await;
    assert_eq!(test.ledger.erasure_receipt(&zebulon()).await.expect("asked"), None);
    test.erase(&zebulon(), ErasureCause::PrivacyDeletion).await;
    test.ledger.conclude_erasure(&zebulon(), true).await.expect("finished");
    assert_eq!(test.ledger.open_erasures(Duration::ZERO, Duration::ZERO, 0, 10).await.expect("asked"), []);
    let receipt = test.ledger.erasure_receipt(&zebulon()).await.expect("asked").expect("a receipt");
    let erased = Erased { events: 1, inferences: 1, write_commands: 1, values: 0, actions: 1 };
    assert_eq!((receipt.cause, receipt.erased), (ErasureCause::PrivacyDeletion, erased));
    assert!(receipt.erased_at.is_some());
    assert_eq!(test.ledger.erasure_receipt(&contact(1)).await.expect("asked"), None);
    let row: String = test.value("select e::text from erasure e").await;
    assert!(!row.contains(&ZEBULON.to_string()), "{row}");
    // Nobody finds the id by trying them all: the hash is not one of the id alone.
    let plain = format!("select record_hash = sha256('{}/0-1/{ZEBULON}') from erasure", PORTAL.0);
    assert!(!test.value::<bool>(&plain).await);
}

#[tokio::test]
async fn a_record_with_many_rows_is_erased_in_small_transactions() {
    let test = TestLedger::new().await;
    test.run(&many_events(1_000)).await;
    let erased = test.erase(&zebulon(), ErasureCause::Operator).await;
    assert_eq!(erased.events, 1_000);
    assert_eq!(test.found(MARKER).await, Vec::<String>::new());
    let transactions: i64 = test.value("select count(distinct xmin::text) from event").await;
    assert!(transactions >= 5, "{transactions}");
}

#[tokio::test]
async fn an_erasure_that_is_killed_goes_on_where_it_ended() {
    let test = TestLedger::new().await;
    let note = vec![read(ObjectType::Note, NOTE, true)];
    test.answered(&event(2, 1), &contact(2), note.clone(), MARKER).await;
    for n in 1..=5 {
        test.answered(&valued(ZEBULON, n, MARKER), &zebulon(), note.clone(), MARKER).await;
    }
    test.run(&many_events(600)).await;
    test.ledger.request_erasure(&zebulon(), ErasureCause::Operator).await.expect("requested");
    let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
    let ledger = test.ledger.clone();
    let killed = tokio::spawn(async move {
        ledger.erase_telling(&zebulon(), |erased| told.send(erased.rows()).expect("somebody listens")).await
    });
    assert!(tells.recv().await.is_some_and(|rows| rows > 0));
    killed.abort();
    let _ = killed.await;
    let left = test.ledger.erasure_size(&zebulon()).await.expect("asked");
    assert!(left < 615, "what it has done is done: {left}");
    test.ledger.erase(&zebulon()).await.expect("erased");
    assert_eq!(test.found(MARKER).await, Vec::<String>::new(), "nor in what others read of his notes");
    assert_eq!(test.ledger.erasure_size(&zebulon()).await.expect("asked"), 0);
    let receipt = test.ledger.erasure_receipt(&zebulon()).await.expect("asked").expect("a receipt");
    assert_eq!((receipt.erased.events, receipt.erased.inferences), (605, 6), "each counts once");
}

/// Ledgers are large, and a person has few rows in them.
#[tokio::test]
async fn an_erasure_reads_no_table_as_a_whole() {
    let test = everything().await;
    test.ledger.request_erasure(&zebulon(), ErasureCause::Operator).await.expect("requested");
    let step = |looked_at| format!("select erase_record({}, '0-1', {ZEBULON}, 200, {looked_at})", PORTAL.0);
    // The one key.
    let key = ["receipt_key"];
    assert_eq!(test.tables_read(&step(0)).await, key);
    // What is about himself is done, and the answers that read him come next.
    test.run(&step(0)).await;
    assert_eq!(test.tables_read(&step(0)).await, key);
    assert!(test.value::<i64>("select inferences from erasure").await > 0);
    let cancel = format!("select cancel_waiting({}, '0-1', 4, now())", PORTAL.0);
    assert_eq!(test.tables_read(&cancel).await, Vec::<String>::new());
}

/// A worker holds a row that the erasure needs, and lets it go.
#[tokio::test]
async fn an_erasure_waits_for_a_worker_in_pieces_and_goes_on() {
    let test = TestLedger::new().await;
    test.answered(&valued(ZEBULON, 1, MARKER), &zebulon(), vec![], MARKER).await;
    test.ledger.request_erasure(&zebulon(), ErasureCause::Operator).await.expect("requested");
    let mut works = test.database.begin().await.expect("a transaction");
    sqlx::query("select * from event for update").execute(&mut *works).await.expect("locked");
    let ledger = test.ledger.clone();
    let erasure = tokio::spawn(async move { ledger.erase(&zebulon()).await });
    // It has given up once, and waits again.
    for is_waiting in [true, false, true] {
        while test.is_lock_awaited().await != is_waiting {
            assert!(!erasure.is_finished(), "{:?}", erasure.await);
            tokio::task::yield_now().await;
        }
    }
    works.rollback().await.expect("a rollback");
    let (erased, _) = erasure.await.expect("no panic").expect("erased");
    assert_eq!(erased.events, 1);
}

/// Two people of one event: without their ids, nothing tells their answers apart.
#[tokio::test]
async fn both_contacts_of_one_event_can_be_erased() {
    let test = TestLedger::new().await;
    let claimed = test.claimed(&of_type(ObjectType::Note, NOTE, 1, MARKER), "a").await;
    let inferences = vec![inference(&contact(1)), inference(&contact(2))];
    assert!(
        test.commit(&Decision { inferences, ..decision(&claimed, EventState::Skipped, Some(Reason::NothingIntended)) })
            .await
    );
    for id in [1, 2] {
        assert_eq!(test.erase(&contact(id), ErasureCause::PrivacyDeletion).await.inferences, 1);
    }
}

#[tokio::test]
async fn an_erased_value_of_another_record_is_not_written_again_by_the_verifier() {
    let test = TestLedger::new().await;
    let other = test.answered(&event(2, 1), &contact(2), vec![read(ObjectType::Contact, ZEBULON, false)], MARKER).await;
    test.carried_out(&other, None).await;
    assert_eq!(test.ledger.latest_values(&contact(2)).await.expect("asked").len(), 1);
    test.erase(&zebulon(), ErasureCause::PrivacyDeletion).await;
    assert_eq!(test.ledger.latest_values(&contact(2)).await.expect("asked"), []);
}

#[tokio::test]
async fn what_waits_for_a_deleted_record_is_cancelled_and_what_came_later_is_not() {
    let test = TestLedger::new().await;
    test.ended_as(&event(1, 1), EventState::Waiting, Reason::OpenAiTimeout, "x").await;
    let recorded = test.decided(&event(1, 2)).await;
    let written = test.decided(&event(1, 3)).await;
    test.written(&written, "writer").await;
    let sending = test.decided(&event(1, 4)).await;
    test.claimed_command(&sending, "writer").await;
    test.ended_as(&event(1, 6), EventState::Waiting, Reason::OpenAiTimeout, "x").await;
    test.ended_as(&event(2, 1), EventState::Waiting, Reason::OpenAiTimeout, "x").await;
    let deleted_at = event(1, 5).occurred_at;
    assert_eq!(test.ledger.cancel_waiting(&contact(1), deleted_at).await.expect("cancelled"), 2);
    let deleted = (EventState::Dropped, Some(Reason::RecordDeleted));
    assert_eq!((test.state(&event(1, 1)).await, test.state(&event(1, 2)).await), (deleted, deleted));
    assert_eq!(test.claim_command(&recorded, "writer").await, CommandClaim::Finished);
    assert_eq!(test.state(&event(1, 3)).await.0, EventState::Written);
    assert_eq!(test.state(&event(1, 4)).await.0, EventState::Decided, "the writer hears of it from HubSpot");
    let waits = (EventState::Waiting, Some(Reason::OpenAiTimeout));
    assert_eq!(test.state(&event(1, 6)).await, waits, "the record was restored");
    assert_eq!(test.state(&event(2, 1)).await, waits);
    let actions: String =
        test.value("select string_agg(state || ' ' || reason, ' ') from action where reason is not null").await;
    assert_eq!(actions, "skipped record_deleted");
    assert_eq!(test.ledger.cancel_waiting(&contact(1), deleted_at).await.expect("asked"), 0);
}

#[tokio::test]
async fn an_event_that_had_no_effect_keeps_no_value() {
    let test = TestLedger::new().await;
    for (n, state, reason) in [
        (1, EventState::Dropped, Reason::Echo),
        (2, EventState::Skipped, Reason::NoPlaybook),
        (3, EventState::Superseded, Reason::NewerEventWaits),
    ] {
        let claimed = test.claimed(&valued(n, 1, MARKER), "a").await;
        assert!(test.commit(&decision(&claimed, state, Some(reason))).await);
    }
    assert_eq!(test.found(MARKER).await, Vec::<String>::new());
    assert_eq!(test.value::<i64>("select count(*) from event where payload ? 'objectId'").await, 3, "the rest stays");
    let waits = test.claimed(&valued(4, 1, MARKER), "a").await;
    assert!(test.commit(&decision(&waits, EventState::Waiting, Some(Reason::OpenAiTimeout))).await);
    assert_eq!(test.found(MARKER).await, ["event.payload: 1"], "what may go on is kept");
    // A write policy left every property as it was.
    let decided = test.claimed(&valued(5, 1, MARKER), "a").await;
    let decision = decision_with_commands(&valued(5, 1, MARKER), &decided, 1);
    assert!(test.commit(&decision).await);
    let command = &decision.commands[0];
    test.lease(&command.record, "w").await;
    let attempt = test.claimed_command(command, "w").await;
    assert!(test.finish(&result(command, attempt, CommandState::Skipped, Some(Reason::KeptFilled)), "w").await);
    assert_eq!(test.found(MARKER).await, ["event.payload: 1"]);
}

/// Which records an answer read goes with the day, as the history does.
#[tokio::test]
async fn what_answers_read_is_kept_as_long_as_events_and_no_longer() {
    let test = TestLedger::new().await;
    test.answered(&event(1, 1), &contact(1), vec![read(ObjectType::Note, NOTE, true)], "x").await;
    let rows = "select count(*) from inference_record";
    assert_eq!(test.ledger.drop_history().await.expect("asked"), 0);
    assert_eq!(test.value::<i64>(rows).await, 1);
    test.run(
        "create table inference_record_20200101 partition of inference_record
             for values from ('2020-01-01 00:00:00+00') to ('2020-01-02 00:00:00+00');
         update inference_record set created_at = '2020-01-01 12:00:00+00'",
    )
    .await;
    assert_eq!(test.ledger.drop_history().await.expect("dropped"), 1);
    assert_eq!(test.value::<i64>(rows).await, 0);
}

/// As in [`crate::schema`]: code and database have the same names.
#[tokio::test]
async fn the_database_knows_every_cause_of_an_erasure() {
    let test = TestLedger::new().await;
    for (id, cause) in (1..).zip(ErasureCause::ALL) {
        test.ledger.request_erasure(&contact(id), *cause).await.expect("a known cause");
    }
    let names: Vec<_> = ErasureCause::ALL.iter().map(|cause| cause.as_str()).collect();
    let stored: Vec<String> =
        test.value("select array(select cause from erasure order by requested_at, cause desc)").await;
    assert_eq!(stored, names);
}
