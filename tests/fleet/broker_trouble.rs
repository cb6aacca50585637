//! A broker that closes channels, blocks publishers, or is not there. Each test has a RabbitMQ of its own.

use std::time::{Duration, Instant};

use lab::{Fleet, FleetPlan, Proxy, proxy::Traffic};
use reqwest::StatusCode;
use serde_json::{Value, json};
use simulator::{Fault, FaultKind, Target};
use testbed::{Services, TestNamespace};

use fixtures::{
    BUYER, WITHIN, ask, contact, ended_as, note_event, questions, quick, send, send_accepted, signed, times_set, until,
};

/// The sum of a member's metric `name` over the series for which `is_counted` holds.
async fn metric(fleet: &Fleet, program: &str, name: &str, is_counted: fn(&str) -> bool) -> f64 {
    let url = format!("{}/metrics", fleet.members[fleet.indices(program)[0]].admin_url);
    let text = reqwest::get(url).await.expect("answers").text().await.expect("text");
    let counted = text.lines().filter(|line| line.starts_with(name) && is_counted(line));
    counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// The time-out is four seconds here, and thirty minutes by default.
#[tokio::test]
async fn a_delivery_beyond_the_consumer_timeout_closes_the_channel_and_the_consumer_comes_back() {
    http_client::install_tls_provider();
    let services =
        Services::private("consumer_timeout = 4000\n", ", {channel_tick_interval, 500}").await.expect("services");
    let namespace = TestNamespace::new(&services).await.expect("a namespace");
    let plan = FleetPlan { simulator_arguments: vec!["--model-latency-ms".to_owned(), "9000".to_owned()], ..quick() };
    let fleet = Fleet::start(namespace, &plan).await.expect("a fleet");
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    until("the channel is closed", async || {
        metric(&fleet, "leadline-inference", "leadline_consumer_restarts_total", |_| true).await >= 1.0
    })
    .await;
    // The answer that was under way counts, and what comes after it is taken up.
    let story = ended_as(&fleet, &note_event(1, 1), "written", None).await;
    assert_eq!(
        story.history.iter().filter(|entry| entry.state == domain::EventState::Claimed).count(),
        1,
        "{:?}",
        story.history
    );
    assert_eq!(questions(&fleet).await, 1);
    contact(&fleet, 2, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(2, 1)]).await;
    ended_as(&fleet, &note_event(2, 1), "written", None).await;
    assert_eq!(times_set(&fleet, 1, "lead_score").await, 1);
}

const DELIVERY_LIMIT: u32 = 3;

/// Publishers are blocked for longer than it takes a message to reach its delivery limit by being handed back.
#[tokio::test]
async fn a_memory_alarm_is_answered_503_at_once_and_parks_nothing() {
    http_client::install_tls_provider();
    let mut services = Services::private("", "").await.expect("services");
    let namespace = TestNamespace::new(&services).await.expect("a namespace");
    let plan =
        quick().with("broker.delivery_limit", &DELIVERY_LIMIT.to_string()).with("broker.confirm_timeout_ms", "2000");
    let fleet = Fleet::start(namespace, &plan).await.expect("a fleet");
    for id in 1..=10 {
        contact(&fleet, id, &[BUYER]).await;
    }
    // The model answers when the alarm is on.
    fleet.simulator.fault(&Fault::new(Target::Openai, FaultKind::Held)).await.expect("set");
    send_accepted(&fleet, &(1..=9).map(|id| note_event(id, 1)).collect::<Vec<_>>()).await;
    let claimed = "select count(*) = 9 from event where state = 'claimed'";
    until("all are being worked on", async || ask(&fleet, claimed).await).await;
    let instances = services.instances().expect("private");
    instances.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0001"]).await.expect("an alarm");
    let blocked = Instant::now();
    fleet.simulator.clear_faults().await.expect("cleared");
    // The broker tells a publisher that it is blocked when it publishes. Were the nine messages handed back each time that
    // they cannot be published, they would all have reached the delivery limit.
    let is_failure = |series: &str| !series.contains("outcome=\"confirmed\"");
    let mut refused = send(&fleet, &[note_event(10, 1)]).await;
    let beyond_the_limit = f64::from(9 * (DELIVERY_LIMIT + 2));
    while metric(&fleet, "leadline-inference", "leadline_messages_published_total", is_failure).await < beyond_the_limit
    {
        refused = send(&fleet, &[note_event(10, 1)]).await;
        assert_eq!(refused.status, 503, "{}", refused.answer);
        assert!(blocked.elapsed() < WITHIN, "the worker does not try to publish");
    }
    // The receiver knows that it is blocked: it does not wait for a confirm, which would take two seconds.
    assert!(refused.answer.contains("unreachable or blocks publishers"), "{}", refused.answer);
    assert!(refused.latency_ms < 1_000.0, "refused at once: {} ms", refused.latency_ms);
    instances.rabbitmqctl(&["set_vm_memory_high_watermark", "0.4"]).await.expect("over");
    let taken = async {
        while send(&fleet, &[note_event(10, 1)]).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), taken).await.expect("taken again within 5 s");
    for id in 1..=10 {
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
    let parked: i64 = ask(&fleet, "select count(*) from parked").await;
    assert_eq!(parked, 0);
    fleet.until_parked("leadline.events", 0, WITHIN).await.expect("nothing in the parking lot");
    assert_eq!(questions(&fleet).await, 10, "what was answered before the alarm is not asked again");
}

