//! Private instances of the installed programs: own data folder under `target/`, own ports, own node name.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{Process, workspace};

/// Debian keeps RabbitMQ's own scripts here; the ones in the path insist on the system's instance.
const RABBITMQ: &str = "/usr/lib/rabbitmq/lib";
const POSTGRES: &str = "/usr/lib/postgresql";

/// Both are up within seconds, or something is wrong.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// Private RabbitMQ and Postgres; ended, and their folder removed, when dropped. Fields are dropped in this order.
#[derive(Debug)]
pub(super) struct Instances {
    _rabbitmq: Process,
    _epmd: Process,
    _postgres: Process,
    _folder: Folder,
    amqp: u16,
    management: u16,
    postgres: u16,
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
    /// Starts both. Not on a thread that ends before we do: the kernel would take that for our death and tell the
    /// children (see [`Process`]).
    pub(super) async fn start() -> Result<Self> {
        let folder = folder()?;
        let path = folder.0.clone();
        let (amqp, management, postgres) = (workspace::free_port()?, workspace::free_port()?, workspace::free_port()?);
        let (epmd_process, mut rabbitmq_process) = start_rabbitmq(&path.join("rabbitmq"), amqp, management)?;
        let mut postgres_process = start_postgres(&path.join("postgres"), postgres)?;
        let started = Instant::now();
        while !(is_up(postgres) && is_up(amqp) && is_up(management)) {
            rabbitmq_process.still_runs()?;
            postgres_process.still_runs()?;
            if started.elapsed() > UP_WITHIN {
                bail!("RabbitMQ or Postgres did not come up within {UP_WITHIN:?}:\n{}", rabbitmq_process.log());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(Self {
            _rabbitmq: rabbitmq_process,
            _epmd: epmd_process,
            _postgres: postgres_process,
            _folder: folder,
            amqp,
            management,
            postgres,
        })
    }

    pub(super) fn amqp_url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.amqp)
    }

    pub(super) fn management_url(&self) -> String {
        format!("http://guest:guest@127.0.0.1:{}", self.management)
    }

    pub(super) fn postgres_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.postgres)
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

fn start_postgres(folder: &Path, port: u16) -> Result<Process> {
    let programs = postgres_programs().context("Postgres is not installed")?;
    fs::create_dir_all(folder)?;
    let is_root = rustix::process::geteuid().is_root();
    let data = folder.join("data");
    let mut initdb = if is_root {
        // Postgres refuses to run as root.
        run("chown", |chown| {
            chown.arg("postgres").arg(folder);
        })?;
        let mut runuser = Command::new("runuser");
        runuser.args(["-u", "postgres", "--"]).arg(programs.join("initdb"));
        runuser
    } else {
        Command::new(programs.join("initdb"))
    };
    initdb
        .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "-D"])
        .arg(&data)
        .current_dir("/");
    succeed(&mut initdb)?;
    let server = programs.join("postgres");
    let program = if is_root { PathBuf::from("runuser") } else { server.clone() };
    let log = folder.parent().unwrap_or(folder).join("postgres.log");
    Process::start("postgres", &program, &log, |command| {
        if is_root {
            command.args(["-u", "postgres", "--"]).arg(&server);
        }
        command
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300", "-k"])
            .arg(folder)
            .current_dir("/");
    })
}

/// RabbitMQ, and the name service of Erlang that it would otherwise start and leave behind.
fn start_rabbitmq(folder: &Path, amqp: u16, management: u16) -> Result<(Process, Process)> {
    let server = rabbitmq_server().context("RabbitMQ is not installed")?;
    let home = folder.join("home");
    fs::create_dir_all(&home)?;
    let epmd_port = workspace::free_port()?.to_string();
    let epmd = Process::start(
        "epmd",
        &epmd().context("Erlang's epmd is not installed")?,
        &folder.join("epmd.log"),
        |command| {
            command.args(["-address", "127.0.0.1", "-port", &epmd_port]);
        },
    )?;
    let config = format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
         loopback_users = none\nvm_memory_high_watermark.relative = 0.4\ndisk_free_limit.absolute = 50MB\n\
         collect_statistics_interval = 500\nlog.file.level = warning\n"
    );
    let config_file = folder.join("rabbitmq.conf");
    fs::write(&config_file, config)?;
    // Quorum queues report their length every five seconds; people who watch a demo or a test have less patience.
    let advanced = folder.join("advanced.config");
    fs::write(&advanced, "[{rabbit, [{quorum_tick_interval, 500}]}].\n")?;
    let plugins = folder.join("enabled_plugins");
    fs::write(&plugins, "[rabbitmq_management].\n")?;
    let node = format!("leadline-{amqp}@localhost");
    let distribution = workspace::free_port()?.to_string();
    let rabbitmq = Process::start("rabbitmq", &server, &folder.join("rabbitmq.log"), |command| {
        command
            .env("HOME", &home)
            .env("ERL_EPMD_PORT", &epmd_port)
            .env("RABBITMQ_NODENAME", &node)
            .env("RABBITMQ_CONFIG_FILE", &config_file)
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", &advanced)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins)
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env("RABBITMQ_DIST_PORT", &distribution)
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
    })?;
    Ok((epmd, rabbitmq))
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
