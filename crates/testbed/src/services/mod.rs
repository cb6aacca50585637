//! Real RabbitMQ and real Postgres, in this order: the URLs in the environment, a Docker engine that answers, private
//! instances of the installed programs (after installing Debian's packages, as root).

mod cluster;
mod docker;
mod on;
mod pgbouncer;
mod postgres;
mod private;
mod program;
mod rabbitmq;
mod standby;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};

use crate::{
    Authority, Certificate,
    database::{connect, execute},
    free_port, install, step,
};
use cluster::Size;
pub use docker::{Compose, engine_answers};
pub use on::{On, Urls};
pub use pgbouncer::PgBouncer;
use postgres::Durability;
pub(crate) use postgres::program as postgres_program;
pub use private::Instances;
pub use rabbitmq::RabbitMq;
pub use standby::{OldPrimary, Replication};

/// Variable: a running RabbitMQ, `amqp://user:password@host:port`, without a virtual host.
pub const AMQP_URL: &str = "LEADLINE_DEV_AMQP_URL";
/// Variable: RabbitMQ's management API, `http://user:password@host:port`.
pub const MANAGEMENT_URL: &str = "LEADLINE_DEV_MANAGEMENT_URL";
/// Variable: a Postgres URL with a database; the user is a superuser, because tests make roles and databases.
pub const POSTGRES_URL: &str = "LEADLINE_DEV_POSTGRES_URL";

/// RabbitMQ and Postgres. What was started for this ends when it is dropped.
#[derive(Debug)]
pub struct Services {
    /// RabbitMQ's URL without a virtual host. Of a cluster, those of its nodes, separated by commas.
    pub amqp_url: String,
    /// The management UI and API, with credentials.
    pub management_url: String,
    /// A Postgres URL with a database that exists.
    pub postgres_url: String,
    owned: Owned,
}

/// What ends with [`Services`].
#[derive(Debug)]
enum Owned {
    /// The services were running before.
    Nothing,
    Docker(Compose),
    Private(Box<private::Instances>),
}

impl Services {
    /// The services that the environment names.
    ///
    /// # Errors
    ///
    /// When a variable is missing.
    pub fn from_environment() -> Result<Self> {
        let variable = |name| {
            std::env::var(name).with_context(|| {
                format!("{name} is not set: run the tests with `cargo xtask test`, which starts RabbitMQ and Postgres")
            })
        };
        Ok(Self {
            amqp_url: variable(AMQP_URL)?,
            management_url: variable(MANAGEMENT_URL)?,
            postgres_url: variable(POSTGRES_URL)?,
            owned: Owned::Nothing,
        })
    }

    /// The variables by which another process finds these services with [`Services::from_environment`].
    pub fn environment(&self) -> [(&'static str, &str); 3] {
        [(AMQP_URL, &self.amqp_url), (MANAGEMENT_URL, &self.management_url), (POSTGRES_URL, &self.postgres_url)]
    }

    /// Finds or starts the services.
    pub async fn up() -> Result<Self> {
        if let Ok(services) = Self::from_environment() {
            eprintln!("  ✓ RabbitMQ and Postgres as named in the environment");
            return Ok(services);
        }
        if docker::engine_answers() {
            match Self::containers().await {
                Ok(services) => return Ok(services),
                // For example one that reaches no registry of images.
                Err(error) => eprintln!("  – the Docker engine cannot run them, so private instances do: {error:#}"),
            }
        }
        if !private::are_installed() && !rustix::process::geteuid().is_root() {
            bail!(
                "RabbitMQ and Postgres are needed. One of these three ways:\n  1. name them: {AMQP_URL}, {MANAGEMENT_URL} and \
                 {POSTGRES_URL}\n  2. start a Docker engine\n  3. install Debian's packages postgresql and rabbitmq-server, or run \
                 this as root to have them installed"
            );
        }
        Self::start_private(Size::One, "", "", Durability::NoFsync).await
    }

    /// The services that the developer chose; `None`: as [`Services::up`].
    pub async fn chosen(on: Option<&On>) -> Result<Self> {
        match on {
            None => Self::up().await,
            Some(On::Private) => Self::start_private(Size::One, "", "", Durability::NoFsync).await,
            Some(on) => Self::for_chaos(Some(on)).await,
        }
    }

    /// As [`Services::chosen`], for chaos: what was not chosen, or is private, is as [`Services::private`].
    pub async fn for_chaos(on: Option<&On>) -> Result<Self> {
        match on {
            Some(On::Environment) => Self::from_environment(),
            Some(On::Urls(Urls { amqp, management, postgres })) => Ok(Self {
                amqp_url: amqp.clone(),
                management_url: management.clone(),
                postgres_url: postgres.clone(),
                owned: Owned::Nothing,
            }),
            Some(On::Containers) if !docker::engine_answers() => bail!("no Docker engine answers (`docker info`)"),
            Some(On::Containers) => Self::containers().await,
            Some(On::Private) | None => Self::private("", "").await,
        }
    }

    /// RabbitMQ and Postgres in containers.
    ///
    /// # Errors
    /// The engine does not have their images and cannot pull them, or they do not start.
    pub async fn containers() -> Result<Self> {
        let compose = step("RabbitMQ and Postgres in Docker", Compose::for_tests()).await?;
        Ok(Self {
            amqp_url: compose.amqp_url(),
            management_url: compose.management_url(),
            postgres_url: compose.postgres_url(),
            owned: Owned::Docker(compose),
        })
    }

    /// Private instances of the installed programs, even when others are running: tests that kill RabbitMQ or Postgres must
    /// not share them. Postgres calls fsync, as in production. RabbitMQ gets the lines `config` in `rabbitmq.conf`, and the
    /// terms `advanced` in its application's environment.
    pub async fn private(config: &str, advanced: &str) -> Result<Self> {
        Self::start_private(Size::One, config, advanced, Durability::Fsync).await
    }

    /// Private instances that speak TLS, too, with the certificate `server`. RabbitMQ does so at the port that is returned, and wants a
    /// certificate of its clients that `authority` has signed; Postgres does so at its own port, for whoever asks for it.
    pub async fn private_with_tls(authority: &Authority, server: &Certificate) -> Result<(Self, u16)> {
        let port = free_port()?;
        let config = format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n",
            authority.file().display(),
            server.chain.display(),
            server.key.display()
        );
        let services = Self::private(&config, "").await?;
        let mut postgres = connect(&services.postgres_url).await?;
        let folder: String = sqlx::query_scalar("show data_directory").fetch_one(&mut postgres).await?;
        server.copy_for(Path::new(&folder), "postgres")?;
        for statement in [
            "alter system set ssl_cert_file = 'server.pem'",
            "alter system set ssl_key_file = 'server.key'",
            "alter system set ssl = on",
            "select pg_reload_conf()",
        ] {
            execute(&mut postgres, statement).await?;
        }
        Ok((services, port))
    }

