//! A private Postgres server.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use sqlx::Connection;

use super::program::{UP_WITHIN, is_up, newest_with};
use crate::{Process, free_port};

/// Debian's versions of Postgres, one folder each.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Whether commits survive a power cut.
#[derive(Debug, Clone, Copy)]
pub(super) enum Durability {
    /// As in production.
    Fsync,
    /// For data that ends with the process: commits, and above all new databases, are several times quicker.
    NoFsync,
}

/// A running Postgres server with its data in a folder of its own; ended when dropped.
#[derive(Debug)]
pub(super) struct Postgres {
    process: Process,
    folder: PathBuf,
    port: u16,
    durability: Durability,
}

impl Postgres {
    pub(super) fn is_installed() -> bool {
        programs().is_some()
    }

    /// Makes an empty cluster in `folder` and starts it.
    pub(super) fn start(folder: PathBuf, durability: Durability) -> Result<Self> {
        let port = free_port()?;
        create_cluster(&folder)?;
        Ok(Self { process: start(&folder, port, durability)?, folder, port, durability })
    }

    /// Copies the server into `folder` and starts the copy as a standby that follows the server at `from`.
    pub(super) async fn standby(&self, folder: PathBuf, from: &str, durability: Durability) -> Result<Self> {
        let port = free_port()?;
        let program = program("pg_basebackup").context("Postgres is not installed")?;
        make_folder(&folder)?;
        let mut copy = as_postgres(&program);
        copy.args(["--host=127.0.0.1", "--username=postgres", "--checkpoint=fast", "--write-recovery-conf"])
            .args(["--port", &self.port.to_string(), "--pgdata"])
            .arg(folder.join("data"))
            .current_dir("/");
        let output = tokio::process::Command::from(copy).output().await?;
        if !output.status.success() {
            bail!("pg_basebackup failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        // The last line wins.
        let mut settings = fs::OpenOptions::new().append(true).open(folder.join("data/postgresql.auto.conf"))?;
        writeln!(settings, "primary_conninfo = '{from}'\nwal_retrieve_retry_interval = '200ms'")?;
        Ok(Self { process: start(&folder, port, durability)?, folder, port, durability })
    }

    /// Its data is below this folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn durability(&self) -> Durability {
        self.durability
    }

    pub(super) fn process(&self) -> u32 {
        self.process.id()
    }

    /// `host:port`.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills it as a power cut would.
    pub(super) fn kill(&mut self) {
        self.process.kill();
    }

    /// `false`: it does not accept connections yet. An error: its process has ended.
    pub(super) fn is_up(&mut self) -> Result<bool> {
        self.process.still_runs()?;
        Ok(is_up(self.port))
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address())
    }

    /// Kills it as a power cut would, starts it again after `down`, and waits until it answers.
    pub(super) async fn crash(&mut self, down: Duration) -> Result<()> {
        self.process.kill();
        tokio::time::sleep(down).await;
        let started = Instant::now();
        loop {
            // The dead server's children and shared memory take a moment to disappear; a start before that fails.
            if self.process.still_runs().is_err() {
                self.process = start(&self.folder, self.port, self.durability)?;
            }
            if sqlx::PgConnection::connect(&self.url()).await.is_ok() {
                return Ok(());
            }
            if started.elapsed() > UP_WITHIN {
                bail!("Postgres did not start again within {UP_WITHIN:?}:\n{}", self.process.log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The path of one of the newest version's programs.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    programs().map(|programs| programs.join(name))
}

/// The folder of the newest version's programs.
fn programs() -> Option<PathBuf> {
    newest_with(VERSIONS, "bin/initdb").and_then(|initdb| initdb.parent().map(Path::to_owned))
}

/// Whether the user `postgres` can reach `folder`.
pub(super) fn may_enter(folder: &Path) -> bool {
    let mut test = Command::new("runuser");
    test.args(["-u", "postgres", "--", "test", "-x"]).arg(folder).stdin(Stdio::null()).stderr(Stdio::null());
    test.status().is_ok_and(|status| status.success())
}

/// Postgres refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    if rustix::process::geteuid().is_root() {
        let mut runuser = Command::new("runuser");
        runuser.args(["-u", "postgres", "--"]).arg(program);
        runuser
    } else {
        Command::new(program)
    }
}

fn create_cluster(folder: &Path) -> Result<()> {
    let programs = programs().context("Postgres is not installed")?;
    make_folder(folder)?;
    let mut initdb = as_postgres(&programs.join("initdb"));
    initdb
        .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "-D"])
        .arg(folder.join("data"))
        .current_dir("/");
    succeed(&mut initdb)
}

/// A folder into which Postgres may write.
fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    if rustix::process::geteuid().is_root() {
        succeed(Command::new("chown").arg("postgres").arg(folder))?;
    }
    Ok(())
}

fn start(folder: &Path, port: u16, durability: Durability) -> Result<Process> {
    let server = programs().context("Postgres is not installed")?.join("postgres");
    let is_root = rustix::process::geteuid().is_root();
    let program = if is_root { PathBuf::from("runuser") } else { server.clone() };
    let log = folder.with_extension("log");
    let process = Process::start("postgres", &program, &log, |command| {
        if is_root {
            command.args(["-u", "postgres", "--"]).arg(&server);
        }
        command
            .arg("-D")
            .arg(folder.join("data"))
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300", "-k"])
            .arg(folder)
            .current_dir("/");
        if matches!(durability, Durability::NoFsync) {
            command.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
        }
    })?;
    // SIGTERM would make Postgres wait for its clients, and a statement that runs for long would outlive it.
    Ok(process.stopped_with(Signal::INT))
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
