//! The TLS listener with real certificates: who does not come to speak TLS holds up nobody, and is left.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

use std::{io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use service::{
    LogLimit, ServerTls,
    listener::{self, Entrance, ListenerLimits},
};
use testbed::{Authority, Certificate};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a test waits for what happens at once.
const WITHIN: Duration = Duration::from_secs(30);

/// The beginning of a handshake: a record of 16,000 bytes, of which the first are those of a ClientHello.
const BEGINNING: [u8; 9] = [0x16, 0x03, 0x01, 0x3e, 0x80, 0x01, 0x00, 0x3e, 0x7c];

/// A listener that speaks TLS and answers `ok`. It stops when it is dropped.
struct TlsListener {
    address: SocketAddr,
    authority: Authority,
    _stop: DropGuard,
}

impl TlsListener {
    /// One that gives a client this time for its first words.
    async fn start(header_timeout: Duration) -> Self {
        http_client::install_tls_provider();
        let authority = Authority::new().expect("an authority");
        let Certificate { chain, key } = authority.issue("public", &["DNS:localhost"]).expect("a certificate");
        let text = |file| std::fs::read_to_string(file).expect("there");
        let tls = ServerTls::new(&text(chain), &text(key)).expect("they belong together");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let limits = ListenerLimits {
            max_connections: 64,
            max_connections_per_peer: 64,
            header_timeout,
            keep_alive: Duration::from_secs(90),
            max_age: Duration::from_secs(600),
        };
        let router = Router::new().route("/", get(async || "ok"));
        let stop = CancellationToken::new();
        let entrance = Entrance::new(listener, Some(tls));
        tokio::spawn(listener::serve(entrance, router, limits, Arc::new(LogLimit::new(1)), stop.clone()));
        Self { address, authority, _stop: stop.drop_guard() }
    }

    /// A connection that says this much of a handshake.
    async fn stalled(&self, words: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        stream.write_all(words).await.expect("sent");
        stream
    }

    /// What a client gets that trusts the authority.
    async fn answer(&self) -> String {
        let pem = std::fs::read(self.authority.file()).expect("there");
        let trusted = reqwest::Certificate::from_pem(&pem).expect("a certificate");
        let client = reqwest::Client::builder().tls_certs_merge([trusted]).build().expect("a client");
        let answer = client.get(format!("https://localhost:{}/", self.address.port())).send();
        let answer = tokio::time::timeout(WITHIN, answer).await.expect("it is not held up").expect("an answer");
        answer.text().await.expect("a body")
    }
}

/// Waits until the listener has closed the connection; what it says before, an alert, is nobody's business.
async fn until_closed(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut said = Vec::new();
    let closed = stream.read_to_end(&mut said);
    let closed = tokio::time::timeout(WITHIN, closed).await.expect("the listener leaves it");
    if let Err(error) = closed {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
}

#[tokio::test]
async fn handshakes_that_stall_hold_up_no_other() {
    // They last longer than the test.
    let listener = TlsListener::start(Duration::from_secs(600)).await;
    let mut stalled = Vec::new();
    for words in [&[][..], &BEGINNING[..3], &BEGINNING].repeat(10) {
        stalled.push(listener.stalled(words).await);
    }
    assert_eq!(listener.answer().await, "ok");
    for stream in &stalled {
        let mut byte = [0];
        assert_eq!(stream.try_read(&mut byte).expect_err("open").kind(), ErrorKind::WouldBlock, "they had time left");
    }
}

#[tokio::test]
async fn a_handshake_that_stalls_is_cut_off() {
    let listener = TlsListener::start(Duration::from_millis(100)).await;
    for words in [&[][..], &BEGINNING] {
        until_closed(&mut listener.stalled(words).await).await;
    }
    assert_eq!(listener.answer().await, "ok");
}

/// Each byte comes in time, and the handshake never ends.
#[tokio::test]
async fn a_handshake_that_comes_byte_by_byte_is_cut_off() {
    let listener = TlsListener::start(Duration::from_millis(200)).await;
    let (mut reads, mut writes) = listener.stalled(&BEGINNING).await.into_split();
    let drips = async {
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        while writes.write_all(&[0]).await.is_ok() {
            pace.tick().await;
        }
    };
    tokio::select! {
        () = until_closed(&mut reads) => {}
        () = drips => {}
        () = tokio::time::sleep(WITHIN) => panic!("the listener waits for the next byte for ever"),
    }
    assert_eq!(listener.answer().await, "ok");
}