/// A hundred full batches at once, each as large as a body may be: the broker is gone, or takes and says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_without_a_broker_is_refused_at_once_and_memory_stays_flat() {
    const LIMIT_KIB: u64 = 64 * 1_024;
    let services = fixtures::services();
    let (_, broker) = services.amqp_url.rsplit_once('@').expect("a user");
    let proxy = Proxy::to(broker.to_owned()).await.expect("a proxy");
    let namespace = TestNamespace::new(&services).await.expect("a namespace");
    let through = namespace.amqp_url.replace(broker, &proxy.address.to_string());
    // The confirm's share of HubSpot's five seconds is small: the rest is for a busy machine to take in 100 MB. A body that
    // does not come within the read timeout is cut off.
    let plan = FleetPlan { broker_url: Some(through), inferences: 0, writers: 0, ..quick() }
        .with("broker.confirm_timeout_ms", "1000")
        .with("receiver.read_timeout_ms", "3500")
        .with("broker.reconnect_max_seconds", "1");
    let fleet = Fleet::start(namespace, &plan).await.expect("a fleet");
    let batch: Vec<Value> = (0..100)
        .map(|n| {
            let mut event = note_event(1, n);
            event["propertyValue"] = json!("x".repeat(9_800));
            event
        })
        .collect();
    let body = serde_json::to_vec(&batch).expect("JSON");
    assert!(body.len() > 1_000_000, "nearly as large as a body may be");
    // Signed once: a client that is busy signing is slow to send, and is cut off.
    let request = signed(&fleet.receivers()[0], &simulator::Config::default().client_secret, body);
    for traffic in [Traffic::Stalls, Traffic::Cut] {
        proxy.set(traffic);
        for round in 0..3 {
            let flood: Vec<_> = (0..100)
                .map(|_| {
                    let request = request.try_clone().expect("a body in memory");
                    tokio::spawn(async move {
                        let started = Instant::now();
                        (request.send().await.expect("an answer").status(), started.elapsed())
                    })
                })
                .collect();
            let mut slowest = Duration::ZERO;
            for answer in flood {
                let (status, took) = answer.await.expect("answered");
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
                slowest = slowest.max(took);
            }
            // HubSpot waits five seconds. The first ones find out that no confirm comes.
            assert!(slowest < Duration::from_secs(5), "{traffic:?}, round {round}: {slowest:?}");
        }
    }
    let peak = fleet.peak_memory("leadline-receiver");
    assert!(peak < LIMIT_KIB, "{peak} KiB at the peak");
    println!("a receiver's peak memory under the flood: {peak} KiB");
    proxy.set(Traffic::Flows);
    let back = async {
        while send(&fleet, &[note_event(1, 1)]).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), back).await.expect("taken again");
}

/// Two proxies to one RabbitMQ are two nodes to the fleet. Each is lost in turn, so that every connection is lost once.
#[tokio::test]
async fn a_fleet_goes_on_with_another_node_when_one_is_lost_and_does_nothing_twice() {
    let services = fixtures::services();
    let (_, broker) = services.amqp_url.rsplit_once('@').expect("a user");
    let to_broker = async || Proxy::to(broker.to_owned()).await.expect("a proxy");
    let nodes = [to_broker().await, to_broker().await];
    let namespace = TestNamespace::new(&services).await.expect("a namespace");
    let url = |node: &Proxy| namespace.amqp_url.replace(broker, &node.address.to_string());
    let urls = nodes.each_ref().map(url).join(",");
    let plan = FleetPlan { broker_url: Some(urls), ..quick() }.with("broker.confirm_timeout_ms", "1000");
    let fleet = Fleet::start(namespace, &plan).await.expect("a fleet");
    for contact_id in 1..=3 {
        contact(&fleet, contact_id, &[BUYER]).await;
    }
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    for (node, contact_id) in nodes.iter().zip([2, 3]) {
        node.set(Traffic::Cut);
        let taken = async {
            while send(&fleet, &[note_event(contact_id, 1)]).await.status != 200 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), taken).await.expect("taken again");
        ended_as(&fleet, &note_event(contact_id, 1), "written", None).await;
        node.set(Traffic::Flows);
    }
    for contact_id in 1..=3 {
        assert_eq!(times_set(&fleet, contact_id, "lead_score").await, 1);
    }
    assert_eq!(questions(&fleet).await, 3);
}

/// An administrator sets a policy for all queues of the host, and takes it away again.
#[tokio::test]
async fn a_receiver_is_unready_while_a_policy_makes_queues_drop_messages() {
    let plan = FleetPlan { inferences: 0, writers: 0, ..quick() }.with("receiver.overflow_check_seconds", "1");
    let fleet = fixtures::fleet(&plan).await;
    let url = format!("{}/readyz", fleet.members[fleet.indices("leadline-receiver")[0]].admin_url);
    let says = async |status: StatusCode, text: &str| {
        let response = reqwest::get(&url).await.expect("answers");
        response.status() == status && response.text().await.expect("text").contains(text)
    };
    assert!(says(StatusCode::OK, "").await);
    let path = format!("policies/{}/house-rule", fleet.namespace.name);
    let definition = json!({"max-length": 5, "overflow": "drop-head"});
    let policy = json!({"pattern": "^leadline\\.events", "definition": definition, "apply-to": "queues"});
    fleet.namespace.management(reqwest::Method::PUT, &path, Some(policy)).await.expect("set");
    let drops = "queues: a policy of RabbitMQ makes full queues drop messages that were answered 200";
    until("it is unready", async || says(StatusCode::SERVICE_UNAVAILABLE, drops).await).await;
    fleet.namespace.management(reqwest::Method::DELETE, &path, None).await.expect("deleted");
    until("it is ready again", async || says(StatusCode::OK, "").await).await;
}
