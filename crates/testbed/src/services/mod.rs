//! Real RabbitMQ and real Postgres, in this order: the URLs in the environment, a Docker engine that answers, private
//! instances of the installed programs (after installing Debian's packages, as root).

mod docker;
mod pgbouncer;
mod postgres;
mod private;
mod program;
mod rabbitmq;

use anyhow::{Context, Result, bail};

use crate::{install, step};
pub use pgbouncer::PgBouncer;
use postgres::Durability;
pub use private::Instances;

/// Variable: a running RabbitMQ, `amqp://user:password@host:port`, without a virtual host.
pub const AMQP_URL: &str = "LEADLINE_DEV_AMQP_URL";
/// Variable: RabbitMQ's management API, `http://user:password@host:port`.
pub const MANAGEMENT_URL: &str = "LEADLINE_DEV_MANAGEMENT_URL";
/// Variable: a Postgres URL with a database; the user is a superuser, because tests make roles and databases.
pub const POSTGRES_URL: &str = "LEADLINE_DEV_POSTGRES_URL";

/// RabbitMQ and Postgres. What was started for this ends when it is dropped.
#[derive(Debug)]
pub struct Services {
    /// RabbitMQ's URL without a virtual host.
    pub amqp_url: String,
    /// The management UI and API, with credentials.
    pub management_url: String,
    /// A Postgres URL with a database that exists.
    pub postgres_url: String,
    owned: Owned,
}

/// What ends with [`Services`].
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one value in a process")]
enum Owned {
    /// The services were running before.
    Nothing,
    Docker(#[expect(dead_code, reason = "kept for its drop")] docker::Compose),
    Private(private::Instances),
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
        if docker::answers() {
            let compose = step("RabbitMQ and Postgres in Docker", docker::Compose::up()).await?;
            return Ok(Self {
                amqp_url: compose.amqp_url(),
                management_url: compose.management_url(),
                postgres_url: compose.postgres_url(),
                owned: Owned::Docker(compose),
            });
        }
        if !private::are_installed() && !rustix::process::geteuid().is_root() {
            bail!(
                "RabbitMQ and Postgres are needed. One of these three ways:\n  1. name them: {AMQP_URL}, {MANAGEMENT_URL} and \
                 {POSTGRES_URL}\n  2. start a Docker engine\n  3. install Debian's packages postgresql and rabbitmq-server, or run \
                 this as root to have them installed"
            );
        }
        Self::start_private("", "", Durability::NoFsync).await
    }

    /// Private instances of the installed programs, even when others are running: tests that kill RabbitMQ or Postgres must
    /// not share them. Postgres calls fsync, as in production. RabbitMQ gets the lines `config` in `rabbitmq.conf`, and the
    /// terms `advanced` in its application's environment.
    pub async fn private(config: &str, advanced: &str) -> Result<Self> {
        Self::start_private(config, advanced, Durability::Fsync).await
    }

    async fn start_private(config: &str, advanced: &str, durability: Durability) -> Result<Self> {
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
        let instances = step("private RabbitMQ and Postgres", Instances::start(config, advanced, durability)).await?;
        Ok(Self {
            amqp_url: instances.amqp_url(),
            management_url: instances.management_url(),
            postgres_url: instances.postgres_url(),
            owned: Owned::Private(instances),
        })
    }

    /// The private instances, if these services are private.
    pub fn instances(&mut self) -> Option<&mut Instances> {
        match &mut self.owned {
            Owned::Private(instances) => Some(instances),
            Owned::Nothing | Owned::Docker(_) => None,
        }
    }
}
