//! A person whom HubSpot deleted for privacy reasons, or whom an operator erases, is gone from every table and every queue;
//! what is about others stays.

use broker::{Message, ParkingLot, Publisher, Route, Stage};
use lab::{Fleet, FleetPlan};
use serde_json::{Value, json};
use simulator::{Fault, FaultKind, Target};

use fixtures::{
    BUYER, ask, contact, ended_as, fleet, happened, key, note, note_event, object, pipeline, property, questions, send,
    send_accepted, until,
};

/// The contact who is erased: an id that stands nowhere by chance.
const ZEBULON: i64 = 777_000_111;

/// What stands in his texts only.
const MARKER: &str = "Zebulon";

/// The texts of every column of every table, as far as they hold `text`.
async fn in_tables(fleet: &Fleet, text: &str) -> Vec<String> {
    use sqlx::{AssertSqlSafe, Connection};
    let mut connection = sqlx::PgConnection::connect(&fleet.namespace.postgres_url).await.expect("Postgres");
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select quote_ident(c.table_name), quote_ident(c.column_name)
         from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
         where c.table_schema = 'public' and t.table_type = 'BASE TABLE'",
    )
    .fetch_all(&mut connection)
    .await
    .expect("columns");
    let mut found = Vec::new();
    for (table, column) in columns {
        let query =
            format!("select '{table}.{column}: ' || {column}::text from {table} where {column}::text like '%{text}%'");
        let rows: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(&mut connection).await.expect("rows");
        found.extend(rows);
    }
    found
}

/// The messages that rest in parking lots and retry queues, as far as their bodies or headers hold `text`.
async fn in_queues(fleet: &Fleet, text: &str) -> Vec<String> {
    let connection = broker::Connection::open(fleet.broker_settings().expect("settings")).await.expect("RabbitMQ");
    let mut found = Vec::new();
    for (route, depth) in connection.queue_depths().await.expect("depths") {
        if depth == 0 || matches!(route, Route::Queue(_)) {
            continue;
        }
        let queue = ParkingLot::open_queue(&connection, route).await.expect("a queue");
        while let Some(parked) = queue.next().await.expect("a message") {
            let Message { id, body, detail, .. } = &parked.message;
            let whole = format!("{route}: {id} {} {detail:?}", String::from_utf8_lossy(body));
            found.extend(whole.contains(text).then_some(whole));
        }
        queue.close().await;
    }
    found
}

async fn publish(fleet: &Fleet, route: Route, message: &Message) {
    let publisher = Publisher::open(fleet.broker_settings().expect("settings")).await.expect("a publisher");
    publisher.publish(route, message).await.expect("published");
}

/// An event of his, whose value names him.
fn of_zebulon(n: i64) -> Value {
    let mut event = note_event(ZEBULON, n);
    event["propertyValue"] = json!(MARKER);
    event
}

/// A fleet that has read, asked, written and parked about the contact, and about others beside him.
async fn known() -> Fleet {
    let fleet = fleet(&pipeline().with("broker.retry_delays_seconds", "1,3600")).await;
    contact(&fleet, ZEBULON, &[]).await;
    contact(&fleet, 2, &[BUYER]).await;
    // A ticket that reads him, and a contact who shares the note with him.
    let ticket = [("subject", "Outage"), ("content", "We are furious, this is the third outage.")];
    object(&fleet, "ticket", 7, &ticket, &[("contact", ZEBULON)]).await;
    contact(&fleet, 3, &[]).await;
    object(
        &fleet,
        "note",
        5001,
        &[
            ("hs_note_body", "<p>Zebulon has $50k ready for Q1 and is very excited to start.</p>"),
            ("hs_timestamp", "2026-11-20T10:00:00Z"),
        ],
        &[("contact", ZEBULON), ("contact", 3)],
    )
    .await;
    let written = [of_zebulon(1), note_event(2, 1), note_event(3, 1), happened("ticket", 7, "creation", None, 2)];
    send_accepted(&fleet, &written).await;
    for event in &written {
        ended_as(&fleet, event, "written", None).await;
    }
    // Parked by the model's refusal, his and another's.
    let declines = Fault::new(Target::Openai, FaultKind::Refusal).times(2);
    fleet.simulator.fault(&declines).await.expect("set");
    note(&fleet, 5002, ZEBULON, "Zebulon writes once more.").await;
    note(&fleet, 5003, 2, "Another one writes once more.").await;
    for event in [of_zebulon(2), note_event(2, 2)] {
        send_accepted(&fleet, std::slice::from_ref(&event)).await;
        ended_as(&fleet, &event, "parked", Some("refused")).await;
    }
    // Elements that are no events: his by id, an association of his, and another's with a number that is not his id.
    let mut unknown = of_zebulon(3);
    unknown["subscriptionType"] = json!("contact.teleported");
    let association = json!({"eventId": 9, "portalId": 9_876_543, "occurredAt": -1, "fromObjectId": 2, "toObjectId": ZEBULON,
        "subscriptionType": "contact.associationChange", "associationType": "CONTACT_TO_CONTACT", "note": MARKER});
    let mut others = note_event(2, 3);
    (others["subscriptionType"], others["eventId"]) = (json!("contact.teleported"), json!(ZEBULON));
    assert_eq!(send(&fleet, &[unknown, association, others]).await.status, 200);
    fleet.until_parked("leadline.events", 5, fixtures::WITHIN).await.expect("parked");
    // No echo of what was written is on its way any more.
    fleet.until_idle(fixtures::WITHIN).await.expect("idle");
    fleet
}

