//! Real RabbitMQ and real Postgres, in this order: the URLs in the environment, a Docker engine that answers, private
//! instances of the installed programs (installing Debian's packages first, as root).

mod docker;
mod install;
mod namespace;
mod private;

use anyhow::{Result, bail};

use crate::step;
pub use namespace::{QueueDepth, TestNamespace};
pub use private::Instances;

/// Variables that name services which are already there.
pub const AMQP_URL: &str = "LEADLINE_DEV_AMQP_URL";
/// RabbitMQ's management API, `http://user:password@host:port`.
pub const MANAGEMENT_URL: &str = "LEADLINE_DEV_MANAGEMENT_URL";
/// A Postgres URL whose user may create databases.
pub const POSTGRES_URL: &str = "LEADLINE_DEV_POSTGRES_URL";

/// RabbitMQ and Postgres. What was started for this ends when it is dropped.
#[derive(Debug)]
pub struct Services {
    /// Without a virtual host.
    pub amqp_url: String,
    /// The management UI and API.
    pub management_url: String,
    /// With a database that exists.
    pub postgres_url: String,
    keeper: Owner,
}

/// What the services are built with beside Rust and a C compiler: jemalloc's sources come with a makefile.
pub async fn build_tools() -> Result<()> {
    if install::is_there("make") {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!("`make` is needed to build jemalloc: install Debian's package make, or run this as root, and it does so");
    }
    step("installing Debian's package make", install::packages(&["make"])).await
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one")]
enum Owner {
    Nobody,
    Docker(#[expect(dead_code, reason = "kept for its drop")] docker::Compose),
    Private(private::Instances),
}

impl Services {
    /// The services that the environment names, if it names them.
    pub fn from_environment() -> Option<Self> {
        let variable = |name| std::env::var(name).ok();
        Some(Self {
            amqp_url: variable(AMQP_URL)?,
            management_url: variable(MANAGEMENT_URL)?,
            postgres_url: variable(POSTGRES_URL)?,
            keeper: Owner::Nobody,
        })
    }

    /// Finds or starts them.
    pub async fn up() -> Result<Self> {
        if let Some(services) = Self::from_environment() {
            eprintln!("  ✓ RabbitMQ and Postgres as named in the environment");
            return Ok(services);
        }
        if docker::answers() {
            let compose = step("RabbitMQ and Postgres in Docker", docker::Compose::up()).await?;
            return Ok(Self {
                amqp_url: compose.amqp_url(),
                management_url: compose.management_url(),
                postgres_url: compose.postgres_url(),
                keeper: Owner::Docker(compose),
            });
        }
        if !private::are_installed() && !rustix::process::geteuid().is_root() {
            bail!(
                "RabbitMQ and Postgres are needed. One of these three ways:\n  1. name them: {AMQP_URL}, {MANAGEMENT_URL} and \
                 {POSTGRES_URL}\n  2. start a Docker engine\n  3. install Debian's packages postgresql and rabbitmq-server, or run \
                 this as root, and it does so"
            );
        }
        Self::private("", "").await
    }

    /// Private instances of the installed programs, whatever else is there: what kills them must be alone with them.
    /// RabbitMQ gets `more` lines of `rabbitmq.conf` and `advanced` terms of its application's environment.
    pub async fn private(more: &str, advanced: &str) -> Result<Self> {
        if !private::are_installed() {
            if !rustix::process::geteuid().is_root() {
                bail!(
                    "what kills RabbitMQ and Postgres needs instances of its own: install Debian's packages postgresql and \
                     rabbitmq-server, or run this as root, and it does so"
                );
            }
            let install = install::packages(&["postgresql", "rabbitmq-server"]);
            step("installing Debian's packages postgresql and rabbitmq-server", install).await?;
        }
        let instances = step("private RabbitMQ and Postgres", Instances::start(more, advanced)).await?;
        Ok(Self {
            amqp_url: instances.amqp_url(),
            management_url: instances.management_url(),
            postgres_url: instances.postgres_url(),
            keeper: Owner::Private(instances),
        })
    }

    /// The private instances, if that is what these are.
    pub fn instances(&mut self) -> Option<&mut Instances> {
        match &mut self.keeper {
            Owner::Private(instances) => Some(instances),
            Owner::Nobody | Owner::Docker(_) => None,
        }
    }
}
