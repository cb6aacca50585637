//! The steps of a service's `main`.

use std::{future::Future, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Args, FromArgMatches};
use settings::{ConfigScope, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    error::{ServiceError, ServiceFailure},
    listener,
    log_limit::LogLimit,
    open_files,
    probe::{self, Probe},
    readiness::Readiness,
    telemetry,
};

/// The command-line options of a service.
#[derive(Debug, Clone, Default, Args)]
struct ServiceOptions {
    /// The settings file. Without it, deploy/leadline.toml is read if it exists.
    #[arg(long, env = "LEADLINE_CONFIG")]
    config: Option<PathBuf>,
    /// Only say whether the settings are valid.
    #[arg(long)]
    check_config: bool,
    /// Only ask the service that runs beside this one, at `admin.listen`, whether it is alive or ready. For containers without `curl`.
    #[arg(long, value_enum, value_name = "PATH", conflicts_with = "check_config")]
    probe: Option<Probe>,
}

impl ServiceOptions {
    /// The options of the command line. Wrong ones, `--help` and `--version` end the process.
    fn parse(name: &'static str, about: &'static str) -> Self {
        let command = clap::Command::new(name).version(env!("CARGO_PKG_VERSION")).about(about);
        let matches = Self::augment_args(command).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// A service that is ready to run.
pub struct Wired<W> {
    /// The checks behind `/readyz`.
    pub readiness: Readiness,
    /// The service's work. It ends soon after the token given to `wire` is cancelled.
    pub work: W,
}

/// How often the metrics recorder drops samples of histograms that are too old to be reported.
const RECORDER_INTERVAL: Duration = Duration::from_secs(5);

/// Runs the service `name`, which `--help` describes with `about`: reads the settings of its `scope`, calls `wire` to build
/// it, serves the internal listener, and stops it gracefully at SIGTERM or Ctrl-C. With `--check-config` it only validates
/// the settings. An error is printed as one line of text; a `Result` from `main` would print its debug form.
pub async fn main<F, Fut, W>(name: &'static str, about: &'static str, scope: ConfigScope, wire: F) -> ExitCode
where
    F: FnOnce(Settings, CancellationToken) -> Fut,
    Fut: Future<Output = Result<Wired<W>, ServiceFailure>>,
    W: Future<Output = Result<(), ServiceFailure>>,
{
    match run(name, scope, ServiceOptions::parse(name, about), wire).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run<F, Fut, W>(
    name: &'static str,
    scope: ConfigScope,
    options: ServiceOptions,
    wire: F,
) -> Result<(), ServiceError>
where
    F: FnOnce(Settings, CancellationToken) -> Fut,
    Fut: Future<Output = Result<Wired<W>, ServiceFailure>>,
    W: Future<Output = Result<(), ServiceFailure>>,
{
    let file = settings::file_or_default(options.config);
    if let Some(probe) = options.probe {
        let settings = Settings::load(file.as_deref(), ConfigScope::AdminOnly)?;
        return Ok(probe::ask(probe, &settings.admin).await?);
    }
    let settings = Settings::load(file.as_deref(), scope)?;
    if options.check_config {
        println!("{name}: the settings are valid");
        return Ok(());
    }
    open_files::make_room(open_files::needed(&settings, scope))?;
    http_client::install_tls_provider();
    let telemetry = telemetry::start(name, &settings.telemetry)?;
    settings_info("queues", &settings.queues_fingerprint());
    settings_info("replica", &settings.replica_fingerprint());
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let admin = settings.admin.clone();
    let log = Arc::new(LogLimit::new(settings.telemetry.refusals_per_minute));
    let Wired { readiness, work } = wire(settings, stop.clone()).await.map_err(ServiceError::Service)?;

    let listener = tokio::net::TcpListener::bind(&admin.listen)
        .await
        .map_err(|error| ServiceError::Io { what: format!("admin.listen {}", admin.listen), error })?;
    let router = admin::router(readiness, telemetry.metrics.clone(), stop.clone(), &admin);
    // It answers until the process ends: a stopping service says that it is not ready.
    tokio::spawn(listener::serve(listener, router, admin::limits(&admin), log, CancellationToken::new()));
    let recorder = telemetry.metrics.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(RECORDER_INTERVAL).await;
            recorder.run_upkeep();
        }
    });

    tracing::info!(admin = admin.listen, version = env!("CARGO_PKG_VERSION"), "started");
    let result = work.await.map_err(ServiceError::Service);
    match &result {
        Ok(()) => tracing::info!("stopped"),
        Err(error) => tracing::error!(%error, "stopped by an error"),
    }
    telemetry.stop();
    result
}

/// So many hex digits tell the settings of a fleet apart.
const FINGERPRINT: usize = 12;

/// Shows the beginning of a digest of settings `of` a kind, so that an alert tells when replicas disagree.
pub fn settings_info(of: &'static str, digest: &str) {
    let fingerprint: String = digest.chars().take(FINGERPRINT).collect();
    metrics::gauge!("leadline_settings_info", "of" => of, "fingerprint" => fingerprint).set(1.0);
}

/// Cancels `stop` at SIGTERM or SIGINT.
fn stop_on_signal(stop: CancellationToken) -> Result<(), ServiceError> {
    let io = |error| ServiceError::Io { what: "signal handlers".to_owned(), error };
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
