//! Connections to RabbitMQ, from the settings.

use std::time::Duration;

use broker::{
    Authorities, BrokerAddress, BrokerSettings, ClientIdentity, Connection, ConsumerSettings, Publisher, RetrySchedule,
    Stage, Topology,
};
use settings::{BrokerSection, Settings};

use crate::BootstrapError;

/// The delays, the number of attempts and the greatest age of messages that failed.
pub fn retry_schedule(settings: &Settings) -> Result<RetrySchedule, BootstrapError> {
    let section = &settings.broker;
    let delays = section.retry_delays_seconds.iter().copied().map(Duration::from_secs).collect();
    let schedule = RetrySchedule::new(delays, section.max_attempts)?;
    Ok(schedule.with_max_age(Duration::from_secs(section.max_age_seconds)))
}

/// Where RabbitMQ is, and how both sides show who they are.
fn broker_address(section: &BrokerSection) -> Result<BrokerAddress, BootstrapError> {
    let identity = section.tls_certificate.clone().zip(section.tls_key.clone());
    let identity = identity.map(|(certificate, key)| ClientIdentity::from_pem(certificate, key)).transpose()?;
    let authorities = section.tls_ca.clone().map(Authorities::from_pem).transpose()?;
    Ok(BrokerAddress { urls: section.urls(), authorities, identity })
}

/// How to reach RabbitMQ. `connection_name` is shown in RabbitMQ's management UI.
pub fn broker_settings(settings: &Settings, connection_name: &str) -> Result<BrokerSettings, BootstrapError> {
    let section = &settings.broker;
    Ok(BrokerSettings {
        address: broker_address(section)?,
        name: connection_name.to_owned(),
        connect_timeout: Duration::from_secs(section.connect_timeout_seconds),
        max_reconnect_delay: Duration::from_secs(section.reconnect_max_seconds),
        confirm_timeout: Duration::from_millis(section.confirm_timeout_ms),
        heartbeat: Duration::from_secs(section.heartbeat_seconds),
        frame_max: section.frame_max_bytes,
        topology: Topology {
            retry_schedule: retry_schedule(settings)?,
            delivery_limit: section.delivery_limit,
            max_queue_length: section.max_queue_length,
        },
    })
}

/// How to consume `stage`, with at most `concurrency` messages in progress.
pub fn consumer_settings(settings: &Settings, stage: Stage, concurrency: usize) -> ConsumerSettings {
    let shutdown_grace = Duration::from_secs(settings.broker.shutdown_grace_seconds);
    ConsumerSettings { stage, concurrency, shutdown_grace }
}

/// A connection to consume on, named `<service> consumer`.
pub async fn connect_consumer(settings: &Settings, service: &str) -> Result<Connection, BootstrapError> {
    Ok(Connection::open(broker_settings(settings, &format!("{service} consumer"))?).await?)
}

/// The two connections of a service: one to consume, one to publish. They are separate because RabbitMQ blocks whole
/// connections of publishers when it runs out of memory or disk; consumers continue then.
pub async fn connect_broker(settings: &Settings, service: &str) -> Result<(Connection, Publisher), BootstrapError> {
    let publisher = Publisher::open(broker_settings(settings, &format!("{service} publisher"))?);
    Ok((connect_consumer(settings, service).await?, publisher.await?))
}
