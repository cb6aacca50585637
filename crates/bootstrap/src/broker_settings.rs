use std::time::Duration;

use broker::{ConsumerSettings, RetrySchedule, Stage, Topology};
use settings::Settings;

/// How `purpose` (its connection's name in the management UI) reaches RabbitMQ.
pub fn broker(settings: &Settings, purpose: &str) -> Result<broker::Settings, String> {
    let section = &settings.broker;
    let delays = section.retry_delays_seconds.iter().copied().map(Duration::from_secs).collect();
    let retry_schedule = RetrySchedule::new(delays, section.max_attempts)
        .map_err(|what| format!("broker.retry_delays_seconds: {what}"))?;
    Ok(broker::Settings {
        url: section.url.clone(),
        name: purpose.to_owned(),
        connect_timeout: Duration::from_secs(section.connect_timeout_seconds),
        reconnect_cap: Duration::from_secs(section.reconnect_max_seconds),
        confirm_timeout: Duration::from_millis(section.confirm_timeout_ms),
        frame_max: section.frame_max_bytes,
        topology: Topology {
            retry_schedule,
            delivery_limit: section.delivery_limit,
            max_length: section.max_queue_length,
        },
    })
}

/// How a stage is consumed.
pub fn consumer(settings: &Settings, stage: Stage, concurrency: usize) -> ConsumerSettings {
    ConsumerSettings { stage, concurrency, grace: Duration::from_secs(settings.broker.shutdown_grace_seconds) }
}
