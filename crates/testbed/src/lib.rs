//! What tests, demo, chaos and benchmark run on: a real RabbitMQ and a real Postgres, a proxy to them, child processes, free
//! ports, and the workspace's folders.
//!
//! A test of a crate needs one line. Each call makes something fresh, so tests may run side by side:
//!
//! ```ignore
//! let database = testbed::database().await?; // a migrated database
//! let namespace = testbed::namespace().await?; // a migrated database and an empty virtual host, both with users
//! ```
//!
//! Both use the services that the environment names, which `cargo xtask test` starts once for all test binaries.

mod backup;
mod certificates;
mod database;
mod http;
mod install;
mod interrupt;
mod management;
mod mount;
mod namespace;
mod port;
mod process;
mod progress;
pub mod proxy;
mod redirect;
mod role;
mod services;
mod urls;
pub mod workspace;

pub use certificates::{Authority, Certificate, TlsDoor};
pub use database::{TestDatabase, database};
pub use http::get;
pub use install::{build_tools, prometheus, python};
pub use interrupt::exit_code;
pub use mount::SecretMount;
pub use namespace::{QueueDepth, TestNamespace, namespace};
pub use port::free_port;
pub use process::Process;
pub use progress::step;
pub use redirect::Redirection;
pub use role::Role;
pub use services::{
    AMQP_URL, Compose, Instances, MANAGEMENT_URL, OldPrimary, On, POSTGRES_URL, PgBouncer, RabbitMq, Replication,
    Services, engine_answers,
};
