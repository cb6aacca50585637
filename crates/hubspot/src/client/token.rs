//! The description of the access token.

use domain::{AppId, PortalId};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::{
    error::HubSpotError,
    operation::Operation,
    transport::{Call, HubSpotClient},
};

/// The portal and the app of an access token, and its scopes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenInfo {
    /// The portal it gives access to.
    pub hub_id: PortalId,
    /// The app it belongs to. HubSpot names this app as the source of changes that are made with the token.
    pub app_id: AppId,
    /// Its scopes.
    pub scopes: Vec<String>,
}

impl HubSpotClient {
    /// Asks HubSpot about the token in use. The endpoint knows only the tokens of private apps.
    ///
    /// # Errors
    /// The token is invalid (401), or the call fails.
    pub async fn token_info(&self) -> Result<TokenInfo, HubSpotError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            token_key: &'a str,
        }
        let token = self.token();
        let body = Body { token_key: token.expose_secret() };
        let path = "/oauth/v2/private-apps/get/access-token-info";
        self.call(&Call::post(Operation::DescribeToken, path, &body)).await
    }
}
