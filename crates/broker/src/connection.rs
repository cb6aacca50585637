//! A connection to RabbitMQ that is kept open: it reconnects by itself and checks the queues each time.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use lapin::{Channel, ConnectionProperties, ErrorKind, options::ConfirmSelectOptions, uri::AMQPUri};
use rustls::AlertDescription;
use secrecy::ExposeSecret;
use tokio::sync::{Notify, watch};
use tokio_retry::{
    RetryIf,
    strategy::{ExponentialBackoff, jitter},
};

use crate::{
    address::BrokerAddress,
    dial::{Node, dial, first_node},
    overflow_check::{check_overflow, refuses_when_full},
    route::Route,
    topology::{Topology, TopologyError},
};

/// How to reach the broker.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// Where it is.
    pub address: BrokerAddress,
    /// The connection's name, as shown in the management UI.
    pub name: String,
    /// The time that one attempt with one node may take, from TCP to the checked queues.
    pub connect_timeout: Duration,
    /// The longest delay between two attempts to connect.
    pub max_reconnect_delay: Duration,
    /// How long a publisher waits for its confirm.
    pub confirm_timeout: Duration,
    /// A connection that brings nothing for twice as long is dead, to either side. RabbitMQ's documentation ("Detecting Dead TCP Connections
    /// with Heartbeats") recommends 5 to 20 seconds.
    pub heartbeat: Duration,
    /// The largest frame, in bytes. A longer message is sent in several frames. The client (lapin) keeps buffers of 32
    /// frames in each direction and touches all of them, so this decides how much memory a connection takes.
    pub frame_max: u32,
    /// The queues that there have to be.
    pub topology: Topology,
}

impl BrokerSettings {
    /// The virtual host, which is the same in every URL.
    pub fn vhost(&self) -> String {
        let first = self.address.urls.first().and_then(|url| url.expose_secret().parse::<AMQPUri>().ok());
        first.map_or_else(|| "/".to_owned(), |uri| uri.vhost)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The broker is unreachable or ended the connection.
    #[error("no connection to RabbitMQ: {0}")]
    Connection(lapin::Error),
    /// The broker does not let this user in, or has no such virtual host.
    #[error("broker.url: RabbitMQ refuses it, because of the user, the password or the virtual host: {0}")]
    Refused(lapin::Error),
    /// The broker's certificate is not accepted.
    #[error(
        "broker.url: RabbitMQ's certificate is not accepted: {0}. Authorities of your own are named in broker.tls_ca"
    )]
    Certificate(rustls::Error),
    /// The broker ended the TLS handshake.
    #[error(
        "broker.url: RabbitMQ ends the TLS handshake: {0}. Does it want another certificate (broker.tls_certificate)?"
    )]
    OurCertificate(rustls::Error),
    /// The URL is invalid. The client's error is not told: it may quote the URL, with the password.
    #[error("broker.url: it is no AMQP URL")]
    Url,
    /// The broker did not answer in time.
    #[error("RabbitMQ did not answer within {0:?}")]
    TimedOut(Duration),
    /// The queues could not be declared, or are not as the settings say.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

impl From<lapin::Error> for ConnectionError {
    fn from(error: lapin::Error) -> Self {
        /// AMQP 0-9-1: `ACCESS_REFUSED`, which is about the user, and `NOT_ALLOWED`, which is about the virtual host.
        const NOT_LET_IN: [u16; 2] = [403, 530];
        match error.kind() {
            ErrorKind::ProtocolError(reply) if NOT_LET_IN.contains(&reply.get_id()) => Self::Refused(error),
            ErrorKind::IOError(io) => match io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(tls @ rustls::Error::InvalidCertificate(_)) => Self::Certificate(tls.clone()),
                Some(tls @ rustls::Error::AlertReceived(alert)) if is_about_certificate(*alert) => {
                    Self::OurCertificate(tls.clone())
                }
                _ => Self::Connection(error),
            },
            _ => Self::Connection(error),
        }
    }
}

/// Whether an alert says that the certificate is not the right one (RFC 8446, section 6.2). The others may be those of a server, or of a
/// load balancer before it, that is just starting.
fn is_about_certificate(alert: AlertDescription) -> bool {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown,
        UnknownCA, UnsupportedCertificate,
    };
    matches!(
        alert,
        BadCertificate
            | UnsupportedCertificate
            | CertificateRevoked
            | CertificateExpired
            | CertificateUnknown
            | CertificateRequired
            | UnknownCA
            | AccessDenied
    )
}

