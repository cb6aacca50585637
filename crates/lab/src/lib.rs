//! A fleet of services and what tests do to it: the simulator's client, signed webhooks, a proxy that cuts
//! connections, and cases with what must become of each. `leadline-lab` runs the demo, chaos and the benchmark on it.

pub mod cases;
pub mod fleet;
pub mod simulator_client;
pub mod span_collector;
pub mod webhook_client;

pub use fleet::{Fleet, FleetPlan, Leadline, Members};
pub use simulator_client::SimulatorClient;
pub use span_collector::{CollectedSpan, SpanCollector};
pub use testbed::proxy::{self, Proxy};
pub use webhook_client::WebhookClient;