/// Nothing of him is left, and what is about the others is as it was.
async fn nothing_is_left(fleet: &Fleet) {
    assert_eq!(in_tables(fleet, MARKER).await, Vec::<String>::new());
    assert_eq!(in_queues(fleet, MARKER).await, Vec::<String>::new());
    let about = in_queues(fleet, &ZEBULON.to_string()).await;
    assert!(about.len() == 1 && about[0].contains("\"eventId\":777000111"), "only another's number: {about:?}");
    // While the erasure is open, it knows which record it is about; what else there is with his id is an event's number.
    let rows = in_tables(fleet, &ZEBULON.to_string()).await;
    assert!(rows.iter().all(|row| row.starts_with("erasure.records: ")), "{rows:#?}");
    let others: String = ask(
        fleet,
        "select string_agg(object_type || '/' || object_id || ' ' || state, ', ' order by object_type, object_id)
         from event where event_key not like 'erased:%'",
    )
    .await;
    for other in ["0-1/2 written", "0-1/2 parked", "0-1/3 written", "0-5/7 written"] {
        assert!(others.contains(other), "{other} in {others}");
    }
    assert_eq!(property(fleet, 2, "lead_score").await.as_deref(), Some("85"));
    let answers: i64 = ask(fleet, "select count(*) from inference_text where object_id = 2").await;
    assert_eq!(answers, 2, "another's prompt and answer stay");
}

#[tokio::test]
async fn a_person_whom_hubspot_deleted_for_privacy_reasons_is_gone_within_a_minute() {
    let fleet = known().await;
    // One of his events and one of another's wait in a retry queue: their messages are known to RabbitMQ alone.
    for (id, n) in [(ZEBULON, 8), (2, 8)] {
        let mut event = note_event(id, n);
        event["propertyValue"] = json!(if id == ZEBULON { MARKER } else { "x" });
        let message = event_message(&event);
        publish(&fleet, Route::Retry(Stage::Events, std::time::Duration::from_secs(3_600)), &message).await;
    }
    // And one of the note that he shares.
    let mut shared = happened("note", 5001, "propertyChange", Some("hs_note_body"), 8);
    shared["propertyValue"] = json!(MARKER);
    let waiting = Route::Retry(Stage::Events, std::time::Duration::from_secs(3_600));
    publish(&fleet, waiting, &event_message(&shared)).await;
    let before: String = ask(&fleet, COUNTS).await;
    assert!(in_tables(&fleet, MARKER).await.len() > 5 && in_queues(&fleet, MARKER).await.len() == 5);

    let asked_at = std::time::Instant::now();
    fleet.simulator.delete_for_privacy(ZEBULON).await.expect("deleted");
    until("erased", async || {
        ask::<bool>(&fleet, "select exists (select from erasure where erased_at is not null)").await
    })
    .await;
    assert!(asked_at.elapsed() < std::time::Duration::from_secs(60), "{:?}", asked_at.elapsed());
    nothing_is_left(&fleet).await;
    assert_eq!(ask::<String>(&fleet, COUNTS).await, before, "counts and costs stay");
    let others = in_queues(&fleet, "\"objectId\":2").await;
    assert_eq!(others.len(), 3, "two parked, and one that waits: {others:?}");
    let shared = in_queues(&fleet, "\"objectId\":5001").await;
    assert!(shared.len() == 1 && !shared[0].contains("propertyValue"), "it waits without the value: {shared:?}");
    let receipt: String =
        ask(&fleet, "select cause || ' ' || (events > 2) || ' ' || (inferences > 2) from erasure").await;
    assert_eq!(receipt, "privacy_deletion true true");

    // HubSpot delivers older events of his again, and a newer one comes late.
    let (asked, rows) = (questions(&fleet).await, ask::<i64>(&fleet, "select count(*) from event").await);
    let last = happened("contact", 2, "restore", None, 9);
    send_accepted(&fleet, &[of_zebulon(1), of_zebulon(2), of_zebulon(4), last.clone()]).await;
    // It comes after them out of the queue, and is claimed with them or later.
    ended_as(&fleet, &last, "skipped", Some("no_playbook")).await;
    assert_eq!(questions(&fleet).await, asked);
    assert_eq!(ask::<i64>(&fleet, "select count(*) from event").await, rows + 1);
    nothing_is_left(&fleet).await;
}

