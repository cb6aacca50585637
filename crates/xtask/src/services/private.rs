//! Private instances of the installed programs: own data folder under `target/`, own ports, own node name.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use sqlx::Connection;

use crate::{Process, workspace};

/// Debian keeps RabbitMQ's own scripts here; the ones in the path insist on the system's instance.
const RABBITMQ: &str = "/usr/lib/rabbitmq/lib";
const POSTGRES: &str = "/usr/lib/postgresql";

/// Both are up within seconds, or something is wrong.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// Private RabbitMQ and Postgres; ended, and their folder removed, when dropped. Fields are dropped in this order.
#[derive(Debug)]
pub struct Instances {
    rabbitmq: Process,
    _epmd: Process,
    postgres: Process,
    folder: Folder,
    node: Node,
    postgres_port: u16,
}

/// What a RabbitMQ node needs to start again as the same one.
#[derive(Debug, Clone)]
struct Node {
    amqp: u16,
    management: u16,
    distribution: u16,
    epmd: u16,
    /// Lines of `rabbitmq.conf` beside ours.
    more: String,
    /// Terms of `advanced.config` beside ours.
    advanced: String,
}

/// A folder that is gone with us.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn are_installed() -> bool {
    rabbitmq_server().is_some() && postgres_programs().is_some() && epmd().is_some()
}

fn newest_with(parent: &str, inner: &str) -> Option<PathBuf> {
    let folders = fs::read_dir(parent).ok()?.flatten().map(|entry| entry.path().join(inner));
    folders.filter(|path| path.exists()).max()
}

fn rabbitmq_server() -> Option<PathBuf> {
    newest_with(RABBITMQ, "sbin/rabbitmq-server")
}

fn postgres_programs() -> Option<PathBuf> {
    newest_with(POSTGRES, "bin/initdb").and_then(|initdb| initdb.parent().map(Path::to_owned))
}

fn epmd() -> Option<PathBuf> {
    let found = ["/usr/bin/epmd", "/usr/local/bin/epmd", "/usr/lib/erlang/bin/epmd"].into_iter().map(PathBuf::from);
    found.into_iter().find(|path| path.exists())
}

impl Instances {
    /// Starts both, RabbitMQ with more settings than ours, if given. Not on a thread that ends before we do: the kernel would
    /// take that for our death and tell the children (see [`Process`]).
    pub(super) async fn start(more: &str, advanced: &str) -> Result<Self> {
        let folder = folder()?;
        let path = folder.0.clone();
        let node = Node {
            amqp: workspace::free_port()?,
            management: workspace::free_port()?,
            distribution: workspace::free_port()?,
            epmd: workspace::free_port()?,
            more: more.to_owned(),
            advanced: advanced.to_owned(),
        };
        let postgres_port = workspace::free_port()?;
        let epmd = start_epmd(&path, &node)?;
        let rabbitmq = start_rabbitmq(&path, &node)?;
        prepare_postgres(&path.join("postgres"))?;
        let postgres = start_postgres(&path.join("postgres"), postgres_port)?;
        let mut instances = Self { rabbitmq, _epmd: epmd, postgres, folder, node, postgres_port };
        instances.until_up().await?;
        Ok(instances)
    }

