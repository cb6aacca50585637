//! Two versions side by side. Messages of this version and of the last one are processed; those of a newer one wait for a newer worker. A ledger
//! may have migrations of the next version, and must have those of this one.

use std::path::Path;

use domain::EventState;
use lab::{Fleet, FleetPlan};
use reqwest::Method;
use serde_json::{Value, json};
use testbed::Role;

use fixtures::{
    BUYER, WITHIN, ask, contact, ended_as, fleet, note_event, pipeline, property, purge, send_accepted, sql, until,
};

/// Messages that are kept of a version, as RabbitMQ's management API shows and takes them.
fn kept(name: &str) -> Vec<Value> {
    let folder = testbed::workspace::root().expect("a workspace").join("crates/maintenance/messages");
    let text = std::fs::read_to_string(Path::new(&folder).join(name)).expect("there");
    serde_json::from_str(&text).expect("JSON")
}

fn queue(message: &Value) -> &str {
    message["routing_key"].as_str().expect("a queue")
}

async fn publish(fleet: &Fleet, message: &Value) {
    let queue = queue(message);
    let path = format!("exchanges/{}/{queue}.exchange/publish", fleet.namespace.name);
    let answer = fleet.namespace.management(Method::POST, &path, Some(message.clone())).await.expect("published");
    assert_eq!(answer["routed"], true, "{message}");
}

#[tokio::test]
async fn events_of_this_version_and_of_the_last_one_are_processed() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 101, &[BUYER]).await;
    let mut erasures = 0;
    for message in kept("event.v0.json").iter().chain(&kept("event.v1.json")) {
        publish(&fleet, message).await;
        let key = message["properties"]["message_id"].as_str().expect("a key");
        if queue(message) == "leadline.erasures" {
            // The event goes with its record.
            erasures += 1;
            let erased = "select count(*) from erasure where erased_at is not null";
            until("the record is erased", async || ask::<i64>(&fleet, erased).await == erasures).await;
            continue;
        }
        let state = fleet.until_event(key, EventState::is_final, WITHIN).await.expect("it ends").state;
        // Nothing is known of the other records, and no playbook is about conversations.
        let expected: &[_] = match key.split(':').nth(1) {
            Some("contact.propertyChange") => &[EventState::Written, EventState::Skipped],
            _ => &[EventState::Skipped, EventState::Dropped],
        };
        assert!(expected.contains(&state), "{key}: {state}");
    }
    assert_eq!(property(&fleet, 101, "lead_score").await.as_deref(), Some("85"));
    for stage in ["leadline.events", "leadline.erasures"] {
        fleet.until_parked(stage, 0, WITHIN).await.expect("nothing is parked");
    }
}

