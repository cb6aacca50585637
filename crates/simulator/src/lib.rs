//! The simulator: simulated HubSpot and OpenAI, as strict as their documentation says the real ones are.
//!
//! One listener serves both APIs: HubSpot's under its own paths, OpenAI's under `/v1`, and the simulator's own routes
//! under `/_simulator` ([`admin`]). All state is in memory and is lost when the process ends.
#![allow(clippy::result_large_err, reason = "an error answer is an ordinary answer, and no path here is hot")]

pub mod admin;
mod calls;
mod charges;
mod config;
mod faults;
mod hubspot;
mod inject;
mod lock;
mod messages;
mod openai;
mod options;
pub mod population;
mod recorder;
mod state;
mod webhooks;

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit, middleware};

pub use calls::Call;
pub use charges::Charge;
pub use config::Config;
pub use faults::{Fault, FaultKind, OddForm, Target};
pub use options::SimulatorOptions;
pub use state::Simulator;
pub use webhooks::WebhookDelivery;

impl Simulator {
    /// The routes of both APIs and the simulator's own.
    pub fn router(self: &Arc<Self>) -> Router {
        let apis = hubspot::router()
            .merge(openai::router())
            .layer(middleware::from_fn_with_state(self.clone(), inject::inject))
            .layer(middleware::from_fn_with_state(self.clone(), recorder::record))
            .layer(DefaultBodyLimit::max(calls::MAX_BODY_BYTES));
        apis.merge(admin::router()).with_state(self.clone())
    }
}
