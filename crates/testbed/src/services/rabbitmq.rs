//! A private RabbitMQ node, with a name and a port mapper (epmd) of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::program::{UP_WITHIN, is_up, newest_with};
use crate::{Process, free_port};

/// Debian keeps RabbitMQ's own scripts here. Those on the path always run the system's instance.
const VERSIONS: &str = "/usr/lib/rabbitmq/lib";

/// A running RabbitMQ node; ended when dropped. Fields are dropped in this order.
#[derive(Debug)]
pub(super) struct RabbitMq {
    process: Process,
    _epmd: Process,
    node: Node,
}

/// What a node needs to start again as the same one.
#[derive(Debug)]
struct Node {
    /// Holds the folder `rabbitmq` and the logs.
    folder: PathBuf,
    amqp: u16,
    management: u16,
    distribution: u16,
    epmd: u16,
    /// Lines of `rabbitmq.conf` after ours.
    config: String,
    /// Terms of `advanced.config` after ours.
    advanced: String,
}

impl RabbitMq {
    pub(super) fn is_installed() -> bool {
        server().is_some() && epmd().is_some()
    }

    /// Starts a node with its data below `folder`.
    pub(super) fn start(folder: PathBuf, config: &str, advanced: &str) -> Result<Self> {
        let node = Node {
            folder,
            amqp: free_port()?,
            management: free_port()?,
            distribution: free_port()?,
            epmd: free_port()?,
            config: config.to_owned(),
            advanced: advanced.to_owned(),
        };
        let epmd = node.start_epmd()?;
        Ok(Self { process: node.start()?, _epmd: epmd, node })
    }

    /// `false`: it does not accept connections yet. An error: its process has ended.
    pub(super) fn is_up(&mut self) -> Result<bool> {
        self.process.still_runs()?;
        Ok(is_up(self.node.amqp) && is_up(self.node.management))
    }

    pub(super) fn log(&self) -> String {
        self.process.log()
    }

    pub(super) fn amqp_url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.node.amqp)
    }

    pub(super) fn management_url(&self) -> String {
        format!("http://guest:guest@127.0.0.1:{}", self.node.management)
    }

    /// Kills it as a power cut would, starts it again after `down`, and waits until it accepts AMQP connections.
    pub(super) async fn crash(&mut self, down: Duration) -> Result<()> {
        self.process.kill();
        tokio::time::sleep(down).await;
        self.process = self.node.start()?;
        let started = Instant::now();
        while !is_up(self.node.amqp) {
            self.process.still_runs()?;
            if started.elapsed() > UP_WITHIN {
                bail!("RabbitMQ did not start again within {UP_WITHIN:?}:\n{}", self.process.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Runs `rabbitmqctl` against this node.
    pub(super) async fn ctl(&self, arguments: &[&str]) -> Result<()> {
        let program = newest_with(VERSIONS, "sbin/rabbitmqctl").context("RabbitMQ is not installed")?;
        let mut command = tokio::process::Command::new(program);
        command.args(["--node", &self.node.name()]).args(arguments).envs(self.node.identity());
        let output = command.kill_on_drop(true).output().await.context("cannot run rabbitmqctl")?;
        if !output.status.success() {
            bail!("rabbitmqctl {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

fn server() -> Option<PathBuf> {
    newest_with(VERSIONS, "sbin/rabbitmq-server")
}

fn epmd() -> Option<PathBuf> {
    let known = ["/usr/bin/epmd", "/usr/local/bin/epmd", "/usr/lib/erlang/bin/epmd"];
    known.into_iter().map(PathBuf::from).find(|path| path.exists())
}

impl Node {
    fn name(&self) -> String {
        format!("leadline-{}@localhost", self.amqp)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("rabbitmq")
    }

    /// Variables that make RabbitMQ's programs talk to this node and to no other of the machine.
    fn identity(&self) -> [(&'static str, String); 3] {
        [
            ("HOME", self.data().join("home").display().to_string()),
            ("ERL_EPMD_PORT", self.epmd.to_string()),
            ("RABBITMQ_NODENAME", self.name()),
        ]
    }

    /// Erlang's port mapper, which RabbitMQ would otherwise start and leave running.
    fn start_epmd(&self) -> Result<Process> {
        let program = epmd().context("Erlang's epmd is not installed")?;
        Process::start("epmd", &program, &self.folder.join("epmd.log"), |command| {
            command.args(["-address", "127.0.0.1", "-port", &self.epmd.to_string()]);
        })
    }

    fn start(&self) -> Result<Process> {
        let server = server().context("RabbitMQ is not installed")?;
        let data = self.data();
        fs::create_dir_all(data.join("home"))?;
        let [config, advanced, plugins] = self.write_config(&data)?;
        Process::start("rabbitmq", &server, &self.folder.join("rabbitmq.log"), |command| {
            command
                .envs(self.identity())
                .env("RABBITMQ_CONFIG_FILE", config)
                .env("RABBITMQ_ADVANCED_CONFIG_FILE", advanced)
                .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
                .env("RABBITMQ_MNESIA_BASE", data.join("data"))
                .env("RABBITMQ_LOG_BASE", data.join("log"))
                .env("RABBITMQ_PID_FILE", data.join("pid"))
                // Erlang writes it where the command was started otherwise.
                .env("ERL_CRASH_DUMP", data.join("erl_crash.dump"))
                .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
                .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
        })
    }

    /// Writes the node's configuration files: `rabbitmq.conf`, `advanced.config` and `enabled_plugins`.
    fn write_config(&self, data: &Path) -> Result<[PathBuf; 3]> {
        let Self { amqp, management, config, advanced, .. } = self;
        let paths = ["rabbitmq.conf", "advanced.config", "enabled_plugins"].map(|name| data.join(name));
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
             loopback_users = none\nvm_memory_high_watermark.relative = 0.4\ndisk_free_limit.absolute = 50MB\n\
             collect_statistics_interval = 500\nlog.file.level = warning\n{config}"
        );
        // By default quorum queues report their length every five seconds, which is slow for a demo and for tests.
        let advanced = format!("[{{rabbit, [{{quorum_tick_interval, 500}}{advanced}]}}].\n");
        let plugins = "[rabbitmq_management].\n".to_owned();
        for (path, text) in paths.iter().zip([config, advanced, plugins]) {
            fs::write(path, text)?;
        }
        Ok(paths)
    }
}
