//! A record that cannot be erased now keeps no other from being erased, and what only a newer version reads stays.

use std::time::Duration;

use broker::{Connection as BrokerConnection, Message, Publisher, Route, Stage};
use domain::{ObjectId, ObjectType, PortalId, RecordRef, inference::ErasureCause};
use ledger::{Ledger, Worker};
use maintenance::Eraser;
use settings::{ConfigScope, Settings};
use sqlx::{Connection, PgConnection};
use testbed::TestNamespace;

async fn eraser(namespace: &TestNamespace) -> (Eraser, Ledger) {
    let (eraser, ledger, ..) = eraser_and_broker(namespace).await;
    (eraser, ledger)
}

async fn eraser_and_broker(namespace: &TestNamespace) -> (Eraser, Ledger, BrokerConnection, Publisher) {
    let environment = [
        ("BROKER__URL", namespace.amqp_url.as_str()),
        ("LEDGER__URL", namespace.postgres_url.as_str()),
        ("HUBSPOT__TOKEN", "token"),
        ("HUBSPOT__PORTAL_ID", "1"),
    ];
    let environment = environment.map(|(name, value)| (format!("LEADLINE__{name}"), value.to_owned())).to_vec();
    let settings =
        Settings::load_from(None, environment, ConfigScope::LedgerAndBroker).expect("the settings are right");
    let broker = bootstrap::broker_settings(&settings, "test").expect("settings");
    broker::declare_topology(&broker).await.expect("declared");
    let (connection, publisher) = bootstrap::connect_broker(&settings, "test").await.expect("a broker");
    let ledger = bootstrap::connect_ledger(&settings, "test").expect("a ledger");
    (Eraser::new(ledger.clone(), connection.clone(), publisher.clone(), &settings), ledger, connection, publisher)
}

fn contact(id: i64) -> RecordRef {
    RecordRef { portal_id: PortalId(1), object_type: ObjectType::Contact, object_id: ObjectId(id) }
}

#[tokio::test]
async fn a_record_that_is_locked_or_too_large_for_a_statement_keeps_no_other_from_being_erased() {
    let namespace = testbed::namespace().await.expect("a namespace");
    let (eraser, ledger) = eraser(&namespace).await;
    // Of these records a writer has a lease, which the erasure ends. They are more than a pass asks for at once.
    let failing: Vec<_> = (1..=101).map(contact).collect();
    ledger.lock_records(&failing, &Worker::named("writer"), Duration::from_secs(600)).await.expect("locked");
    for id in 1..=102 {
        ledger.request_erasure(&contact(id), ErasureCause::Operator).await.expect("requested");
    }
    let statements = "
        update erasure set requested_at = requested_at - interval '10 seconds';
        create function fails() returns trigger language plpgsql as $$ begin
            if old.object_id = 1 then raise 'as after lock_timeout' using errcode = 'lock_not_available'; end if;
            raise 'as after statement_timeout' using errcode = 'query_canceled';
        end $$;
        create trigger fails before delete on record_lease for each row execute function fails();";
    let mut owner = PgConnection::connect(&namespace.postgres_url).await.expect("Postgres");
    sqlx::raw_sql(statements).execute(&mut owner).await.expect("done");
    eraser.pass().await.expect("the ledger is there");
    let erased_at = async |id| ledger.erasure_receipt(&contact(id)).await.expect("asked").expect("asked for").erased_at;
    assert!(erased_at(102).await.is_some(), "the others go on");
    assert_eq!((erased_at(1).await, erased_at(2).await), (None, None));
    sqlx::raw_sql("drop trigger fails on record_lease").execute(&mut owner).await.expect("done");
    eraser.pass().await.expect("the ledger is there");
    assert!(erased_at(1).await.is_some() && erased_at(2).await.is_some(), "the next pass goes on");
}

#[tokio::test]
async fn an_erasure_leaves_messages_of_a_newer_version_and_stays_open_for_a_newer_worker() {
    let namespace = testbed::namespace().await.expect("a namespace");
    let (eraser, ledger, connection, publisher) = eraser_and_broker(&namespace).await;
    let body = br#"{"changed":"altogether","objectId":1,"objectTypeId":"0-1"}"#;
    for stage in [Stage::Events, Stage::Writes] {
        let mut newer = Message::new("newer", body.to_vec());
        newer.version = Some(stage.version() + 1);
        publisher.publish(Route::Parked(stage), &newer).await.expect("published");
    }
    ledger.request_erasure(&contact(1), ErasureCause::Operator).await.expect("requested");
    let mut owner = PgConnection::connect(&namespace.postgres_url).await.expect("Postgres");
    let is_finished = "select finished_at is not null from erasure";
    // Its time is over, and every pass comes to it.
    for _ in 0..2 {
        let aged = "update erasure set requested_at = requested_at - interval '1 day'";
        sqlx::raw_sql(aged).execute(&mut owner).await.expect("done");
        eraser.pass().await.expect("all is there");
        assert!(!sqlx::query_scalar::<_, bool>(is_finished).fetch_one(&mut owner).await.expect("asked"));
    }
    assert!(ledger.erasure_receipt(&contact(1)).await.expect("asked").expect("asked for").erased_at.is_some());
    let parked = async |stage| {
        let depths = connection.queue_depths().await.expect("asked");
        depths.into_iter().find(|(route, _)| *route == Route::Parked(stage)).expect("a parking lot").1
    };
    for stage in [Stage::Events, Stage::Writes] {
        assert_eq!(parked(stage).await, 1, "{stage:?}");
        namespace.take_messages(&Route::Parked(stage).to_string(), 1).await.expect("taken");
    }
    eraser.pass().await.expect("all is there");
    assert!(sqlx::query_scalar::<_, bool>(is_finished).fetch_one(&mut owner).await.expect("asked"));
}