    async fn until_up(&mut self) -> Result<()> {
        let started = Instant::now();
        while !(is_up(self.postgres_port) && is_up(self.node.amqp) && is_up(self.node.management)) {
            self.rabbitmq.still_runs()?;
            self.postgres.still_runs()?;
            if started.elapsed() > UP_WITHIN {
                bail!("RabbitMQ or Postgres did not come up within {UP_WITHIN:?}:\n{}", self.rabbitmq.log());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Kills RabbitMQ as a power cut would, and starts it again after `down`. It is back when this returns.
    pub async fn crash_rabbitmq(&mut self, down: Duration) -> Result<()> {
        self.rabbitmq.kill();
        tokio::time::sleep(down).await;
        self.rabbitmq = start_rabbitmq(&self.folder.0, &self.node)?;
        let started = Instant::now();
        while !is_up(self.node.amqp) {
            self.rabbitmq.still_runs()?;
            if started.elapsed() > UP_WITHIN {
                bail!("RabbitMQ did not come back within {UP_WITHIN:?}:\n{}", self.rabbitmq.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Kills Postgres as a power cut would, and starts it again after `down`. It answers when this returns.
    pub async fn crash_postgres(&mut self, down: Duration) -> Result<()> {
        self.postgres.kill();
        tokio::time::sleep(down).await;
        let started = Instant::now();
        loop {
            // What the dead one left behind (its children, its shared memory) goes within moments.
            if self.postgres.still_runs().is_err() {
                self.postgres = start_postgres(&self.folder.0.join("postgres"), self.postgres_port)?;
            }
            if sqlx::PgConnection::connect(&self.postgres_url()).await.is_ok() {
                return Ok(());
            }
            if started.elapsed() > UP_WITHIN {
                bail!("Postgres did not come back within {UP_WITHIN:?}:\n{}", self.postgres.log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Tells the running node something, as its administrator would.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<()> {
        let ctl = newest_with(RABBITMQ, "sbin/rabbitmqctl").context("RabbitMQ is not installed")?;
        let mut command = tokio::process::Command::new(ctl);
        command.args(["--node", &self.node.name()]).args(arguments).envs(self.node.identity(&self.folder.0));
        let output = command.kill_on_drop(true).output().await.context("rabbitmqctl")?;
        if !output.status.success() {
            bail!("rabbitmqctl {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    pub(super) fn amqp_url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.node.amqp)
    }

    pub(super) fn management_url(&self) -> String {
        format!("http://guest:guest@127.0.0.1:{}", self.node.management)
    }

    pub(super) fn postgres_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.postgres_port)
    }
}

fn is_up(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// A fresh folder. Those of runs that were killed are removed on the way.
fn folder() -> Result<Folder> {
    let mut parent = workspace::root().join("target/services");
    fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    if rustix::process::geteuid().is_root() && !postgres_may_enter(&parent) {
        // A checkout in root's home, for example: the user postgres cannot get there.
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

fn postgres_may_enter(folder: &Path) -> bool {
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

/// Makes an empty database cluster.
fn prepare_postgres(folder: &Path) -> Result<()> {
    let programs = postgres_programs().context("Postgres is not installed")?;
    fs::create_dir_all(folder)?;
    if rustix::process::geteuid().is_root() {
        run("chown", |chown| {
            chown.arg("postgres").arg(folder);
        })?;
    }
    let mut initdb = as_postgres(&programs.join("initdb"));
    initdb
        .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "-D"])
        .arg(folder.join("data"))
        .current_dir("/");
    succeed(&mut initdb)
}

fn start_postgres(folder: &Path, port: u16) -> Result<Process> {
    let server = postgres_programs().context("Postgres is not installed")?.join("postgres");
    let is_root = rustix::process::geteuid().is_root();
    let program = if is_root { PathBuf::from("runuser") } else { server.clone() };
    let log = folder.parent().unwrap_or(folder).join("postgres.log");
    // At SIGTERM Postgres would wait for its clients, and a statement that runs for long would outlive it.
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
    })?;
    Ok(process.ending_with(Signal::INT))
}

impl Node {
    fn name(&self) -> String {
        format!("leadline-{}@localhost", self.amqp)
    }

    /// What makes a program of RabbitMQ's talk to this node, and to no other of the machine.
    fn identity(&self, folder: &Path) -> [(&'static str, String); 3] {
        [
            ("HOME", folder.join("rabbitmq/home").display().to_string()),
            ("ERL_EPMD_PORT", self.epmd.to_string()),
            ("RABBITMQ_NODENAME", self.name()),
        ]
    }
}

/// The name service of Erlang, which RabbitMQ would otherwise start and leave behind.
fn start_epmd(folder: &Path, node: &Node) -> Result<Process> {
    let program = epmd().context("Erlang's epmd is not installed")?;
    Process::start("epmd", &program, &folder.join("epmd.log"), |command| {
        command.args(["-address", "127.0.0.1", "-port", &node.epmd.to_string()]);
    })
}

fn start_rabbitmq(parent: &Path, node: &Node) -> Result<Process> {
    let server = rabbitmq_server().context("RabbitMQ is not installed")?;
    let folder = parent.join("rabbitmq");
    fs::create_dir_all(folder.join("home"))?;
    let Node { amqp, management, more, advanced, .. } = node;
    let config = format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
         loopback_users = none\nvm_memory_high_watermark.relative = 0.4\ndisk_free_limit.absolute = 50MB\n\
         collect_statistics_interval = 500\nlog.file.level = warning\n{more}"
    );
    let config_file = folder.join("rabbitmq.conf");
    fs::write(&config_file, config)?;
    // Quorum queues report their length every five seconds; people who watch a demo or a test have less patience.
    let advanced_file = folder.join("advanced.config");
    fs::write(&advanced_file, format!("[{{rabbit, [{{quorum_tick_interval, 500}}{advanced}]}}].\n"))?;
    let plugins = folder.join("enabled_plugins");
    fs::write(&plugins, "[rabbitmq_management].\n")?;
    Process::start("rabbitmq", &server, &folder.join("rabbitmq.log"), |command| {
        command
            .envs(node.identity(parent))
            .env("RABBITMQ_CONFIG_FILE", &config_file)
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", &advanced_file)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins)
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env("RABBITMQ_DIST_PORT", node.distribution.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
    })
}

fn run(program: &str, prepare: impl FnOnce(&mut Command)) -> Result<()> {
    let mut command = Command::new(program);
    prepare(&mut command);
    succeed(&mut command)
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
