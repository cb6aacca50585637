//! A connection whose other side is lost without a word.

use std::time::Duration;

use broker::{
    BrokerSettings, Connection, ConnectionError, Message, PublishError, Publisher, Route, Stage, Topology,
    declare_topology,
};
use testbed::{
    Role, TestNamespace,
    proxy::{Proxy, Traffic},
};
use tokio::{io::AsyncReadExt, net::TcpListener};

use crate::fixtures::{declared, settings};

/// How to reach the broker of `namespace` through `proxy`.
fn through(proxy: &Proxy, namespace: &TestNamespace) -> BrokerSettings {
    let url = namespace.amqp_url_of(Role::Writer).expect("a URL");
    let url = url.replace(namespace.amqp_address(), &proxy.address.to_string());
    BrokerSettings { address: vec![url.into()].into(), ..settings(namespace, Role::Writer) }
}

/// How to reach the broker of `namespace` through any of the `proxies`, as if they were the nodes of a cluster.
fn through_any(proxies: &[&Proxy], namespace: &TestNamespace) -> BrokerSettings {
    let urls = proxies.iter().flat_map(|proxy| through(proxy, namespace).address.urls).collect::<Vec<_>>();
    BrokerSettings { address: urls.into(), ..settings(namespace, Role::Writer) }
}

async fn publish(publisher: &Publisher) -> Result<(), PublishError> {
    publisher.publish(Route::Queue(Stage::Events), &Message::new("key", b"{}".to_vec())).await
}

/// Why a service does not start with this URL.
async fn refusal(url: String) -> String {
    let namespace = declared().await;
    let error =
        Connection::open(BrokerSettings { address: vec![url.into()].into(), ..settings(&namespace, Role::Writer) })
            .await;
    error.expect_err("no attempt can succeed").to_string()
}

#[tokio::test]
async fn a_url_that_rabbitmq_refuses_ends_the_start_with_words() {
    let namespace = declared().await;
    let good = namespace.amqp_url_of(Role::Writer).expect("a URL");
    let (scheme, rest) = good.split_once("://").expect("a scheme");
    let (_, host) = rest.rsplit_once('@').expect("a user");
    let (address, _) = host.split_once('/').expect("a virtual host");
    let (user, _) = rest.split_once('@').expect("a user");
    for url in [format!("{scheme}://nobody:wrong@{host}"), format!("{scheme}://{user}@{address}/no-such-host")] {
        let says = refusal(url).await;
        assert!(says.starts_with("broker.url: RabbitMQ refuses it"), "{says}");
        assert!(!says.contains("wrong"), "no password: {says}");
    }
    let says = refusal(format!("{good}?heartbeat=soon")).await;
    assert!(says.starts_with("broker.url: "), "{says}");
}

#[tokio::test]
async fn a_consumers_connection_that_brings_nothing_is_opened_again() {
    let namespace = declared().await;
    let proxy = Proxy::to(namespace.amqp_address().to_owned()).await.expect("a proxy");
    let through_proxy = BrokerSettings { heartbeat: Duration::from_secs(1), ..through(&proxy, &namespace) };
    let connection = Connection::open(through_proxy).await.expect("connected");
    assert!(connection.is_ready());
    let before = proxy.connections();
    proxy.silence_open_connections();
    let opened_again = async {
        while proxy.connections() == before || !connection.is_ready() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), opened_again).await.expect("it is noticed without RabbitMQ's help");
    connection.queue_depths().await.expect("the new connection works");
}

#[tokio::test]
async fn how_long_the_queues_are_is_not_waited_for_without_end() {
    let namespace = declared().await;
    let proxy = Proxy::to(namespace.amqp_address().to_owned()).await.expect("a proxy");
    proxy.set(Traffic::Cut);
    let connect_timeout = Duration::from_millis(500);
    let away = BrokerSettings { connect_timeout, ..through(&proxy, &namespace) };
    let connection = Connection::open(away).await.expect("it connects in the background");
    let asked = tokio::time::timeout(Duration::from_secs(20), connection.queue_depths()).await.expect("an end");
    assert!(matches!(asked, Err(ConnectionError::TimedOut(limit)) if limit == connect_timeout), "{asked:?}");
}