/// An outage may last for hours, and a person's data has to go within a minute.
#[tokio::test]
async fn a_person_is_erased_while_hubspot_or_openai_is_away() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, ZEBULON, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(ZEBULON, 1)]).await;
    ended_as(&fleet, &note_event(ZEBULON, 1), "written", None).await;
    let revoked = Fault::new(Target::Openai, FaultKind::Status { code: 401, retry_after: None });
    fleet.simulator.fault(&revoked).await.expect("set");
    contact(&fleet, 2, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(2, 1)]).await;
    let outages = async || ask::<i64>(&fleet, "select count(*) from circuit_breaker where state = 'open'").await;
    until("the fleet pauses", async || outages().await == 1).await;
    fleet.simulator.delete_for_privacy(ZEBULON).await.expect("deleted");
    until("erased", async || {
        ask::<bool>(&fleet, "select exists (select from erasure where erased_at is not null)").await
    })
    .await;
    assert_eq!(outages().await, 1, "the outage goes on");
}

/// It is told of a merge into an erased person, and the ledger does not take that.
#[tokio::test]
async fn a_merge_into_an_erased_person_that_the_ledger_never_takes_is_parked() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, ZEBULON, &[]).await;
    fleet.simulator.delete_for_privacy(ZEBULON).await.expect("deleted");
    until("erased", async || {
        ask::<bool>(&fleet, "select exists (select from erasure where erased_at is not null)").await
    })
    .await;
    fixtures::sql(&fleet, "alter table record_merge add constraint refused check (old_id <> 2)").await;
    let mut merge = happened("contact", ZEBULON, "merge", None, 1);
    (merge["primaryObjectId"], merge["mergedObjectIds"]) = (json!(ZEBULON), json!([2]));
    merge["newObjectId"] = json!(ZEBULON);
    send_accepted(&fleet, &[merge]).await;
    fleet.until_parked("leadline.events", 1, fixtures::WITHIN).await.expect("it does not wait without end");
}

const COUNTS: &str = "select count(*) || ' ' || count(distinct event_id) || ' ' || sum(prompt_tokens) || ' '
                             || sum(cost_micro_dollars) from inference";

fn event_message(event: &Value) -> Message {
    let body = json!([event]).to_string();
    let element = hubspot::webhook::parse(body.as_bytes()).expect("an array").pop().expect("one element");
    Message::of(key(event), &element.event.expect("an event")).expect("JSON")
}

