//! A connection to RabbitMQ that is kept open: it reconnects by itself and checks the queues each time.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use lapin::{Channel, ConnectionProperties, options::ConfirmSelectOptions, uri::AMQPUri};
use secrecy::ExposeSecret;
use tokio::sync::{Notify, watch};

use crate::{
    address::BrokerAddress,
    connection_error::ConnectionError,
    dial::{Node, dial, first_node},
    overflow_check::{check_overflow, refuses_when_full},
    route::Route,
    supervisor::supervise,
    topology::Topology,
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
pub(crate) struct Trouble {
    /// It does not work.
    pub(crate) broken: Notify,
    /// It gives no answers, and may be dead without a word.
    pub(crate) silent: Notify,
    /// A queue refuses messages that has never taken one on this channel.
    pub(crate) refused: Notify,
    /// The queues that have taken a message on this channel.
    taking: Mutex<HashSet<String>>,
}

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) connection: lapin::Connection,
    pub(crate) channel: Channel,
    pub(crate) node: Node,
    pub(crate) trouble: Arc<Trouble>,
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
pub(crate) async fn connect(settings: &BrokerSettings, last: Option<Node>) -> Result<Open, ConnectionError> {
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
