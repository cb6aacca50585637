//! A connection that looks after itself: it comes back when the broker does.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use lapin::{Channel, ConnectionProperties, options::ConfirmSelectOptions, uri::AMQPUri};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Notify, watch};
use tokio_retry::{
    RetryIf,
    strategy::{ExponentialBackoff, jitter},
};

use crate::topology::{Topology, TopologyError};

/// How the broker is reached.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// `amqp://user:password@host:port/vhost`, or `amqps://…`.
    pub url: SecretString,
    /// The connection's name in the management UI.
    pub name: String,
    /// For one try, from TCP to the declared topology.
    pub connect_timeout: Duration,
    /// The longest wait between two tries.
    pub max_reconnect_delay: Duration,
    /// How long a publisher waits for its confirm.
    pub confirm_timeout: Duration,
    /// The longest frame, in bytes; a longer message is cut. The client keeps buffers of 32 frames in both directions, and
    /// touches all of them.
    pub frame_max: u32,
    /// The queues.
    pub topology: Topology,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The broker cannot be reached, or refuses us.
    #[error("no connection to RabbitMQ: {0}")]
    Connection(#[from] lapin::Error),
    /// The URL is none.
    #[error("broker.url: {0}")]
    Url(String),
    /// No answer in time.
    #[error("RabbitMQ did not answer within {0:?}")]
    TimedOut(Duration),
    /// The queues are not as they should be.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

impl ConnectionError {
    /// Whether only a person can mend it.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Topology(TopologyError::Mismatch { .. }))
    }
}

/// A connection with one channel, kept open by a task of its own until the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    state: watch::Receiver<Option<Arc<Open>>>,
    broken: Arc<Notify>,
    settings: Arc<BrokerSettings>,
    _alive: Arc<watch::Sender<()>>,
}

/// An open connection. Dropping it closes it.
#[derive(Debug)]
struct Open {
    connection: lapin::Connection,
    channel: Channel,
}

impl Connection {
    /// Starts to connect, declares the topology, and stays connected.
    ///
    /// # Errors
    /// Only when the first answer shows a mismatch that no waiting mends. A broker that is away is waited for.
    pub async fn open(settings: BrokerSettings) -> Result<Self, ConnectionError> {
        let settings = Arc::new(settings);
        let first = match connect(&settings).await {
            Ok(open) => Some(Arc::new(open)),
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "waiting for RabbitMQ");
                None
            }
        };
        let (state, receiver) = watch::channel(first);
        let broken = Arc::new(Notify::new());
        let (alive, dropped) = watch::channel(());
        tokio::spawn(supervise(settings.clone(), state, broken.clone(), dropped));
        Ok(Self { state: receiver, broken, settings, _alive: Arc::new(alive) })
    }

    /// The channel, if it can be used right now: connected, and the broker not blocking publishers (it does so when
    /// it runs out of memory or disk).
    pub fn channel(&self) -> Option<Channel> {
        let open = self.state.borrow().clone()?;
        let usable = open.connection.status().connected()
            && open.channel.status().connected()
            && !open.connection.status().blocked();
        usable.then(|| open.channel.clone())
    }

    /// Waits until there is a channel that can be consumed from.
    pub async fn wait(&self) -> Channel {
        let mut state = self.state.clone();
        loop {
            let open = state.borrow_and_update().clone();
            if let Some(open) = open.filter(|open| open.channel.status().connected()) {
                return open.channel.clone();
            }
            // The supervisor lives as long as this connection does; should it end, there is nothing to wait for but the
            // service's own end.
            if state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// One more channel on the same connection.
    pub(crate) async fn fresh_channel(&self) -> Result<Channel, ConnectionError> {
        self.wait().await;
        let open = self.state.borrow().clone();
        match open {
            Some(open) => Ok(open.connection.create_channel().await?),
            None => Err(ConnectionError::TimedOut(Duration::ZERO)),
        }
    }

    /// How many messages wait in each queue (see [`Topology::depths`]).
    pub async fn depths(&self) -> Result<Vec<(String, u32)>, ConnectionError> {
        Ok(self.settings.topology.depths(&self.wait().await).await?)
    }

    /// Tells the supervisor that the channel does not work, so that it looks at once.
    pub fn report_broken(&self) {
        self.broken.notify_one();
    }

    /// Whether messages can be published right now.
    pub fn is_ready(&self) -> bool {
        self.channel().is_some()
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &BrokerSettings {
        &self.settings
    }
}

async fn supervise(
    settings: Arc<BrokerSettings>,
    state: watch::Sender<Option<Arc<Open>>>,
    broken: Arc<Notify>,
    mut dropped: watch::Receiver<()>,
) {
    loop {
        let open = state.borrow().clone();
        if let Some(open) = open {
            metrics::gauge!("leadline_broker_connected", "connection" => settings.name.clone()).set(1.0);
            tokio::select! {
                () = until_broken(&open, &broken) => {}
                _ = dropped.changed() => return,
            }
            metrics::gauge!("leadline_broker_connected", "connection" => settings.name.clone()).set(0.0);
            tracing::warn!(connection = settings.name, "the connection to RabbitMQ is gone");
        }
        state.send_replace(None);
        let delays = ExponentialBackoff::from_millis(2).factor(50).max_delay(settings.max_reconnect_delay).map(jitter);
        let again = |error: &ConnectionError| {
            tracing::warn!(%error, connection = settings.name, "trying again to connect");
            true
        };
        let reconnect = RetryIf::start(delays, || connect(&settings), again);
        let open = tokio::select! {
            open = reconnect => open,
            _ = dropped.changed() => return,
        };
        if let Ok(open) = open {
            tracing::info!(connection = settings.name, "connected to RabbitMQ");
            // Reports about the connection before this one.
            let _ = broken.notified().now_or_never();
            state.send_replace(Some(Arc::new(open)));
        }
    }
}

/// How soon a connection that died in silence is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

async fn until_broken(open: &Open, broken: &Notify) {
    loop {
        let reported = tokio::time::timeout(LOOK_EVERY, broken.notified()).await.is_ok();
        // A report counts even when all looks well: a queue that somebody deleted is declared again by connecting.
        if reported || !(open.connection.status().connected() && open.channel.status().connected()) {
            return;
        }
    }
}

async fn connect(settings: &BrokerSettings) -> Result<Open, ConnectionError> {
    let open = async {
        let properties = ConnectionProperties::default().with_connection_name(settings.name.as_str().into());
        let mut uri: AMQPUri = settings.url.expose_secret().parse().map_err(ConnectionError::Url)?;
        uri.query.frame_max.get_or_insert(settings.frame_max);
        let connection = lapin::Connection::connect_uri(uri, properties).await?;
        let channel = connection.create_channel().await?;
        settings.topology.declare(&channel).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Open { connection, channel })
    };
    tokio::time::timeout(settings.connect_timeout, open)
        .await
        .unwrap_or(Err(ConnectionError::TimedOut(settings.connect_timeout)))
}
