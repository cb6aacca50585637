//! A namespace with queues, and how roles reach it.

use std::time::Duration;

use broker::{BrokerSettings, RetrySchedule, Topology, declare_topology};
use testbed::{Role, TestNamespace};

/// The delay of the retry queue.
pub const DELAY: Duration = Duration::from_secs(60);

/// How a role reaches the broker of `namespace`.
pub fn settings(namespace: &TestNamespace, role: Role) -> BrokerSettings {
    BrokerSettings {
        address: vec![namespace.amqp_url_of(role).expect("a URL").into()].into(),
        name: role.user().to_owned(),
        connect_timeout: Duration::from_secs(30),
        max_reconnect_delay: Duration::from_millis(100),
        confirm_timeout: Duration::from_secs(30),
        heartbeat: Duration::from_secs(30),
        frame_max: 16_384,
        topology: Topology {
            retry_schedule: RetrySchedule::new(vec![DELAY], 3).expect("a schedule"),
            delivery_limit: 20,
            max_queue_length: 1_000,
        },
    }
}

/// A namespace with its queues.
pub async fn declared() -> TestNamespace {
    let namespace = testbed::namespace().await.expect("a namespace");
    declare_topology(&settings(&namespace, Role::Owner)).await.expect("declared");
    namespace
}
