//! Asks the internal listener of a service that runs whether it is alive or ready: the health check of a container that holds no
//! other HTTP client.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use clap::ValueEnum;
use settings::AdminSection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Probe {
    /// Whether its tasks get on with their work.
    Livez,
    /// Whether everything that it needs is there.
    Readyz,
}

/// The service does not answer, or says no.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailed {
    /// It cannot be reached, or the connection broke.
    #[error("no answer from admin.listen {listen}: {error}")]
    NoAnswer {
        /// The address that was asked.
        listen: String,
        /// What the operating system reports.
        error: std::io::Error,
    },
    /// It answered something else than 200.
    #[error("{0}")]
    Refused(String),
}

/// More than any answer has.
const MOST_BYTES: u64 = 64 * 1024;

/// What an answer may take longer than the checks behind it.
const MARGIN: Duration = Duration::from_secs(1);

/// Asks the service that listens where `settings` say, and prints nothing when all is well.
pub(crate) async fn ask(probe: Probe, settings: &AdminSection) -> Result<(), ProbeFailed> {
    let path = match probe {
        Probe::Livez => "/livez",
        Probe::Readyz => "/readyz",
    };
    let limit = Duration::from_millis(settings.check_timeout_ms) + MARGIN;
    let answer = tokio::time::timeout(limit, get(&settings.listen, path)).await;
    let no_answer = |error| ProbeFailed::NoAnswer { listen: settings.listen.clone(), error };
    let answer = answer.map_err(|_| no_answer(std::io::ErrorKind::TimedOut.into()))?.map_err(no_answer)?;
    if answer.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Err(ProbeFailed::Refused(format!("{}\n{body}", head.lines().next().unwrap_or_default())))
}

pub(crate) async fn get(listen: &str, path: &str) -> std::io::Result<String> {
    let address = lookup_host(listen).await?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect(reachable(address)).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The address at which a listener on all interfaces is reached from the same machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
