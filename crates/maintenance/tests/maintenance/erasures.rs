//! A record that cannot be erased now keeps no other from being erased.

use std::time::Duration;

use domain::{ObjectId, ObjectType, PortalId, RecordRef, inference::ErasureCause};
use ledger::{Ledger, Worker};
use maintenance::Eraser;
use settings::{ConfigScope, Settings};
use sqlx::{Connection, PgConnection};
use testbed::TestNamespace;

async fn eraser(namespace: &TestNamespace) -> (Eraser, Ledger) {
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
    (Eraser::new(ledger.clone(), connection, publisher, &settings), ledger)
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
