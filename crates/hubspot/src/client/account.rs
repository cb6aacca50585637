//! The description of the portal.

use domain::PortalId;
use serde::Deserialize;

use super::{
    error::HubSpotError,
    operation::Operation,
    transport::{Call, HubSpotClient},
};

/// What HubSpot says about a portal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// The portal.
    pub portal_id: PortalId,
    /// The name of its time zone, for example `US/Eastern`.
    pub time_zone: String,
}

impl HubSpotClient {
    /// Describes the portal of the access token.
    ///
    /// # Errors
    /// The call fails.
    pub async fn account(&self) -> Result<Account, HubSpotError> {
        let path = self.version().account_details();
        self.call(&Call::get(Operation::DescribeAccount, path, &[])).await
    }
}
