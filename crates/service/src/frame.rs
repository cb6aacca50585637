//! The frame of a service: settings, telemetry, internal listener, SIGTERM.

use std::{future::Future, path::PathBuf, time::Duration};

use settings::{ConfigScope, Findings, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Readiness},
    telemetry,
};

/// Where a service finds its settings unless told otherwise; it may be missing.
const DEFAULT_FILE: &str = "deploy/leadline.toml";

/// What a service is started with.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// The settings file; the default one may be missing, a given one may not.
    #[arg(long, env = "LEADLINE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Only say whether the settings are right.
    #[arg(long)]
    pub check_config: bool,
}

impl Options {
    /// The settings file to read.
    pub fn file(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| {
            let default = PathBuf::from(DEFAULT_FILE);
            default.exists().then_some(default)
        })
    }
}

/// Why a service did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] Findings),
    /// Telemetry did not start.
    #[error(transparent)]
    Telemetry(#[from] telemetry::TelemetryError),
    /// A listener or a signal.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// What the service itself says.
    #[error("{0}")]
    Service(String),
}

/// What a service hands back once it is wired: its dependencies, and its work until `stop`.
pub struct Wired<W> {
    /// What `/readyz` asks.
    pub readiness: Readiness,
    /// The work; ends soon after the token is cancelled.
    pub work: W,
}

/// Runs a service named `name`: reads the settings, lets `wire` build it, serves the internal listener, and ends it
/// gracefully at SIGTERM or Ctrl-C.
pub async fn run<F, Fut, W>(
    name: &'static str,
    reader: ConfigScope,
    options: Options,
    wire: F,
) -> Result<(), ServiceError>
where
    F: FnOnce(Settings, CancellationToken) -> Fut,
    Fut: Future<Output = Result<Wired<W>, String>>,
    W: Future<Output = Result<(), String>>,
{
    let settings = Settings::load(options.file().as_deref(), reader)?;
    if options.check_config {
        println!("{name}: the settings are right");
        return Ok(());
    }
    install_tls_provider();
    let telemetry = telemetry::start(name, &settings.telemetry)?;
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let admin_address = settings.admin.listen.clone();
    let check_timeout = Duration::from_millis(settings.admin.check_timeout_ms);
    let Wired { readiness, work } = wire(settings, stop.clone()).await.map_err(ServiceError::Service)?;

    let listener = tokio::net::TcpListener::bind(&admin_address)
        .await
        .map_err(|error| ServiceError::Io { what: format!("admin.listen {admin_address}"), error })?;
    let router = admin::router(readiness, telemetry.metrics.clone(), stop.clone(), check_timeout);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let maintenance = telemetry.metrics.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            maintenance.run_upkeep();
        }
    });

    tracing::info!(admin = admin_address, version = env!("CARGO_PKG_VERSION"), "started");
    let result = work.await.map_err(ServiceError::Service);
    match &result {
        Ok(()) => tracing::info!("stopped"),
        Err(error) => tracing::error!(%error, "stopped"),
    }
    telemetry.stop();
    result
}

/// How a service's process ends: an error is said in plain words, whatever the environment wants of backtraces.
pub fn exit(name: &str, result: Result<(), ServiceError>) -> std::process::ExitCode {
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Makes ring the one TLS provider of the process. Call it once, before any connection.
pub fn install_tls_provider() {
    // Fails only when it was installed before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn stop_on_signal(stop: CancellationToken) -> Result<(), ServiceError> {
    let io = |error| ServiceError::Io { what: "signals".to_owned(), error };
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
        stop.cancel();
    });
    Ok(())
}
