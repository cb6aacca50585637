//! Private instances of the installed programs: own data folder, own ports, own node name.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    cluster::{Cluster, Size},
    postgres::{self, Durability, Postgres},
    program::UP_WITHIN,
    rabbitmq::RabbitMq,
    standby::{Failover, OldPrimary, Replication},
};
use crate::workspace;

/// Private RabbitMQ and Postgres; ended, and their folder removed, when dropped. Fields are dropped in this order.
#[derive(Debug)]
pub struct Instances {
    rabbitmq: Cluster,
    /// The standby ends before its primary.
    failover: Option<Failover>,
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
    pub(super) async fn start(size: Size, config: &str, advanced: &str, durability: Durability) -> Result<Self> {
        let folder = new_folder()?;
        let rabbitmq = Cluster::start(&folder.0, size, config, advanced).await?;
        let postgres = Postgres::start(folder.0.join("postgres"), durability)?;
        let mut instances = Self { rabbitmq, postgres, failover: None, _folder: folder };
        let started = Instant::now();
        while !instances.postgres.is_up()? || instances.newest_node().is_starting()? {
            if started.elapsed() > UP_WITHIN {
                let log = instances.newest_node().log();
                bail!("RabbitMQ or Postgres did not start within {UP_WITHIN:?}:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(instances)
    }

    /// Kills RabbitMQ as a power cut would, starts it again after `down`, and waits until it accepts AMQP connections.
    pub async fn crash_rabbitmq(&mut self, down: Duration) -> Result<()> {
        self.rabbitmq.nodes[0].crash(down).await
    }

    /// Kills Postgres as a power cut would, starts it again after `down`, and waits until it answers.
    pub async fn crash_postgres(&mut self, down: Duration) -> Result<()> {
        self.postgres.crash(down).await
    }

    /// Gives Postgres a standby, and both of them one address.
    pub(super) async fn add_standby(&mut self, replication: Replication) -> Result<()> {
        self.failover = Some(Failover::start(&self.postgres, replication).await?);
        Ok(())
    }

    fn failover(&mut self) -> Result<(&mut Failover, &mut Postgres)> {
        let failover = self.failover.as_mut().context("Postgres has no standby")?;
        Ok((failover, &mut self.postgres))
    }

    /// Makes another standby when the last one was promoted, and waits until it follows the primary.
    pub async fn make_standby(&mut self) -> Result<()> {
        let (failover, primary) = self.failover()?;
        failover.make_standby(primary).await
    }

    /// Passes nothing on to the standby any more: what is committed from now on is lost when it is promoted.
    pub fn cut_replication(&mut self) -> Result<()> {
        self.failover()?.0.cut_stream();
        Ok(())
    }

    /// Promotes the standby: it takes the primary's place behind the one address.
    pub async fn promote_standby(&mut self, old: OldPrimary) -> Result<()> {
        let (failover, primary) = self.failover()?;
        failover.promote(primary, old).await
    }

    /// Runs `rabbitmqctl` against the private node.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<()> {
        self.rabbitmq.nodes[0].ctl(arguments).await
    }

    /// The nodes of RabbitMQ: one, or three that are a cluster.
    pub fn nodes(&mut self) -> &mut [RabbitMq] {
        &mut self.rabbitmq.nodes
    }

    /// There is at least one node.
    fn newest_node(&mut self) -> &mut RabbitMq {
        let newest = self.rabbitmq.nodes.len() - 1;
        &mut self.rabbitmq.nodes[newest]
    }

    pub(super) fn processes(&self) -> (u32, u32) {
        (self.rabbitmq.nodes[0].process(), self.postgres.process())
    }

    pub(super) fn amqp_url(&self) -> String {
        self.rabbitmq.nodes.iter().map(RabbitMq::amqp_url).collect::<Vec<_>>().join(",")
    }

    pub(super) fn management_url(&self) -> String {
        self.rabbitmq.nodes[0].management_url()
    }

    pub(super) fn postgres_url(&self) -> String {
        self.failover.as_ref().map_or_else(|| self.postgres.url(), Failover::url)
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
