//! A fleet of services and what tests do to it: the simulator's client, signed webhooks, a proxy that cuts
//! connections, and cases with what must become of each. `leadline-lab` runs the demo, chaos and the benchmark on it.

pub mod cases;
pub mod fleet;
pub mod proxy;
pub mod simulator_client;
pub mod webhook_client;

pub use fleet::{Fleet, FleetPlan, Members};
pub use proxy::Proxy;
pub use simulator_client::SimulatorClient;
pub use webhook_client::WebhookClient;
