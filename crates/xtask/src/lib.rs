//! What the developer's commands and the whole-fleet tests share: real RabbitMQ and Postgres, and a fleet of real
//! processes on them.

pub mod cases;
pub mod fleet;
mod process;
mod progress;
pub mod proxy;
pub mod services;
pub mod simulator_client;
pub mod webhook_client;
pub mod workspace;

pub use fleet::{Fleet, FleetPlan};
pub use process::Process;
pub use progress::step;
pub use proxy::Proxy;
pub use services::{Services, TestNamespace};
pub use simulator_client::SimulatorClient;
pub use webhook_client::WebhookClient;