    /// The same with three nodes of RabbitMQ that are a cluster.
    pub async fn private_cluster() -> Result<Self> {
        Self::start_private(Size::Three, "", "", Durability::Fsync).await
    }

    /// The same with one node, a standby beside Postgres, and one address in front of both.
    pub async fn with_standby(replication: Replication) -> Result<Self> {
        let mut services = Self::private("", "").await?;
        if let Owned::Private(instances) = &mut services.owned {
            step("a standby of Postgres", instances.add_standby(replication)).await?;
            services.postgres_url = instances.postgres_url();
        }
        Ok(services)
    }

    async fn start_private(size: Size, config: &str, advanced: &str, durability: Durability) -> Result<Self> {
        if !private::are_installed() {
            if !rustix::process::geteuid().is_root() {
                bail!(
                    "this kills RabbitMQ and Postgres and needs instances of its own: install Debian's packages postgresql and \
                     rabbitmq-server, or run this as root to have them installed"
                );
            }
            let install = install::packages(&["postgresql", "rabbitmq-server"]);
            step("installing Debian's packages postgresql and rabbitmq-server", install).await?;
        }
        let what = match size {
            Size::One => "private RabbitMQ and Postgres",
            Size::Three => "a private RabbitMQ of three nodes, and Postgres",
        };
        let instances = step(what, Instances::start(size, config, advanced, durability)).await?;
        Ok(Self {
            amqp_url: instances.amqp_url(),
            management_url: instances.management_url(),
            postgres_url: instances.postgres_url(),
            owned: Owned::Private(Box::new(instances)),
        })
    }

    /// The processes of RabbitMQ (of a cluster its first node) and Postgres, if they are private. Both have children.
    pub fn processes(&self) -> Option<(u32, u32)> {
        match &self.owned {
            Owned::Private(instances) => Some(instances.processes()),
            Owned::Nothing | Owned::Docker(_) => None,
        }
    }

    /// The private instances, if these services are private.
    pub fn instances(&mut self) -> Option<&mut Instances> {
        match &mut self.owned {
            Owned::Private(instances) => Some(instances),
            Owned::Nothing | Owned::Docker(_) => None,
        }
    }

    /// The network of their containers, if they run in some: there they are called `rabbitmq` and `postgres`.
    pub fn network(&self) -> Option<String> {
        match &self.owned {
            Owned::Docker(compose) => Some(compose.network()),
            Owned::Nothing | Owned::Private(_) => None,
        }
    }

    /// Whether they may be killed: they were started for this.
    pub fn may_be_killed(&self) -> bool {
        !matches!(self.owned, Owned::Nothing)
    }

    /// Kills RabbitMQ as a power cut would, starts it again after `down`, and waits until it is there.
    pub async fn crash_rabbitmq(&mut self, down: Duration) -> Result<()> {
        match &mut self.owned {
            Owned::Private(instances) => instances.crash_rabbitmq(down).await,
            Owned::Docker(compose) => compose.crash(docker::RABBITMQ, down).await,
            Owned::Nothing => bail!(OF_OTHERS),
        }
    }

    /// Kills Postgres as a power cut would, starts it again after `down`, and waits until it answers.
    pub async fn crash_postgres(&mut self, down: Duration) -> Result<()> {
        match &mut self.owned {
            Owned::Private(instances) => instances.crash_postgres(down).await,
            Owned::Docker(compose) => compose.crash(docker::POSTGRES, down).await,
            Owned::Nothing => bail!(OF_OTHERS),
        }
    }

    /// Runs `rabbitmqctl` on the node.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<()> {
        match &self.owned {
            Owned::Private(instances) => instances.rabbitmqctl(arguments).await,
            Owned::Docker(compose) => compose.rabbitmqctl(arguments).await,
            Owned::Nothing => bail!(OF_OTHERS),
        }
    }
}

const OF_OTHERS: &str = "services that were running before are not broken on purpose";
