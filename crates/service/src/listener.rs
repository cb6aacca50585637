//! An HTTP/1.1 listener whose connections are bounded: in number, for each peer, and in time.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderValue, header::CONNECTION},
};
use hyper::{body::Incoming, server::conn::http1, service::Service, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    head_timer::{ConnectionPhase, Phase, TimedStream},
    log_limit::LogLimit,
    peers::{Holding, Peer, PeerLimit},
    tls::ServerTls,
};

/// How long requests in progress may take when the service stops, or when their connection has become too old. HubSpot waits
/// five seconds for an answer to a webhook (its webhooks guide, "Retries"), so a longer grace period would serve no request.
const GRACE: Duration = Duration::from_secs(5);

/// The most bytes that hyper buffers for a connection: the request head, and the part of the body that is not read yet. Hyper's
/// default is a dozen times as much, and there can be a thousand connections.
const MAX_BUFFER_BYTES: usize = 32 * 1_024;

/// The limits of a listener.
#[derive(Debug, Clone, Copy)]
pub struct ListenerLimits {
    /// The most connections; further ones wait to be accepted.
    pub max_connections: usize,
    /// The most connections of one peer; further ones are closed at once.
    pub max_connections_per_peer: usize,
    /// How long a client may take to send the head of a request.
    pub header_timeout: Duration,
    /// How long a connection may rest after a request without fault. Longer than the proxies before it keep one, which is a minute or so.
    pub keep_alive: Duration,
    /// After this the next answer closes the connection, and [`ListenerLimits::keep_alive`] later it is closed without one: a client
    /// that reads no answers does not keep it for ever.
    pub max_age: Duration,
}

/// Where connections come in, and whether they speak TLS.
pub struct Entrance {
    listener: TcpListener,
    tls: Option<ServerTls>,
}

impl Entrance {
    /// One that speaks TLS with this certificate, if there is one.
    pub fn new(listener: TcpListener, tls: Option<ServerTls>) -> Self {
        Self { listener, tls }
    }
}

impl From<TcpListener> for Entrance {
    fn from(listener: TcpListener) -> Self {
        Self::new(listener, None)
    }
}

/// An accepted connection and its place among the others.
struct Accepted {
    stream: TcpStream,
    peer: Peer,
    _slot: OwnedSemaphorePermit,
    _holding: Holding,
}

/// Serves `router` until `stop` is cancelled, then lets the requests in progress finish within a grace period. Each request
/// has its [`Peer`] as an extension. `log` bounds the lines about refused connections.
pub async fn serve(
    entrance: impl Into<Entrance>,
    router: Router,
    limits: ListenerLimits,
    log: Arc<LogLimit>,
    stop: CancellationToken,
) {
    let Entrance { listener, tls } = entrance.into();
    let places = Places {
        slots: Arc::new(Semaphore::new(limits.max_connections)),
        per_peer: PeerLimit::new(limits.max_connections, limits.max_connections_per_peer),
        log,
    };
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = places.accept(&listener) => accepted,
        };
        if let Some(accepted) = accepted {
            let acceptor = tls.as_ref().map(ServerTls::acceptor);
            connections.spawn(converse(accepted, acceptor, router.clone(), limits, stop.clone()));
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!("some requests did not finish within the grace period");
    }
}

/// Who may have another connection.
struct Places {
    slots: Arc<Semaphore>,
    per_peer: Arc<PeerLimit>,
    log: Arc<LogLimit>,
}

impl Places {
    async fn accept(&self, listener: &TcpListener) -> Option<Accepted> {
        let slot = self.slots.clone().acquire_owned().await.ok()?;
        let (stream, address): (TcpStream, SocketAddr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(left_out) = self.log.admit("accept") {
                    tracing::warn!(%error, left_out, "cannot accept a connection");
                }
                // Most likely the system is out of file descriptors: connections need time to close.
                tokio::time::sleep(Duration::from_millis(50)).await;
                return None;
            }
        };
        let peer = Peer::from(address.ip());
        let mut holding = self.per_peer.holding(peer);
        if let Err(error) = holding.take(1) {
            metrics::counter!("leadline_connections_refused_total").increment(1);
            if let Some(left_out) = self.log.admit("connection") {
                tracing::warn!(peer = %address.ip(), %error, left_out, "closed a connection at once");
            }
            return None;
        }
        // Answers are small: waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        Some(Accepted { stream, peer, _slot: slot, _holding: holding })
    }
}

/// Makes a connection speak TLS, where it has to, and answers its requests.
async fn converse(
    accepted: Accepted,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: ListenerLimits,
    stop: CancellationToken,
) {
    let Accepted { stream, peer, _slot, _holding } = accepted;
    let phase = ConnectionPhase::new();
    let stream = TimedStream::new(stream, phase.clone(), limits.header_timeout);
    let Some(tls) = tls else { return answer(stream, (peer, phase), router, limits, stop).await };
    // What the client sends has the time of the first head, of which the stream takes care; what it does not read has an end, too.
    let handshake = tokio::time::timeout(2 * limits.header_timeout, tls.accept(stream));
    let shaken = tokio::select! {
        shaken = handshake => shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        () = stop.cancelled() => return,
    };
    match shaken {
        Ok(stream) => answer(stream, (peer, phase), router, limits, stop).await,
        Err(error) => {
            metrics::counter!("leadline_tls_handshakes_failed_total").increment(1);
            tracing::debug!(%error, "a connection did not come to speak TLS");
        }
    }
}

/// Answers the requests of a connection until the client closes it, it is too old, or the service stops.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    (peer, phase): (Peer, ConnectionPhase),
    router: Router,
    limits: ListenerLimits,
    stop: CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let opened = Instant::now();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        phase.set(Phase::Request);
        let (phase, answer) = (phase.clone(), router.call(Request::from(request.map(Body::new))));
        async move {
            let mut response = answer.await?;
            // Whose request was wrong may not rest; who is asked to come back may.
            phase.set(if response.status().is_client_error() { Phase::Head } else { Phase::Rest });
            if opened.elapsed() > limits.max_age {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.keep_alive.max(limits.header_timeout))
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stop.cancelled() => None,
        () = tokio::time::sleep(limits.max_age + limits.keep_alive) => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        // Dropping the connection closes it.
        let Ok(ended) = tokio::time::timeout(GRACE, connection).await else { return };
        ended
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
