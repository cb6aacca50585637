//! Which of the broker's nodes a connection leads to.
//!
//! The URLs, and the addresses that a host's name stands for, are tried in random order, so that the replicas of a fleet spread over
//! the nodes. A node that is away refuses at once, and the next one is tried. One that is frozen, or behind a network that loses
//! packets, says nothing: after a short time the next one is tried beside it, and the first that works is taken.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use lapin::{
    AsyncTcpStream, ConnectionProperties,
    uri::{AMQPScheme, AMQPUri},
};
use secrecy::ExposeSecret;
use tokio::net::lookup_host;

use crate::{
    connection::{BrokerSettings, within},
    connection_error::ConnectionError,
};

/// How long a node is tried before the next one is tried beside it. On a machine that is not busy, a connection takes a tenth of this.
const HEAD_START: Duration = Duration::from_millis(500);

/// How often a connection that is reset as TLS begins is tried again at once.
const MAX_RESETS: usize = 3;

/// Where a connection leads: a URL, by its place in the settings, and an address of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    url: usize,
    /// The address.
    pub(crate) address: SocketAddr,
}

/// The first success of `attempt` with one of the nodes of `settings`. `last` comes after all others.
///
/// # Errors
/// No attempt succeeds. When one of them shows that a person has to act, that one is told.
pub(crate) async fn first_node<'a, T: Send>(
    settings: &'a BrokerSettings,
    last: Option<Node>,
    attempt: impl Fn(AMQPUri, Node) -> BoxFuture<'a, Result<T, ConnectionError>> + Sync,
) -> Result<T, ConnectionError> {
    let attempt = &attempt;
    let mut urls = Vec::new();
    for url in &settings.address.urls {
        urls.push(url.expose_secret().parse::<AMQPUri>().map_err(|_| ConnectionError::Url)?);
    }
    let urls: Vec<_> = urls.into_iter().enumerate().collect();
    let urls = in_random_order(urls, |(url, _)| last.is_some_and(|last| last.url == *url));
    let of_urls = urls.into_iter().map(|(url, uri)| async move {
        let host = (uri.authority.host.clone(), uri.authority.port);
        let found =
            within(settings.connect_timeout, async { Ok(lookup_host(host).await.map_err(lapin::Error::from)?) });
        let nodes = found.await?.map(|address| Node { url, address }).collect();
        let nodes = in_random_order(nodes, |node| Some(*node) == last);
        first_of(nodes.into_iter().map(|node| with_reason(&uri, node, attempt)).collect()).await
    });
    first_of(of_urls.collect()).await
}

/// The result of `attempt`, which is repeated while the connection is reset as TLS begins. A server that rejects our certificate says so
/// and closes, while we send already (TLS 1.3); then its system may reset the connection before what it said is read.
async fn with_reason<'a, T>(
    uri: &AMQPUri,
    node: Node,
    attempt: &(impl Fn(AMQPUri, Node) -> BoxFuture<'a, Result<T, ConnectionError>> + Sync),
) -> Result<T, ConnectionError> {
    for _ in 0..MAX_RESETS {
        match attempt(uri.clone(), node).await {
            Err(error) if uri.scheme == AMQPScheme::AMQPS && error.is_reset() => {}
            result => return result,
        }
    }
    attempt(uri.clone(), node).await
}

/// The first success. Each attempt begins when one before it has failed, or is not done within [`HEAD_START`].
async fn first_of<T>(attempts: Vec<impl Future<Output = Result<T, ConnectionError>>>) -> Result<T, ConnectionError> {
    let mut left = attempts.into_iter();
    let mut begun = FuturesUnordered::new();
    let mut failure = None;
    loop {
        let next = left.next();
        let wait = if next.is_some() { HEAD_START } else { Duration::MAX };
        begun.extend(next);
        // Without a next one there is nothing to wait for but those that have begun.
        let Ok(ended) = tokio::time::timeout(wait, begun.next()).await else { continue };
        match ended {
            Some(Ok(success)) => return Ok(success),
            Some(Err(error)) => failure = Some(graver(failure, error)),
            None => return Err(failure.unwrap_or_else(|| no_address().into())),
        }
    }
}

/// The first error that a person has to do something about, or else the newest.
fn graver(known: Option<ConnectionError>, error: ConnectionError) -> ConnectionError {
    known.filter(ConnectionError::is_fatal).unwrap_or(error)
}

fn no_address() -> lapin::Error {
    io::Error::new(io::ErrorKind::NotFound, "there is no address").into()
}

/// `all` in random order, and those that are `last` at the end.
fn in_random_order<T>(all: Vec<T>, last: impl Fn(&T) -> bool) -> Vec<T> {
    // The standard library's only source of random numbers.
    let random = || RandomState::new().build_hasher().finish();
    let mut with_rank: Vec<_> = all.into_iter().map(|one| ((last(&one), random()), one)).collect();
    with_rank.sort_by_key(|(rank, _)| *rank);
    with_rank.into_iter().map(|(_, one)| one).collect()
}