/// A confirm that is still owed on the connection before says nothing about the one that has taken its place.
#[tokio::test]
async fn what_becomes_of_a_message_on_an_old_connection_does_not_disturb_the_new_one() {
    let namespace = declared().await;
    let proxy = Proxy::to(namespace.amqp_address().to_owned()).await.expect("a proxy");
    let confirm_timeout = Duration::from_secs(4);
    let settings = BrokerSettings { confirm_timeout, ..through(&proxy, &namespace) };
    let publisher = Publisher::open(settings).await.expect("a publisher");
    let publish = || {
        let publisher = publisher.clone();
        async move { publish(&publisher).await }
    };
    publish().await.expect("published");
    let before = proxy.connections();
    proxy.silence_open_connections();
    let first = tokio::spawn(publish());
    tokio::time::sleep(confirm_timeout / 2).await;
    let second = tokio::spawn(publish());
    let lost = first.await.expect("no panic");
    assert!(matches!(lost, Err(PublishError::Unconfirmed(_))), "{lost:?}");
    while proxy.connections() == before || publish().await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(publisher.is_ready(), "the new connection confirms");
    second.await.expect("no panic").expect_err("it was sent on the old connection");
    assert!(publisher.is_ready());
    // A supervisor that takes the report would connect at once, or look within a quarter of a second.
    let until = tokio::time::Instant::now() + Duration::from_secs(1);
    while tokio::time::Instant::now() < until {
        publish().await.expect("it goes on");
        // The queue takes a thousand.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(proxy.connections(), before + 1, "no other connection was opened");
}

/// The proxies are the nodes of a cluster to the client: the one that it is connected to dies, or says nothing any more.
#[tokio::test]
async fn a_publisher_goes_on_with_another_node_when_its_own_is_lost() {
    let namespace = declared().await;
    for trouble in [Traffic::Cut, Traffic::Stalls] {
        let target = namespace.amqp_address().to_owned();
        let nodes = [Proxy::to(target.clone()).await.expect("a proxy"), Proxy::to(target).await.expect("a proxy")];
        let confirm_timeout = Duration::from_secs(1);
        let settings = BrokerSettings { confirm_timeout, ..through_any(&[&nodes[0], &nodes[1]], &namespace) };
        let publisher = Publisher::open(settings).await.expect("a publisher");
        publish(&publisher).await.expect("published");
        let (own, other) = if nodes[0].connections() > 0 { (&nodes[0], &nodes[1]) } else { (&nodes[1], &nodes[0]) };
        let before = other.connections();
        own.set(trouble);
        let goes_on = async {
            while publish(&publisher).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), goes_on).await.expect("it goes on");
        assert!(other.connections() > before, "{trouble:?}");
        // The first one is there again, and then the second one is lost.
        own.set(Traffic::Flows);
        other.set(trouble);
        let goes_back = async {
            while publish(&publisher).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), goes_back).await.expect("it goes back");
    }
}

#[tokio::test]
async fn a_handshake_that_is_given_up_closes_its_connection() {
    let namespace = declared().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let url = format!("amqp://guest:guest@{}", silent.local_addr().expect("an address"));
    let connect_timeout = Duration::from_millis(200);
    let settings =
        BrokerSettings { address: vec![url.into()].into(), connect_timeout, ..settings(&namespace, Role::Writer) };
    let _connection = Connection::open(settings).await.expect("it connects in the background");
    let (mut peer, _) = silent.accept().await.expect("an attempt");
    let mut header = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(30), peer.read_to_end(&mut header)).await;
    closed.expect("it is closed").expect("read");
    assert_eq!(header, b"AMQP\0\0\x09\x01");
}

/// To a channel that has put nothing into a queue yet, a refusal may be a leader that is away; to one that has, the queue is full.
#[tokio::test]
async fn a_queue_that_refuses_from_the_beginning_is_tried_on_another_connection() {
    let namespace = testbed::namespace().await.expect("a namespace");
    let full = |settings: BrokerSettings| {
        let topology = Topology { max_queue_length: 1, ..settings.topology.clone() };
        BrokerSettings { topology, ..settings }
    };
    declare_topology(&full(settings(&namespace, Role::Owner))).await.expect("declared");
    let target = namespace.amqp_address().to_owned();
    let ways = [Proxy::to(target.clone()).await.expect("a proxy"), Proxy::to(target).await.expect("a proxy")];
    let old = Publisher::open(full(through(&ways[0], &namespace))).await.expect("a publisher");
    while publish(&old).await.is_ok() {}
    let new = Publisher::open(full(through(&ways[1], &namespace))).await.expect("a publisher");
    let refused = publish(&new).await;
    assert!(matches!(refused, Err(PublishError::Rejected(_))), "{refused:?}");
    let opened = async {
        while ways[1].connections() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), opened).await.expect("another connection");
    assert_eq!(ways[0].connections(), 1, "the queue is full, which no other connection changes");
}
