//! The HTTP client. [`HubSpotClient`] is the one place where calls are authenticated, timed, retried, measured and
//! classified; the other files add the calls of one kind of resource each.

mod account;
mod associations;
mod change_source;
mod creation;
mod error;
mod error_body;
mod limits;
mod objects;
mod operation;
mod pipelines;
mod properties;
mod property_rules;
mod search;
mod token;
mod transport;
mod version;

pub use account::Account;
pub use associations::{Associated, AssociationTarget, AssociationType, MAX_ASSOCIATION_INPUTS, engagement_type_id};
pub use change_source::{ChangeAuthor, origin};
pub use creation::NewObject;
pub use error::{HubSpotApiError, HubSpotError};
pub use error_body::{ErrorBody, RefusedProperty};
pub use objects::{CrmObject, MAX_BATCH, MAX_HISTORY_BATCH, MERGED_IDS, ObjectUpdate, PastValue};
pub use operation::Operation;
pub use pipelines::{Pipeline, PipelineStage};
pub use properties::{ModificationMetadata, NewProperty, PropertyDefinition, PropertyGroup, PropertyOption};
pub use property_rules::PropertyRule;
pub use search::SearchTime;
pub use token::TokenInfo;
pub use transport::{HubSpotClient, HubSpotSettings};
pub use version::{ApiVersion, ApiVersions, AssociationsVersion, EndOfSupport};
