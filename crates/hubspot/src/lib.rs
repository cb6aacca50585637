//! HubSpot for Rust: webhook signatures and payloads, CRM objects, associations, properties, limits.
//!
//! [`signature`] and [`webhook`] need no network; the HTTP [`client`] is behind the feature of that name, so that the
//! receiver, which must not call anybody, cannot.

#[cfg(feature = "client")]
pub mod client;
pub mod signature;
pub mod webhook;

#[cfg(feature = "client")]
pub use client::{HubSpotClient, HubSpotError};
