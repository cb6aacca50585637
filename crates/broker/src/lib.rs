//! RabbitMQ: which queues there are, a publisher that waits for confirms, and a consumer.
//!
//! Knows nothing of HubSpot. [`declare_topology`] declares the queues, which every connection then checks and never changes;
//! a [`Route`] names one of them.
//! [`Publisher::publish`] returns only when the broker has stored the message. [`consume`] gives deliveries to a
//! [`Handler`] and does what its [`Disposition`] says. Both use a [`Connection`], which reconnects by itself.

mod address;
mod connection;
mod connection_error;
mod consumer;
mod delivery_worker;
mod dial;
mod handler;
#[cfg(feature = "management")]
mod management;
mod message;
mod overflow_check;
mod parking;
mod publisher;
mod retry_schedule;
mod route;
mod supervisor;
mod topology;

pub use address::{Authorities, BrokerAddress, BrokerTlsError, ClientIdentity};
pub use connection::{BrokerSettings, Connection, declare_topology};
pub use connection_error::ConnectionError;
pub use consumer::{ConsumeMode, ConsumerSettings, consume};
pub use handler::{Delivery, Disposition, Handler};
#[cfg(feature = "management")]
pub use management::{HarmfulPolicy, ManagementError, harmful_policies};
pub use message::Message;
pub use parking::{ParkedMessage, ParkingLot};
pub use publisher::{PublishError, Publisher};
pub use retry_schedule::{RetryDecision, RetrySchedule, RetryScheduleError, Tries};
pub use route::{Route, Stage};
pub use topology::{Topology, TopologyError};
