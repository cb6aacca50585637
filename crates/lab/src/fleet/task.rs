//! Services and the simulator as tasks of this process.

use std::{future::Future, time::Duration};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use service::{ServiceFailure, Wired};
use settings::{ConfigScope, Settings};
use simulator::{Simulator, SimulatorOptions};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a task may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(30);

/// A service or the simulator, running as a task. It is asked to stop when this is dropped.
#[derive(Debug)]
pub(super) struct Task {
    program: String,
    stop: DropGuard,
    work: JoinHandle<()>,
}

impl Task {
    /// Starts the service `program` with these settings, by the name of the environment variable. Returns when it is
    /// connected.
    pub(super) async fn service(program: &str, environment: Vec<(String, String)>) -> Result<Self> {
        let load = |scope| Settings::load_from(None, environment, scope);
        match program {
            "leadline-receiver" => Self::start(program, load(ConfigScope::Receiver)?, receiver::start).await,
            "leadline-inference" => {
                Box::pin(Self::start(program, load(ConfigScope::Inference)?, inference::start)).await
            }
            "leadline-writer" => Self::start(program, load(ConfigScope::Writer)?, writer::start).await,
            _ => Err(anyhow!("no service is called {program}")),
        }
    }

    async fn start<F, Fut, W>(program: &str, settings: Settings, start: F) -> Result<Self>
    where
        F: FnOnce(Settings, CancellationToken) -> Fut,
        Fut: Future<Output = Result<Wired<W>, ServiceFailure>>,
        W: Future<Output = Result<(), ServiceFailure>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let Wired { work, .. } = start(settings, stop).await.map_err(|error| anyhow!("{program}: {error}"))?;
        Ok(Self::spawn(program, guard, async move {
            // Their work does not fail once they are connected.
            let _ = work.await;
        }))
    }

    /// Starts the simulator with these command-line options.
    pub(super) async fn simulator(arguments: Vec<String>) -> Result<Self> {
        let program = "leadline-simulator";
        let options = SimulatorOptions::try_parse_from([vec![program.to_owned()], arguments].concat())?;
        let listener = TcpListener::bind(&options.listen).await.context("the simulator's port")?;
        let router = Simulator::new(options.into()).router();
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let served = async move {
            let server = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
            let _ = server.await;
        };
        Ok(Self::spawn(program, guard, served))
    }

    fn spawn(program: &str, stop: DropGuard, work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { program: program.to_owned(), stop, work: tokio::spawn(work) }
    }

    /// The name of its program.
    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// Asks it to stop and waits until it has ended.
    pub(super) async fn stop(self) -> Result<()> {
        let Self { program, stop, work } = self;
        drop(stop);
        let ended = tokio::time::timeout(GRACE, work).await;
        ended.with_context(|| format!("{program} did not stop within {GRACE:?}"))?.context("it panicked")
    }
}
