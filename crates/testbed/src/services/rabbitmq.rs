//! A private RabbitMQ node.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use reqwest::Method;
use rustix::process::Signal;

use super::program::{UP_WITHIN, is_up, newest_with};
use crate::{Process, free_port, management};

/// Debian keeps RabbitMQ's own scripts here. Those on the path always run the system's instance.
const VERSIONS: &str = "/usr/lib/rabbitmq/lib";

/// A stop that takes longer ends in a kill.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// A RabbitMQ node; ended when dropped.
#[derive(Debug)]
pub struct RabbitMq {
    process: Process,
    node: Node,
}

/// What a node needs to start again as the same one.
#[derive(Debug)]
pub(super) struct Node {
    /// Its data and its configuration.
    pub(super) folder: PathBuf,
    pub(super) ports: Ports,
    /// The port of Erlang's port mapper.
    pub(super) epmd: u16,
    /// Erlang's cookie is in it, by which nodes and `rabbitmqctl` know each other.
    pub(super) home: PathBuf,
    /// Lines of `rabbitmq.conf` after ours.
    pub(super) config: String,
    /// Terms of `advanced.config` after ours.
    pub(super) advanced: String,
}

/// Where a node listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    amqp: u16,
    management: u16,
    distribution: u16,
}

impl Ports {
    pub(super) fn free() -> Result<Self> {
        Ok(Self { amqp: free_port()?, management: free_port()?, distribution: free_port()? })
    }

    /// The name of the node that listens there.
    pub(super) fn node_name(self) -> String {
        format!("leadline-{}@localhost", self.amqp)
    }
}

impl RabbitMq {
    pub(super) fn is_installed() -> bool {
        server().is_some() && epmd().is_some()
    }

    pub(super) fn start_node(node: Node) -> Result<Self> {
        Ok(Self { process: node.start()?, node })
    }

    pub(super) fn process(&self) -> u32 {
        self.process.id()
    }

    /// `false`: it does not accept connections yet. An error: its process has ended.
    pub(super) fn is_starting(&mut self) -> Result<bool> {
        self.process.still_runs()?;
        Ok(!(self.is_up() && is_up(self.node.ports.management)))
    }

    pub(super) fn log(&self) -> String {
        self.process.log()
    }

