//! RabbitMQ: the topology in one place, a confirming publisher, a consumer runtime.
//!
//! Knows nothing of HubSpot. [`topology`] says which queues there are and what becomes of a message in each;
//! [`Publisher::publish`] returns only when the broker has the message; [`consume`] hands deliveries to a
//! [`Handler`] and carries out what it decides. Both live on a [`Connection`], which reconnects by itself.

mod connection;
mod consumer;
mod message;
mod parking;
mod publisher;
mod topology;
mod trace;

pub use connection::{BrokerSettings, Connection, ConnectionError};
pub use consumer::{ConsumeMode, ConsumerSettings, Delivery, Disposition, Handler, consume};
pub use message::Message;
pub use parking::{ParkedMessage, ParkingLot};
pub use publisher::{PublishError, Publisher};
pub use topology::{RetryDecision, RetrySchedule, RetryScheduleError, Route, Stage, Topology, TopologyError};
pub use trace::{current_trace_id, set_parent};