impl ConnectionError {
    /// Whether the broker's side has cut the connection without a word.
    pub(crate) fn is_reset(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let Self::Connection(error) = self else { return false };
        let ErrorKind::IOError(error) = error.kind() else { return false };
        matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof)
    }

    /// Whether no new attempt can succeed before a person acts.
    pub fn is_fatal(&self) -> bool {
        use TopologyError::{Different, Drops, Mismatch, Missing};
        match self {
            Self::Url | Self::Refused(_) | Self::Certificate(_) | Self::OurCertificate(_) => true,
            Self::Topology(error) => matches!(error, Mismatch { .. } | Missing { .. } | Different { .. } | Drops),
            Self::Connection(_) | Self::TimedOut(_) => false,
        }
    }
}

/// A connection with one channel. A background task keeps it open until the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    state: watch::Receiver<Option<Arc<Open>>>,
    settings: Arc<BrokerSettings>,
    _alive: Arc<watch::Sender<()>>,
}

/// What users of an open connection report to the supervisor. Each open connection has its own, so that a report about one that was
/// replaced has no effect.
#[derive(Debug, Default)]
struct Trouble {
    /// It does not work.
    broken: Notify,
    /// It gives no answers, and may be dead without a word.
    silent: Notify,
    /// A queue refuses messages that has never taken one on this channel.
    refused: Notify,
    /// The queues that have taken a message on this channel.
    taking: Mutex<HashSet<String>>,
}

/// An open connection. Dropping it closes it.
#[derive(Debug)]
struct Open {
    connection: lapin::Connection,
    channel: Channel,
    node: Node,
    trouble: Arc<Trouble>,
}

/// The channel of an open connection, to which what is reported belongs.
#[derive(Debug, Clone)]
pub struct OpenChannel {
    channel: Channel,
    trouble: Arc<Trouble>,
}

impl OpenChannel {
    /// The channel.
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Tells the supervisor that the channel does not work, so that it reconnects at once.
    pub(crate) fn report_broken(&self) {
        self.trouble.broken.notify_one();
    }

    /// Tells the supervisor that answers do not come. It opens another connection beside this one, which takes its place if it
    /// works: RabbitMQ may be slow, and then the old one is as good.
    pub(crate) fn report_silent(&self) {
        self.trouble.silent.notify_one();
    }
}

impl OpenChannel {
    /// Remembers that a queue takes messages on this channel.
    pub(crate) fn took(&self, queue: &str) {
        let mut taking = self.trouble.taking.lock().unwrap_or_else(PoisonError::into_inner);
        if !taking.contains(queue) {
            taking.insert(queue.to_owned());
        }
    }

    /// Tells the supervisor that a queue refuses messages. One that took messages before is full. One that never did may look to this
    /// channel alone as if it had no leader: RabbitMQ 3.10 asks the leader that it knew when the channel published there for the first
    /// time, for as long as that node is down. Then the supervisor opens another connection, as for a silent one, but not at once.
    pub(crate) fn report_refused(&self, queue: &str) {
        let taking = self.trouble.taking.lock().unwrap_or_else(PoisonError::into_inner);
        if !taking.contains(queue) {
            self.trouble.refused.notify_one();
        }
    }
}

impl Open {
    fn usable(&self) -> OpenChannel {
        OpenChannel { channel: self.channel.clone(), trouble: self.trouble.clone() }
    }
}

