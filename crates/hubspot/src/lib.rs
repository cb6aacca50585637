//! HubSpot for Rust: webhook signatures and payloads, CRM objects, associations, properties, rate limits.
//!
//! [`signature`] and [`webhook`] need no network. The HTTP [`client`] is behind the feature `client`, so that the
//! receiver, which makes no calls, does not link it.

#[cfg(feature = "client")]
pub mod client;
pub mod signature;
pub mod webhook;

#[cfg(feature = "client")]
pub use client::{HubSpotClient, HubSpotError};
