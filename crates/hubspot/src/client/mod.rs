//! The HTTP client: one place that authenticates, times out, retries, measures and classifies.

mod associations;
mod creation;
mod error;
mod limits;
mod objects;
mod pipelines;
mod properties;
mod search;
mod token;
mod transport;
mod version;

pub use associations::{Associated, AssociationTarget, engagement_type_id};
pub use creation::NewObject;
pub use error::{ApiError, Error, ErrorDetail};
pub use limits::Limits;
pub use objects::{BatchError, BatchRead, BatchUpdate, Object, PastValue, Update};
pub use pipelines::{Pipeline, PipelineStage};
pub use properties::{NewProperty, PropertyDefinition, PropertyGroup, PropertyOption};
pub use search::SearchTime;
pub use token::TokenInfo;
pub use transport::{Client, Settings};
pub use version::ApiVersion;

/// HubSpot takes at most this many inputs in one batch call on objects.
pub const MAX_BATCH: usize = 100;
