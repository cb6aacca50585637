//! A PgBouncer before Postgres.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use reqwest::Url;
use tokio::sync::Mutex;

use super::{
    private::{Folder, new_folder},
    program::{UP_WITHIN, is_up},
};
use crate::{Process, free_port, install};

const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A running PgBouncer; ended when dropped. Fields are dropped in this order.
#[derive(Debug)]
pub struct PgBouncer {
    /// The URL of the database through it.
    pub url: String,
    _process: Process,
    _folder: Folder,
}

impl PgBouncer {
    /// Starts one before the database of `url`, whose user every client becomes. `settings` are lines of its section `[pgbouncer]`, among
    /// them `pool_mode`. Call it on a thread that lives as long as it should (see [`Process`]).
    pub async fn start(url: &str, settings: &str) -> Result<Self> {
        install_once().await?;
        let mut database = Url::parse(url).context("the Postgres URL")?;
        let (host, port) = (database.host_str().context("a host")?.to_owned(), database.port().unwrap_or(5432));
        let user = database.username();
        let password = database.password().map(|password| format!(" password={password}")).unwrap_or_default();
        let (name, listen) = (database.path().trim_start_matches('/'), free_port()?);
        let config = format!(
            "[databases]\n{name} = host={host} port={port} user={user}{password}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {listen}\nunix_socket_dir =\nauth_type = any\n{settings}\n"
        );
        let folder = new_folder()?;
        let file = folder.0.join("pgbouncer.ini");
        std::fs::write(&file, config)?;
        let mut process = start(&file, &folder.0.join("pgbouncer.log"))?;
        let started = Instant::now();
        while !is_up(listen) {
            process.still_runs()?;
            if started.elapsed() > UP_WITHIN {
                bail!("PgBouncer did not start within {UP_WITHIN:?}:\n{}", process.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let is_changed = database.set_host(Some("127.0.0.1")).is_ok() && database.set_port(Some(listen)).is_ok();
        anyhow::ensure!(is_changed, "the Postgres URL has no host");
        Ok(Self { url: database.into(), _process: process, _folder: folder })
    }
}

fn start(config: &Path, log: &Path) -> Result<Process> {
    // It refuses to run as root, as Postgres does.
    let is_root = rustix::process::geteuid().is_root();
    let program = PathBuf::from(if is_root { "runuser" } else { PROGRAM });
    Process::start("pgbouncer", &program, log, |command| {
        if is_root {
            command.args(["-u", "postgres", "--", PROGRAM]);
        }
        command.arg(config).current_dir("/");
    })
}

/// Installs it unless it is there. Tests run side by side, and apt does one thing at a time.
async fn install_once() -> Result<()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    let _turn = TURN.lock().await;
    if Path::new(PROGRAM).exists() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!("PgBouncer is needed: install Debian's package pgbouncer, or run this as root to have it installed");
    }
    install::packages(&["pgbouncer"]).await
}