/// Connects to one address, which has to take the connection within [`BrokerSettings::connect_timeout`].
pub(crate) async fn dial(
    uri: AMQPUri,
    address: SocketAddr,
    settings: &BrokerSettings,
    properties: ConnectionProperties,
) -> Result<lapin::Connection, lapin::Error> {
    let (longest, tls) = (settings.connect_timeout, settings.address.tls());
    let attempt = Arc::new(Attempt::default());
    let of_attempt = Arc::downgrade(&attempt);
    let connection = lapin::Connection::connector(
        uri,
        lapin::runtime::default_runtime()?,
        async move |uri: AMQPUri, runtime| {
            // An address that swallows everything would hold a thread and its buffers for minutes.
            let connect = tokio::time::timeout(longest, AsyncTcpStream::connect(&runtime, address));
            let stream = connect.await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
            if let AsyncTcpStream::Plain(plain) = &stream {
                keep(&of_attempt, plain.get_ref())?;
            }
            match uri.scheme {
                AMQPScheme::AMQP => Ok(stream),
                AMQPScheme::AMQPS => Ok(stream.into_tls(&uri.authority.host, tls.as_ref()).await?),
            }
        },
        properties,
    );
    let connection = connection.await?;
    attempt.succeeded();
    Ok(connection)
}

/// An attempt to connect. Dropping it closes its socket. Without that, an attempt that is given up would go on for as long as its peer
/// says nothing, with a thread and the buffers of a connection: the client (lapin) ends a handshake only when the socket closes.
#[derive(Debug, Default)]
struct Attempt(Mutex<Option<TcpStream>>);

impl Attempt {
    /// From now on the connection is in charge of the socket.
    fn succeeded(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(socket) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            // Fails when it is closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Gives an attempt a handle to its socket; an error when it was given up meanwhile.
fn keep(attempt: &Weak<Attempt>, socket: &impl AsFd) -> io::Result<()> {
    let attempt = attempt.upgrade().ok_or(io::ErrorKind::ConnectionAborted)?;
    let handle = socket.as_fd().try_clone_to_owned()?;
    *attempt.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, io, sync::Mutex, time::Duration};

    use futures_util::future::BoxFuture;

    use super::{Node, first_of, in_random_order, with_reason};
    use crate::{connection_error::ConnectionError, topology::TopologyError};

    #[test]
    fn the_order_is_random_and_a_node_that_gave_no_answers_is_the_last() {
        let orders: BTreeSet<_> = (0..200).map(|_| in_random_order(vec![1, 2, 3], |one| *one == 2)).collect();
        assert_eq!(orders, BTreeSet::from([vec![1, 3, 2], vec![3, 1, 2]]));
    }

    type Attempt = BoxFuture<'static, Result<u8, ConnectionError>>;

    fn ends(end: Result<u8, ConnectionError>) -> Attempt {
        Box::pin(std::future::ready(end))
    }

    fn silent() -> Attempt {
        Box::pin(std::future::pending())
    }

    fn late() -> ConnectionError {
        ConnectionError::TimedOut(Duration::ZERO)
    }

    #[tokio::test]
    async fn a_node_that_refuses_or_is_silent_is_followed_by_the_next_one() {
        let first = first_of(vec![ends(Err(late())), silent(), ends(Err(late())), silent(), ends(Ok(5))]).await;
        assert!(matches!(first, Ok(5)), "{first:?}");
    }

    #[tokio::test]
    async fn what_a_person_has_to_mend_is_told_before_what_time_mends() {
        let wrong = || ConnectionError::from(TopologyError::Drops);
        for errors in [[wrong(), late()], [late(), wrong()]] {
            let failed = first_of(errors.map(|error| ends(Err(error))).into()).await.expect_err("none succeeds");
            assert!(matches!(failed, ConnectionError::Topology(_)), "{failed}");
        }
        let none = first_of(Vec::<Attempt>::new()).await.expect_err("there is none");
        assert!(matches!(none, ConnectionError::Connection(_)), "{none}");
    }

    #[tokio::test]
    async fn a_certificate_that_is_rejected_is_told_although_the_connection_is_reset_first() {
        let results = Mutex::new(vec![rejected(), reset(), reset()]);
        let attempt = |_, _| ends(Err(results.lock().expect("no panic").pop().expect("one more")));
        let node = Node { url: 0, address: ([127, 0, 0, 1], 5671).into() };
        let over_tls = "amqps://localhost".parse().expect("a URL");
        let told = with_reason(&over_tls, node, &attempt).await.expect_err("none succeeds");
        assert!(matches!(told, ConnectionError::OurCertificate(_)), "{told}");
        results.lock().expect("no panic").extend([rejected(), reset()]);
        let plain = "amqp://localhost".parse().expect("a URL");
        let told = with_reason(&plain, node, &attempt).await.expect_err("none succeeds");
        assert!(matches!(told, ConnectionError::Connection(_)), "the next attempt is as far away as ever: {told}");
    }

    fn reset() -> ConnectionError {
        lapin::Error::from(io::Error::from(io::ErrorKind::ConnectionReset)).into()
    }

    fn rejected() -> ConnectionError {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        lapin::Error::from(io::Error::new(io::ErrorKind::InvalidData, alert)).into()
    }
}
