//! Private instances of the installed programs: own data folder, own ports, own node name.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    postgres::{self, Durability, Postgres},
    program::UP_WITHIN,
    rabbitmq::RabbitMq,
};
use crate::workspace;

/// Private RabbitMQ and Postgres; ended, and their folder removed, when dropped. Fields are dropped in this order.
#[derive(Debug)]
pub struct Instances {
    rabbitmq: RabbitMq,
    postgres: Postgres,
    _folder: Folder,
}

/// A folder that is removed on drop.
#[derive(Debug)]
pub(super) struct Folder(pub(super) PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn are_installed() -> bool {
    RabbitMq::is_installed() && Postgres::is_installed()
}

impl Instances {
    /// Starts both. Call it on a thread that lives as long as they should: when that thread ends, the kernel stops them (see
    /// [`crate::Process`]).
    pub(super) async fn start(config: &str, advanced: &str, durability: Durability) -> Result<Self> {
        let folder = new_folder()?;
        let rabbitmq = RabbitMq::start(folder.0.clone(), config, advanced)?;
        let postgres = Postgres::start(folder.0.join("postgres"), durability)?;
        let mut instances = Self { rabbitmq, postgres, _folder: folder };
        let started = Instant::now();
        while !(instances.postgres.is_up()? && instances.rabbitmq.is_up()?) {
            if started.elapsed() > UP_WITHIN {
                bail!("RabbitMQ or Postgres did not start within {UP_WITHIN:?}:\n{}", instances.rabbitmq.log());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(instances)
    }

    /// Kills RabbitMQ as a power cut would, starts it again after `down`, and waits until it accepts AMQP connections.
    pub async fn crash_rabbitmq(&mut self, down: Duration) -> Result<()> {
        self.rabbitmq.crash(down).await
    }

    /// Kills Postgres as a power cut would, starts it again after `down`, and waits until it answers.
    pub async fn crash_postgres(&mut self, down: Duration) -> Result<()> {
        self.postgres.crash(down).await
    }

    /// Runs `rabbitmqctl` against the private node.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<()> {
        self.rabbitmq.ctl(arguments).await
    }

    pub(super) fn amqp_url(&self) -> String {
        self.rabbitmq.amqp_url()
    }

    pub(super) fn management_url(&self) -> String {
        self.rabbitmq.management_url()
    }

    pub(super) fn postgres_url(&self) -> String {
        self.postgres.url()
    }
}

/// A fresh folder. Also removes the folders of processes that were killed.
pub(super) fn new_folder() -> Result<Folder> {
    let mut parent = workspace::root()?.join("target/services");
    fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    if rustix::process::geteuid().is_root() && !postgres::may_enter(&parent) {
        // The checkout is where the user postgres cannot go, for example in root's home.
        parent = std::env::temp_dir().join("leadline-services");
        fs::create_dir_all(&parent)?;
    }
    for entry in fs::read_dir(&parent)?.flatten() {
        let owner = entry.file_name().to_string_lossy().split('-').next().and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let id = uuid::Uuid::now_v7().simple().to_string();
    let path = parent.join(format!("{}-{}", std::process::id(), &id[24..]));
    fs::create_dir_all(&path)?;
    Ok(Folder(path))
}