#[tokio::test]
async fn an_operator_erases_a_person_as_completely_also_when_the_prompts_are_gone() {
    let fleet = known().await;
    fixtures::sql(&fleet, "delete from inference_raw").await;
    let dry = fleet.leadline(&["erase", "contact/777000111"]).await.expect("runs");
    assert!(String::from_utf8_lossy(&dry.stdout).contains("would erase"));
    assert!(!in_tables(&fleet, MARKER).await.is_empty());
    let done = fleet.leadline(&["erase", "contact/777000111", "--yes"]).await.expect("runs");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && said.contains("3 parked messages"), "{said}");
    assert_eq!(in_tables(&fleet, MARKER).await, Vec::<String>::new());
    assert_eq!(in_queues(&fleet, MARKER).await, Vec::<String>::new());
    assert_eq!(in_queues(&fleet, "\"objectId\":2").await.len(), 2, "the others' messages are there");
    let again = fleet.leadline(&["erase", "contact/777000111", "--yes"]).await.expect("runs");
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(
        again.status.success() && said.contains("was erased before") && said.contains(": 0 events, 0 inferences"),
        "{said}"
    );
}

#[tokio::test]
async fn the_ledger_is_erased_also_while_rabbitmq_is_away_and_the_fleet_takes_the_messages() {
    let fleet = known().await;
    let program = testbed::workspace::binaries().expect("built").join("leadline");
    let mut command = tokio::process::Command::new(program);
    command.args(["erase", "contact/777000111", "--yes"]).envs(fleet.operator_environment().iter().cloned());
    command.env("LEADLINE__BROKER__URL", "amqp://127.0.0.1:1");
    command.current_dir(testbed::workspace::root().expect("the workspace"));
    let done = command.output().await.expect("runs");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.contains("the ledger is erased, and the queues are not yet"), "{said}");
    assert_eq!(in_tables(&fleet, MARKER).await, Vec::<String>::new());
    // Whoever looks at the messages holds them meanwhile, and the eraser would not see them.
    until("erased", async || {
        ask::<bool>(&fleet, "select exists (select from erasure where erased_at is not null)").await
    })
    .await;
    assert_eq!(in_queues(&fleet, MARKER).await, Vec::<String>::new());
}

/// What waits for a writer is cancelled with the rest.
#[tokio::test]
async fn what_is_unfinished_is_dropped_when_a_record_is_erased() {
    let fleet = fleet(&FleetPlan { writers: 0, ..pipeline() }).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let decided = |state| state == domain::EventState::Decided;
    fleet.until_event(&key(&note_event(1, 1)), decided, fixtures::WITHIN).await.expect("decided");
    let done = fleet.leadline(&["erase", "contact/1", "--yes"]).await.expect("runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let state: String = ask(
        &fleet,
        "select e.state || ' ' || e.reason || ', ' || c.state || ' ' || c.reason
                                     from event e join write_command c on c.event_id = e.id",
    )
    .await;
    assert_eq!(state, "dropped record_erased, dropped record_erased");
}

#[tokio::test]
async fn a_deleted_contact_cancels_what_waits_for_it_in_whatever_order_the_events_come() {
    let fleet = fleet(&pipeline().with("broker.retry_delays_seconds", "3000,3600")).await;
    for id in [1, 2] {
        contact(&fleet, id, &[BUYER]).await;
    }
    let away = Fault::new(Target::Openai, FaultKind::Status { code: 500, retry_after: None });
    fleet.simulator.fault(&away).await.expect("set");
    let events = [note_event(1, 1), note_event(2, 1)];
    send_accepted(&fleet, &events).await;
    let waiting = |state| state == domain::EventState::Waiting;
    for event in &events {
        fleet.until_event(&key(event), waiting, fixtures::WITHIN).await.expect("waits");
    }
    fleet.simulator.clear_faults().await.expect("mended");
    send_accepted(&fleet, &[happened("contact", 1, "deletion", None, 5)]).await;
    ended_as(&fleet, &happened("contact", 1, "deletion", None, 5), "skipped", Some("no_playbook")).await;
    ended_as(&fleet, &note_event(1, 1), "dropped", Some("record_deleted")).await;
    assert_eq!(
        fleet.ledger.event_story(&key(&note_event(2, 1))).await.expect("asked").expect("known").state,
        domain::EventState::Waiting
    );
    // An event that comes after its record's deletion finds nobody.
    fleet.simulator.delete_for_privacy(2).await.expect("deleted");
    until("erased", async || {
        ask::<bool>(&fleet, "select exists (select from erasure where erased_at is not null)").await
    })
    .await;
    let left: i64 = ask(&fleet, "select count(*) from event where object_id = 2 or event_key like '%:0-1:2:%'").await;
    assert_eq!(left, 0);
}
