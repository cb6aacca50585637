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
pub use error::{ErrorDetail, HubSpotApiError, HubSpotError};
pub use objects::{BatchItemError, BatchRead, BatchUpdate, CrmObject, MAX_BATCH, ObjectUpdate, PastValue};
pub use pipelines::{Pipeline, PipelineStage};
pub use properties::{NewProperty, PropertyDefinition, PropertyGroup, PropertyOption};
pub use search::SearchTime;
pub use token::TokenInfo;
pub use transport::{HubSpotClient, HubSpotSettings};
pub use version::ApiVersion;
