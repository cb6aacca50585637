//! The internal listener of every service: `/livez`, `/readyz`, `/metrics`.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use settings::AdminSection;
use tokio_util::sync::CancellationToken;
use watchdog::HungTask;

use crate::{
    listener::ListenerLimits,
    readiness::{CachedReadiness, Readiness},
};

struct Admin {
    readiness: CachedReadiness,
    metrics: PrometheusHandle,
    stopping: CancellationToken,
}

/// The bounds of the listener; its connections are its own, so that strangers at a public one take none of them.
pub(crate) fn limits(settings: &AdminSection) -> ListenerLimits {
    ListenerLimits {
        max_connections: settings.max_connections,
        max_connections_per_peer: settings.max_connections_per_peer,
        header_timeout: Duration::from_millis(settings.read_timeout_ms),
        keep_alive: Duration::from_secs(settings.keep_alive_seconds),
        max_age: Duration::from_secs(settings.connection_max_seconds),
    }
}

pub(crate) fn router(
    readiness: Readiness,
    metrics: PrometheusHandle,
    stopping: CancellationToken,
    settings: &AdminSection,
) -> Router {
    let timeout = Duration::from_millis(settings.check_timeout_ms);
    let readiness = CachedReadiness::new(readiness, timeout, Duration::from_millis(settings.ready_cache_ms));
    let admin = Arc::new(Admin { readiness, metrics, stopping });
    Router::new()
        .route("/livez", get(async || liveness(&watchdog::hung_tasks())))
        .route("/readyz", get(ready))
        .route("/metrics", get(async |State(admin): State<Arc<Admin>>| admin.metrics.render()))
        .with_state(admin)
}

/// 200 while every task of the process gets on with its work, else 503 and the tasks that hang.
fn liveness(hung: &[HungTask]) -> (StatusCode, String) {
    if hung.is_empty() {
        return (StatusCode::OK, "alive\n".to_owned());
    }
    tracing::error!(?hung, "a task hangs; this process asks to be started again");
    (StatusCode::SERVICE_UNAVAILABLE, hung.iter().map(|task| format!("{task}\n")).collect())
}

