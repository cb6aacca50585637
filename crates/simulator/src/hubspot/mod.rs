//! Simulated HubSpot: the CRM API in its forms v3/v4 and 2026-09.
//!
//! [`routes`] stands on the endpoints, these on [`admission`] (token, limits, scopes) and [`wire`] (bodies and
//! answers), and those on [`portal`], which holds the records.

mod account;
mod admission;
mod associations;
mod creation;
mod definitions;
pub(crate) mod errors;
pub(crate) mod limits;
mod objects;
mod pipelines;
pub(crate) mod portal;
mod properties;
mod routes;
mod search;
mod token;
mod values;
mod wire;

pub(crate) use routes::router;
