//! One process declares the queues; all others only check that they are there, and may do what their role does.

use std::time::Duration;

use broker::{
    BrokerSettings, Connection, ConnectionError, Message, ParkingLot, PublishError, Publisher, RetrySchedule, Route,
    Stage, Topology, TopologyError, declare_topology,
};
use reqwest::Method;
use testbed::{Role, TestNamespace};

use crate::fixtures::{DELAY, declared, settings};

async fn delete(namespace: &TestNamespace, queue: &str) {
    let path = format!("queues/{}/{queue}", namespace.name);
    namespace.management(Method::DELETE, &path, None).await.expect("deleted");
}

/// Why a service does not start.
async fn refusal(settings: BrokerSettings) -> TopologyError {
    match Connection::open(settings).await.expect_err("refused") {
        ConnectionError::Topology(error) => error,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_missing_queue_or_exchange_is_named_and_not_made() {
    let namespace = testbed::namespace().await.expect("a namespace");
    let error = refusal(settings(&namespace, Role::Receiver)).await.to_string();
    assert!(error.contains("RabbitMQ has no `leadline.events.exchange`: run `leadline migrate`"), "{error}");
    declare_topology(&settings(&namespace, Role::Owner)).await.expect("declared");
    declare_topology(&settings(&namespace, Role::Owner)).await.expect("once more changes nothing");
    Connection::open(settings(&namespace, Role::Receiver)).await.expect("everything is there");
    delete(&namespace, "leadline.writes.retry.1m").await;
    let error = refusal(settings(&namespace, Role::Writer)).await.to_string();
    assert!(error.contains("RabbitMQ has no `leadline.writes.retry.1m`"), "{error}");
    let queues = namespace.queues().await.expect("asked");
    assert!(!queues.iter().any(|queue| queue.name == "leadline.writes.retry.1m"), "{queues:?}");
}

#[tokio::test]
async fn a_queue_that_was_declared_with_other_settings_is_named() {
    let namespace = declared().await;
    let changed = |role| {
        let settings = settings(&namespace, role);
        BrokerSettings { topology: Topology { delivery_limit: 7, ..settings.topology.clone() }, ..settings }
    };
    let error = refusal(changed(Role::Inference)).await;
    assert!(matches!(error, TopologyError::Different { queue: "leadline.events", delivery_limit: 7, .. }), "{error}");
    let error = declare_topology(&changed(Role::Owner)).await.expect_err("refused").to_string();
    assert!(error.contains("`leadline.events` exists with other arguments"), "{error}");

    // The operator empties and deletes the queue, and migrates with the new settings. The services that still have the old
    // ones are told so, although that queue was declared with theirs before.
    for stage in Stage::ALL {
        delete(&namespace, stage.queue()).await;
    }
    declare_topology(&changed(Role::Owner)).await.expect("declared");
    Connection::open(changed(Role::Inference)).await.expect("as the settings say");
    let error = refusal(settings(&namespace, Role::Inference)).await;
    assert!(matches!(error, TopologyError::Different { delivery_limit: 20, .. }), "{error}");
}

#[tokio::test]
async fn a_queue_that_is_deleted_while_a_service_runs_is_used_again_when_it_is_back() {
    let namespace = declared().await;
    let publisher = Publisher::open(settings(&namespace, Role::Receiver)).await.expect("a publisher");
    let message = Message::new("key", b"{}".to_vec());
    delete(&namespace, "leadline.events").await;
    let lost = publisher.publish(Route::Queue(Stage::Events), &message).await;
    assert!(matches!(lost, Err(PublishError::Unroutable(_))), "{lost:?}");
    declare_topology(&settings(&namespace, Role::Owner)).await.expect("declared");
    let published = async {
        while publisher.publish(Route::Queue(Stage::Events), &message).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), published).await.expect("taken again");
}

/// Which stages each program may put messages into. Each try has a connection of its own: RabbitMQ closes the channel of
/// who does what it may not.
#[tokio::test]
async fn each_program_writes_only_to_the_stages_of_its_role() {
    let namespace = declared().await;
    for (role, may) in [
        (Role::Receiver, &[Stage::Events, Stage::Erasures][..]),
        (Role::Inference, &Stage::ALL),
        // It runs the reconciler, too.
        (Role::Writer, &[Stage::Events, Stage::Erasures, Stage::Writes]),
        (Role::Operator, &Stage::ALL),
    ] {
        for stage in Stage::ALL {
            for route in [Route::Queue(stage), Route::Retry(stage, DELAY), Route::Parked(stage)] {
                let publisher = Publisher::open(settings(&namespace, role)).await.expect("a publisher");
                let published = publisher.publish(route, &Message::new("forged", b"{}".to_vec())).await;
                assert_eq!(published.is_ok(), may.contains(&stage), "{}: {route}: {published:?}", role.user());
            }
        }
    }
}

/// Which queues each program may read.
#[tokio::test]
async fn each_program_reads_only_the_queues_of_its_role() {
    let namespace = declared().await;
    let publisher = Publisher::open(settings(&namespace, Role::Operator)).await.expect("a publisher");
    // Who erases persons: an inference worker by itself, and an operator.
    let resting = Stage::ALL.into_iter().flat_map(|stage| [Route::Parked(stage), Route::Retry(stage, DELAY)]);
    let resting: Vec<_> = resting.collect();
    for route in &resting {
        publisher.publish(*route, &Message::new("resting", b"{}".to_vec())).await.expect("published");
    }
    for (role, may) in [(Role::Receiver, false), (Role::Inference, true), (Role::Writer, false), (Role::Operator, true)]
    {
        for route in &resting {
            let connection = Connection::open(settings(&namespace, role)).await.expect("a connection");
            let queue = ParkingLot::open_queue(&connection, *route).await.expect("a channel");
            let read = queue.next().await;
            assert_eq!(read.is_ok_and(|message| message.is_some()), may, "{}: {route}", role.user());
            queue.close().await;
        }
    }
}

#[tokio::test]
async fn no_service_may_declare_anything() {
    let namespace = declared().await;
    for role in [Role::Receiver, Role::Inference, Role::Writer, Role::Operator] {
        let mut wider = settings(&namespace, role);
        wider.topology.retry_schedule = RetrySchedule::new(vec![DELAY * 2], 3).expect("a schedule");
        let error = declare_topology(&wider).await.expect_err("refused").to_string();
        assert!(error.contains("ACCESS_REFUSED") || error.contains("access"), "{}: {error}", role.user());
    }
}

/// A policy as administrators set it for all queues of a host.
async fn set_policy(namespace: &TestNamespace, definition: serde_json::Value) {
    let path = format!("policies/{}/house-rule", namespace.name);
    let policy = serde_json::json!({"pattern": ".*", "definition": definition, "apply-to": "queues"});
    namespace.management(Method::PUT, &path, Some(policy)).await.expect("set");
}

#[tokio::test]
async fn a_policy_that_makes_queues_drop_messages_is_refused_before_one_is_lost() {
    let namespace = declared().await;
    set_policy(&namespace, serde_json::json!({"max-length": 5})).await;
    declare_topology(&settings(&namespace, Role::Owner)).await.expect("full queues refuse messages as before");
    set_policy(&namespace, serde_json::json!({"max-length": 5, "overflow": "drop-head"})).await;
    let refused = declare_topology(&settings(&namespace, Role::Owner)).await.expect_err("messages would be lost");
    assert!(matches!(refused, ConnectionError::Topology(TopologyError::Drops)), "{refused}");
    let left: Vec<_> = namespace.queues().await.expect("asked").into_iter().map(|queue| queue.name).collect();
    assert!(!left.iter().any(|name| name.contains("overflow-check")), "{left:?}");
}

/// A receiver may neither declare nor read, and notices within moments.
#[tokio::test]
async fn a_policy_that_is_set_while_a_receiver_runs_is_noticed_and_so_is_its_end() {
    let namespace = declared().await;
    let publisher = Publisher::open(settings(&namespace, Role::Receiver)).await.expect("a publisher");
    let becomes = async |expected: bool| {
        let noticed = async { while publisher.refuses_when_full().await.expect("answers") != expected {} };
        tokio::time::timeout(Duration::from_secs(60), noticed).await.expect("noticed");
    };
    for _ in 0..3 {
        assert!(publisher.refuses_when_full().await.expect("answers"), "as declared");
    }
    set_policy(&namespace, serde_json::json!({"max-length": 5, "overflow": "drop-head"})).await;
    becomes(false).await;
    set_policy(&namespace, serde_json::json!({"max-length": 5, "overflow": "reject-publish"})).await;
    becomes(true).await;
    set_policy(&namespace, serde_json::json!({"overflow": "drop-head"})).await;
    becomes(false).await;
    let path = format!("policies/{}/house-rule", namespace.name);
    namespace.management(Method::DELETE, &path, None).await.expect("deleted");
    becomes(true).await;
    delete(&namespace, "leadline.events.overflow").await;
    let missing = publisher.refuses_when_full().await;
    assert!(matches!(missing, Err(ConnectionError::Topology(TopologyError::Missing { .. }))), "{missing:?}");
}

#[cfg(feature = "management")]
#[tokio::test]
async fn a_policy_that_changes_a_queue_is_named_with_what_it_does() {
    let namespace = declared().await;
    let settings = settings(&namespace, Role::Owner);
    let url = namespace.management_url().to_owned().into();
    let harmful = async || {
        let found = broker::harmful_policies(&url, &settings).await.expect("asked");
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(harmful().await, Vec::<String>::new());
    set_policy(&namespace, serde_json::json!({"overflow": "drop-head"})).await;
    // RabbitMQ applies a policy to its queues a moment later.
    let all = async {
        loop {
            let found = harmful().await;
            if found.len() == Stage::ALL.len() * 3 {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(60), all).await.expect("every queue has it");
    let expected =
        "the policy `house-rule` on `leadline.events` has overflow = \"drop-head\": a full queue drops messages";
    assert!(found.contains(&expected.to_owned()), "{found:?}");
}