/// 200 when every check passes, else 503; one line for each check. A stopping service is not ready, so that no new requests
/// are routed to it.
async fn ready(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let report = admin.readiness.report().await;
    let (is_ready, stopping) =
        if admin.stopping.is_cancelled() { (false, "stopping\n") } else { (report.is_ready, "") };
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{stopping}{}", report.lines))
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::atomic::{AtomicUsize, Ordering},
        time::Instant,
    };

    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };
    use tokio_util::sync::DropGuard;

    use super::*;
    use crate::{
        LogLimit, listener,
        probe::{Probe, ask},
    };

    async fn start(readiness: Readiness, settings: &AdminSection) -> (SocketAddr, DropGuard) {
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let stop = CancellationToken::new();
        let router = router(readiness, metrics, stop.clone(), settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let log = Arc::new(LogLimit::new(1));
        tokio::spawn(listener::serve(listener, router, limits(settings), log, stop.clone()));
        (address, stop.drop_guard())
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        crate::probe::get(&address.to_string(), path).await.expect("an answer")
    }

    fn counting() -> (Readiness, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let readiness = Readiness::default().with("ledger", move || {
            counter.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        });
        (readiness, asked)
    }

    #[tokio::test]
    async fn however_often_readiness_is_asked_for_dependencies_are_asked_once_in_a_while() {
        let (readiness, asked) = counting();
        let settings = AdminSection { ready_cache_ms: 60_000, ..AdminSection::default() };
        let (address, _stop) = start(readiness, &settings).await;
        for _ in 0..5 {
            let all = (0..10).map(|_| get(address, "/readyz"));
            for answer in futures_util::future::join_all(all).await {
                assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ledger: ok\n"), "{answer}");
            }
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        let (readiness, asked) = counting();
        let (address, _stop) = start(readiness, &AdminSection { ready_cache_ms: 0, ..settings }).await;
        for _ in 0..3 {
            get(address, "/readyz").await;
        }
        assert_eq!(asked.load(Ordering::SeqCst), 3, "without a cache each request asks");
    }

    #[tokio::test]
    async fn a_container_without_an_http_client_asks_by_the_program_itself() {
        let away = || async { Err::<(), crate::ServiceFailure>("away".into()) };
        let (address, stop) = start(Readiness::default().with("broker", away), &AdminSection::default()).await;
        // As services in containers listen: on every interface.
        let listen = SocketAddr::from(([0, 0, 0, 0], address.port())).to_string();
        let settings = AdminSection { listen, ..AdminSection::default() };
        ask(Probe::Livez, &settings).await.expect("alive");
        let refused = ask(Probe::Readyz, &settings).await.expect_err("not ready").to_string();
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("broker: away"), "{refused}");
        drop(stop);
        // Port 1 of loopback: nothing listens there.
        let settings = AdminSection { listen: "127.0.0.1:1".to_owned(), ..settings };
        let none = ask(Probe::Livez, &settings).await.expect_err("nothing listens").to_string();
        assert!(none.contains("admin.listen 127.0.0.1:"), "{none}");
    }

    #[test]
    fn a_process_with_a_hung_task_asks_to_be_started_again() {
        let (took, limit) = (Duration::from_secs(75), Duration::from_secs(60));
        let (status, text) = liveness(&[HungTask { task: "quota", took, limit }]);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text, "quota: at one piece of work for 75 s, which takes 60 s at most\n");
        assert_eq!(liveness(&[]), (StatusCode::OK, "alive\n".to_owned()));
    }

    #[tokio::test]
    async fn dependencies_that_say_nothing_delay_the_answer_by_one_timeout_together() {
        let silent = || std::future::pending::<Result<(), crate::ServiceFailure>>();
        let readiness = Readiness::default().with("broker", silent).with("ledger", silent).with("hubspot", silent);
        let settings = AdminSection { check_timeout_ms: 1_000, ..AdminSection::default() };
        let (address, _stop) = start(readiness, &settings).await;
        let started = Instant::now();
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.matches("no answer in time").count() == 3, "{answer}");
        assert!(started.elapsed() < Duration::from_millis(2_900), "not one after the other: {:?}", started.elapsed());
        assert!(get(address, "/livez").await.ends_with("alive\n"));
    }

    #[tokio::test]
    async fn connections_that_say_nothing_are_closed_and_leave_room_for_others() {
        let settings = AdminSection { read_timeout_ms: 300, max_connections: 8, ..AdminSection::default() };
        let (address, _stop) = start(Readiness::default(), &settings).await;
        let mut idle = Vec::new();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(b"GET /metr").await.expect("written");
            idle.push(stream);
        }
        let alive = tokio::time::timeout(Duration::from_secs(30), get(address, "/livez"));
        assert!(alive.await.expect("an answer in time").ends_with("alive\n"));
        let closed = async {
            let mut rest = Vec::new();
            idle[0].read_to_end(&mut rest).await
        };
        tokio::time::timeout(Duration::from_secs(30), closed).await.expect("closed in time").expect("closed");
    }

    #[tokio::test]
    async fn a_client_that_reads_no_answer_loses_its_connection() {
        let soon = Duration::from_millis(300);
        let limits = ListenerLimits { max_age: soon, keep_alive: soon, ..limits(&AdminSection::default()) };
        let router = Router::new().route("/", axum::routing::get(async || "x".repeat(1_000_000)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let log = Arc::new(LogLimit::new(1));
        tokio::spawn(listener::serve(listener, router, limits, log, CancellationToken::new()));
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let requests = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100_000);
        // More than the socket's buffers hold: the rest is written only while the server reads.
        let written = tokio::time::timeout(Duration::from_secs(60), stream.write_all(requests.as_bytes())).await;
        let gone = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
        assert!(
            written.is_ok_and(|written| written.is_err()) || {
                tokio::time::timeout(Duration::from_secs(60), gone).await.is_ok()
            }
        );
    }
}