impl Connection {
    /// Connects, checks the queues, and keeps the connection open. If the broker is unreachable, it returns at once and
    /// connects in the background.
    ///
    /// # Errors
    /// Only when the first attempt shows that a person has to act: the URL is wrong, RabbitMQ refuses user or virtual host, or queues
    /// are missing or were declared with other settings.
    pub async fn open(settings: BrokerSettings) -> Result<Self, ConnectionError> {
        let settings = Arc::new(settings);
        let first = match connect(&settings, None).await {
            Ok(open) => Some(Arc::new(open)),
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "RabbitMQ cannot be reached; trying again");
                None
            }
        };
        let (state, receiver) = watch::channel(first);
        let (alive, dropped) = watch::channel(());
        tokio::spawn(supervise(settings.clone(), state, dropped));
        Ok(Self { state: receiver, settings, _alive: Arc::new(alive) })
    }

    /// The channel, if a message can be published on it now: it is connected, and the broker does not block publishers (it
    /// does so when it runs out of memory or disk).
    pub(crate) fn channel(&self) -> Option<OpenChannel> {
        let open = self.state.borrow().clone()?;
        let usable = open.connection.status().connected()
            && open.channel.status().connected()
            && !open.connection.status().blocked();
        usable.then(|| open.usable())
    }

    /// Whether this is still the channel that messages are published on.
    pub(crate) fn is_current(&self, channel: &OpenChannel) -> bool {
        self.state.borrow().as_ref().is_some_and(|open| Arc::ptr_eq(&open.trouble, &channel.trouble))
    }

    /// Waits until there is a channel to consume from.
    pub(crate) async fn wait_for_channel(&self) -> OpenChannel {
        let mut state = self.state.clone();
        loop {
            let open = state.borrow_and_update().clone();
            if let Some(open) = open.filter(|open| open.channel.status().connected()) {
                return open.usable();
            }
            // The supervisor ends only when the last clone of this connection is dropped, or when the runtime shuts down:
            // then the service ends as well, and there is nothing else to wait for.
            if state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// A second channel on the same connection.
    pub(crate) async fn new_channel(&self) -> Result<Channel, ConnectionError> {
        self.wait_for_channel().await;
        let open = self.state.borrow().clone();
        match open {
            Some(open) => Ok(open.connection.create_channel().await?),
            None => Err(ConnectionError::TimedOut(Duration::ZERO)),
        }
    }

    /// How many messages are in each queue (see [`Topology::queue_depths`]).
    ///
    /// # Errors
    /// There is no answer within [`BrokerSettings::connect_timeout`]: who asks does so again, later.
    pub async fn queue_depths(&self) -> Result<Vec<(Route, u32)>, ConnectionError> {
        within(self.settings.connect_timeout, async {
            let open = self.wait_for_channel().await;
            Ok(self.settings.topology.queue_depths(open.channel()).await?)
        })
        .await
    }

    /// Whether full queues refuse messages, as they were declared to. A policy of RabbitMQ may have them drop their oldest instead, from
    /// one moment to the next.
    ///
    /// # Errors
    /// That is not known: there is no answer within [`BrokerSettings::connect_timeout`], or this user may not publish for it.
    pub async fn refuses_when_full(&self) -> Result<bool, ConnectionError> {
        within(self.settings.connect_timeout, async {
            let channel = self.new_channel().await?;
            let refuses = refuses_when_full(&channel).await;
            // An error has closed it.
            let _ = channel.close(200, "checked".into()).await;
            Ok(refuses?)
        })
        .await
    }

    /// Whether messages can be published now.
    pub fn is_ready(&self) -> bool {
        self.channel().is_some()
    }

    /// The settings that it was opened with.
    pub fn settings(&self) -> &BrokerSettings {
        &self.settings
    }
}

/// Connects again whenever the connection breaks, until the last clone of [`Connection`] is dropped.
async fn supervise(
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

/// Connects, declares the exchanges and queues, and closes the connection. What exists with the same arguments stays as it
/// is.
///
/// # Errors
/// When RabbitMQ does not answer in time, the user may not declare them, they exist with other arguments, or a policy makes
/// them drop messages.
pub async fn declare_topology(settings: &BrokerSettings) -> Result<(), ConnectionError> {
    let attempt =
        |uri, node| -> BoxFuture<'_, _> { Box::pin(within(settings.connect_timeout, open(settings, uri, node))) };
    let Open { connection, channel, .. } = first_node(settings, None, attempt).await?;
    within(settings.connect_timeout, async {
        settings.topology.declare(&channel).await?;
        check_overflow(&connection).await?;
        Ok(connection.close(200, "declared".into()).await?)
    })
    .await
}

/// Connects to a node; to `last` only when it can be no other.
async fn connect(settings: &BrokerSettings, last: Option<Node>) -> Result<Open, ConnectionError> {
    let attempt = |uri, node| -> BoxFuture<'_, _> {
        Box::pin(within(settings.connect_timeout, async move {
            let open = open(settings, uri, node).await?;
            settings.topology.check(&open.connection).await?;
            open.channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(open)
        }))
    };
    first_node(settings, last, attempt).await
}

async fn open(settings: &BrokerSettings, mut uri: AMQPUri, node: Node) -> Result<Open, ConnectionError> {
    let properties = ConnectionProperties::default().with_connection_name(settings.name.as_str().into());
    uri.query.frame_max.get_or_insert(settings.frame_max);
    uri.query.heartbeat.get_or_insert(u16::try_from(settings.heartbeat.as_secs()).unwrap_or(u16::MAX));
    let connection = dial(uri, node.address, settings, properties).await?;
    let channel = connection.create_channel().await?;
    Ok(Open { connection, channel, node, trouble: Arc::default() })
}

pub(crate) async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, ConnectionError> {
    tokio::time::timeout(timeout, work).await.unwrap_or(Err(ConnectionError::TimedOut(timeout)))
}

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::ConnectionError;

    #[test]
    fn an_alert_about_the_certificate_needs_a_person_and_another_one_only_time() {
        let is_fatal = |alert| {
            let error = std::io::Error::other(rustls::Error::AlertReceived(alert));
            ConnectionError::from(lapin::Error::from(error)).is_fatal()
        };
        for alert in [AlertDescription::UnknownCA, AlertDescription::CertificateRequired] {
            assert!(is_fatal(alert), "{alert:?}");
        }
        for alert in [AlertDescription::InternalError, AlertDescription::HandshakeFailure] {
            assert!(!is_fatal(alert), "{alert:?}");
        }
    }
}
