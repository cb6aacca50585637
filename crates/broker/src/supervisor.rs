//! Keeps a connection open: connects again when it breaks, and puts another one in its place when it falls silent.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_retry::{
    RetryIf,
    strategy::{ExponentialBackoff, jitter},
};

use crate::{
    connection::{BrokerSettings, Open, connect},
    connection_error::ConnectionError,
};

/// Connects again whenever the connection breaks, until the last clone of [`Connection`] is dropped.
pub(crate) async fn supervise(
    settings: Arc<BrokerSettings>,
    state: watch::Sender<Option<Arc<Open>>>,
    mut dropped: watch::Receiver<()>,
) {
    let mut refused_pause = REFUSED_PAUSE;
    loop {
        let open = state.borrow().clone();
        if let Some(open) = open {
            metrics::gauge!("leadline_broker_connected", "connection" => settings.name.clone()).set(1.0);
            tokio::select! {
                () = until_broken(&open) => {}
                fresh = connection_beside(&open, &settings, refused_pause) => {
                    tracing::warn!(connection = settings.name, "the connection to RabbitMQ gave no answers, or refusals alone; another one takes its place");
                    // A full queue refuses on a new connection, too: each of them costs what is under way on the one before.
                    refused_pause = (refused_pause * 2).min(MAX_REFUSED_PAUSE);
                    state.send_replace(Some(Arc::new(fresh)));
                    continue;
                }
                _ = dropped.changed() => return,
            }
            metrics::gauge!("leadline_broker_connected", "connection" => settings.name.clone()).set(0.0);
            tracing::warn!(connection = settings.name, "the connection to RabbitMQ is lost");
        }
        refused_pause = REFUSED_PAUSE;
        state.send_replace(None);
        let delays = ExponentialBackoff::from_millis(2).factor(50).max_delay(settings.max_reconnect_delay).map(jitter);
        let log_and_repeat = |error: &ConnectionError| {
            tracing::warn!(%error, connection = settings.name, "cannot connect to RabbitMQ; trying again");
            true
        };
        let reconnect = RetryIf::start(delays, || connect(&settings, None), log_and_repeat);
        let open = tokio::select! {
            open = reconnect => open,
            _ = dropped.changed() => return,
        };
        if let Ok(open) = open {
            let node = open.node.address;
            tracing::info!(connection = settings.name, %node, "connected to RabbitMQ");
            state.send_replace(Some(Arc::new(open)));
        }
    }
}

/// Waits until the connection is reported as silent and another one can be opened.
async fn connection_beside(open: &Open, settings: &BrokerSettings, refused_pause: Duration) -> Open {
    loop {
        tokio::select! {
            () = open.trouble.silent.notified() => {}
            () = refused_for_long(open, refused_pause) => {}
        }
        // RabbitMQ has said that it blocks publishers. It would say so of another connection only when that one publishes.
        if open.connection.status().blocked() {
            continue;
        }
        // Its node would most likely give no answers on another one, either.
        match connect(settings, Some(open.node)).await {
            Ok(open) => return open,
            Err(error) => {
                tracing::warn!(%error, connection = settings.name, "RabbitMQ does not answer; keeping the connection");
            }
        }
    }
}

/// The pause before a connection is opened because of refusals: the queue may be full, and then each new one is refused as well.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);

/// The pause doubles up to this with each connection that was opened for that reason.
const MAX_REFUSED_PAUSE: Duration = Duration::from_secs(120);

async fn refused_for_long(open: &Open, pause: Duration) {
    open.trouble.refused.notified().await;
    tokio::time::sleep(pause).await;
}

/// How often the connection's state is checked. A connection that ended without a report is noticed within this time.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Waits until the connection is broken or reported as such.
async fn until_broken(open: &Open) {
    loop {
        let reported = tokio::time::timeout(CHECK_INTERVAL, open.trouble.broken.notified()).await.is_ok();
        // A report counts even when the state looks good: the reason may be a deleted queue, which connecting again names.
        if reported || !(open.connection.status().connected() && open.channel.status().connected()) {
            return;
        }
    }
}