    pub(super) fn amqp_url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.node.ports.amqp)
    }

    pub(super) fn management_url(&self) -> String {
        format!("http://guest:guest@127.0.0.1:{}", self.node.ports.management)
    }

    /// The node's name, as RabbitMQ tells it.
    pub fn name(&self) -> String {
        self.node.ports.node_name()
    }

    /// Whether it accepts AMQP connections.
    pub fn is_up(&self) -> bool {
        is_up(self.node.ports.amqp)
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it as an operator would, and waits until it has ended.
    pub async fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        let started = Instant::now();
        while self.process.still_runs().is_ok() && started.elapsed() < STOPPED_WITHIN {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.process.kill();
    }

    /// Starts a node that has ended.
    pub fn start(&mut self) -> Result<()> {
        self.process = self.node.start()?;
        Ok(())
    }

    /// Suspends it: its connections stay open, and nothing answers.
    pub fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Waits until it accepts AMQP connections.
    pub async fn until_up(&mut self) -> Result<()> {
        let started = Instant::now();
        while !self.is_up() {
            self.process.still_runs()?;
            if started.elapsed() > UP_WITHIN {
                bail!("RabbitMQ did not start within {UP_WITHIN:?}:\n{}", self.process.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Waits until every queue would still have a leader if this node of a cluster went away: all others are back.
    pub async fn until_replicated(&mut self) -> Result<()> {
        let started = Instant::now();
        // RabbitMQ's documentation, "HTTP API Reference": it answers with an error while a queue is on the edge.
        const CHECK: &str = "health/checks/node-is-quorum-critical";
        while let Err(error) = management::call(&self.management_url(), Method::GET, CHECK, None).await {
            self.process.still_runs()?;
            if started.elapsed() > UP_WITHIN {
                return Err(error).with_context(|| format!("the queues have no other replicas after {UP_WITHIN:?}"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Cuts a node of a cluster off from the others for a while, as a network that is split: no side reaches the other, and both know
    /// it. Erlang's nodes talk only to those with the same cookie. Returns at once.
    pub async fn cut_off(&self, during: Duration) -> Result<()> {
        let milliseconds = during.as_millis();
        let cut_and_mend = format!(
            "Others = nodes(), Cookie = erlang:get_cookie(), spawn(fun() -> \
             [erlang:set_cookie(Other, cut_off) || Other <- Others], \
             [erlang:disconnect_node(Other) || Other <- Others], \
             timer:sleep({milliseconds}), \
             [erlang:set_cookie(Other, Cookie) || Other <- Others] end)."
        );
        self.ctl(&["eval", &cut_and_mend]).await
    }

    /// Kills it, starts it again after `down`, and waits until it accepts AMQP connections.
    pub(super) async fn crash(&mut self, down: Duration) -> Result<()> {
        self.kill();
        tokio::time::sleep(down).await;
        self.start()?;
        self.until_up().await
    }

    /// Runs `rabbitmqctl` against this node.
    pub(super) async fn ctl(&self, arguments: &[&str]) -> Result<()> {
        let program = newest_with(VERSIONS, "sbin/rabbitmqctl").context("RabbitMQ is not installed")?;
        let mut command = tokio::process::Command::new(program);
        command.args(["--node", &self.name()]).args(arguments).envs(self.node.identity());
        let output = command.kill_on_drop(true).output().await.context("cannot run rabbitmqctl")?;
        if !output.status.success() {
            bail!("rabbitmqctl {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// The same node, but killed when it is dropped: a cluster that loses its nodes one after the other takes its time.
    #[must_use]
    pub(super) fn killed_at_the_end(self) -> Self {
        Self { process: self.process.stopped_with(Signal::KILL), node: self.node }
    }
}

fn server() -> Option<PathBuf> {
    newest_with(VERSIONS, "sbin/rabbitmq-server")
}

fn epmd() -> Option<PathBuf> {
    let known = ["/usr/bin/epmd", "/usr/local/bin/epmd", "/usr/lib/erlang/bin/epmd"];
    known.into_iter().map(PathBuf::from).find(|path| path.exists())
}

/// Starts Erlang's port mapper, which RabbitMQ would otherwise start and leave running.
pub(super) fn start_epmd(port: u16, log: &Path) -> Result<Process> {
    let program = epmd().context("Erlang's epmd is not installed")?;
    Process::start("epmd", &program, log, |command| {
        command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
    })
}

impl Node {
    /// Variables that make RabbitMQ's programs talk to this node and to no other of the machine.
    fn identity(&self) -> [(&'static str, String); 3] {
        [
            ("HOME", self.home.display().to_string()),
            ("ERL_EPMD_PORT", self.epmd.to_string()),
            ("RABBITMQ_NODENAME", self.ports.node_name()),
        ]
    }

    fn start(&self) -> Result<Process> {
        let server = server().context("RabbitMQ is not installed")?;
        let folder = &self.folder;
        fs::create_dir_all(folder)?;
        let [config, advanced, plugins] = self.write_config()?;
        Process::start("rabbitmq", &server, &folder.with_extension("log"), |command| {
            command
                .envs(self.identity())
                .env("RABBITMQ_CONFIG_FILE", config)
                .env("RABBITMQ_ADVANCED_CONFIG_FILE", advanced)
                .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
                .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
                .env("RABBITMQ_LOG_BASE", folder.join("log"))
                .env("RABBITMQ_PID_FILE", folder.join("pid"))
                // Erlang writes it where the command was started otherwise.
                .env("ERL_CRASH_DUMP", folder.join("erl_crash.dump"))
                .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
                .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
        })
    }

    /// Writes the node's configuration files: `rabbitmq.conf`, `advanced.config` and `enabled_plugins`.
    fn write_config(&self) -> Result<[PathBuf; 3]> {
        let Self { ports: Ports { amqp, management, .. }, config, advanced, .. } = self;
        let paths = ["rabbitmq.conf", "advanced.config", "enabled_plugins"].map(|name| self.folder.join(name));
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