#[tokio::test]
async fn write_commands_of_this_version_and_of_the_last_one_are_carried_out() {
    let mut fleet = fleet(&pipeline()).await;
    fleet.stop("leadline-writer").await.expect("stopped");
    let messages = [kept("write_command.v0.json"), kept("write_command.v1.json")].concat();
    let ids = 1..=i64::try_from(messages.len()).expect("few");
    for id in ids.clone() {
        contact(&fleet, id, &[BUYER]).await;
        send_accepted(&fleet, &[note_event(id, 1)]).await;
    }
    let recorded = "select count(*) from write_command where state = 'recorded'";
    until("all are recorded", async || ask::<i64>(&fleet, recorded).await == *ids.end()).await;
    fleet.until_holds("leadline.writes", u32::try_from(messages.len()).expect("few"), WITHIN).await.expect("published");
    purge(&fleet, "leadline.writes").await;
    let commands: String = ask(&fleet, "select string_agg(id::text, ',') from write_command").await;
    for (message, id) in messages.iter().zip(commands.split(',')) {
        let kept = message["properties"]["message_id"].as_str().expect("an id");
        // Only the id has to be one that this ledger knows.
        let message = message.to_string().replace(kept, id);
        publish(&fleet, &serde_json::from_str(&message).expect("JSON")).await;
    }
    fleet.add("leadline-writer").await.expect("started");
    for id in ids {
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
}

#[tokio::test]
async fn messages_of_a_newer_version_wait_unharmed_until_a_worker_knows_it() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 101, &[BUYER]).await;
    for mut message in [kept("event.v1.json").remove(0), kept("write_command.v1.json").remove(0)] {
        message["properties"]["headers"]["x-leadline-version"] = json!(7);
        // A form that nobody knows yet.
        message["payload"] = json!(r#"{"v":7,"changed":"altogether"}"#);
        let queue = queue(&message).to_owned();
        // It was made just now.
        message["properties"]["headers"]["x-leadline-copy-id"] =
            json!(broker::Message::new("", vec![]).copy_id.to_string());
        publish(&fleet, &message).await;
        let mut returned = Value::Null;
        // More often than attempts are left.
        for _ in 0..5 {
            let retry = format!("{queue}.retry.1s");
            let taken = async || fleet.namespace.take_messages(&retry, 1).await.expect("asked").pop();
            let waits = async {
                loop {
                    match taken().await {
                        Some(waiting) => return waiting,
                        None => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                    }
                }
            };
            returned = tokio::time::timeout(WITHIN, waits).await.expect("it waits");
            let mut again = message.clone();
            again["properties"] = returned["properties"].clone();
            publish(&fleet, &again).await;
        }
        let headers = &returned["properties"]["headers"];
        assert_eq!(headers["x-leadline-version"], 7, "{returned}");
        assert_eq!(headers["x-leadline-attempts"], 0, "{returned}");
        assert_eq!(headers["x-leadline-reason"], "newer_version", "{returned}");
        assert_eq!(returned["payload"], message["payload"]);
        fleet.until_parked(&queue, 0, WITHIN).await.expect("nothing is parked");
        // No newer worker came for years.
        message["properties"]["headers"]["x-leadline-copy-id"] = json!("01800000-0000-7000-8000-000000000100");
        publish(&fleet, &message).await;
        fleet.until_parked(&queue, 1, WITHIN).await.expect("a person has to know");
        let parked = fleet.namespace.take_messages(&format!("{queue}.parked"), 1).await.expect("asked").remove(0);
        assert_eq!(parked["properties"]["headers"]["x-leadline-reason"], "newer_version", "{parked}");
        assert_eq!(parked["payload"], message["payload"]);
    }
    // Others are not held up.
    send_accepted(&fleet, &[note_event(101, 1)]).await;
    ended_as(&fleet, &note_event(101, 1), "written", None).await;
}

/// Every other thing that the next version adds, while this one runs.
#[tokio::test]
async fn services_go_on_with_a_ledger_that_the_next_version_has_migrated() {
    let fleet = fleet(&pipeline()).await;
    for id in [1, 2] {
        contact(&fleet, id, &[BUYER]).await;
    }
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    // The statements are prepared now.
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    sql(
        &fleet,
        "do $$ declare name text; begin
             for name in select oid::regclass::text from pg_class
                         where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
             loop execute format('alter table %s add column if not exists of_the_next_version text', name); end loop;
         end $$;
         create table of_the_next_version (id bigint primary key);
         insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (99991231000000, 'of the next version', true, '\\x00', 0)",
    )
    .await;
    send_accepted(&fleet, &[note_event(2, 1)]).await;
    ended_as(&fleet, &note_event(2, 1), "written", None).await;
    fleet.ledger.check().await.expect("they are ready");
    for role in [Role::Inference, Role::Writer] {
        let checked = fleet.leadline_as(role, &["migrate", "--check"]).await.expect("runs");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[tokio::test]
async fn a_workers_user_is_told_which_migration_is_missing_and_changes_nothing() {
    let fleet = fleet(&FleetPlan { receivers: 0, inferences: 0, writers: 0, ..pipeline() }).await;
    sql(
        &fleet,
        "create table not_migrated as select * from _sqlx_migrations order by version desc limit 1;
         delete from _sqlx_migrations where version in (select version from not_migrated)",
    )
    .await;
    for role in [Role::Inference, Role::Writer] {
        let checked = fleet.leadline_as(role, &["migrate", "--check"]).await.expect("runs");
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(!checked.status.success() && said.contains("run `leadline migrate`"), "{said}");
    }
    fleet.ledger.check_migrations().await.expect_err("nothing was migrated");
    let waited = fleet.leadline_as(Role::Writer, &["migrate", "--check", "--wait", "1"]).await.expect("runs");
    assert!(!waited.status.success(), "it does not wait for ever");
    let migrate = async {
        let asks = "select exists (select from pg_stat_activity where application_name = 'leadline migrate --check')";
        until("it waits", async || ask::<bool>(&fleet, asks).await).await;
        sql(&fleet, "insert into _sqlx_migrations select * from not_migrated").await;
    };
    let (waited, ()) = tokio::join!(fleet.leadline_as(Role::Writer, &["migrate", "--check", "--wait", "300"]), migrate);
    let waited = waited.expect("runs");
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
}
