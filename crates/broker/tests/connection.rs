//! A connection whose other side is lost without a word.

use std::time::Duration;

use broker::{BrokerSettings, Connection};
use testbed::{Role, proxy::Proxy};

use crate::fixtures::{declared, settings};

/// Why a service does not start with this URL.
async fn refusal(url: String) -> String {
    let namespace = declared().await;
    let error = Connection::open(BrokerSettings { url: url.into(), ..settings(&namespace, Role::Writer) }).await;
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
    let url = namespace.amqp_url_of(Role::Writer).expect("a URL");
    let through_proxy = BrokerSettings {
        url: url.replace(namespace.amqp_address(), &proxy.address.to_string()).into(),
        heartbeat: Duration::from_secs(1),
        ..settings(&namespace, Role::Writer)
    };
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
