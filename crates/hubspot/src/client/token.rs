//! What the access token is good for.

use domain::{AppId, PortalId};
use reqwest::Method;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::{error::HubSpotError, transport::HubSpotClient};

/// Whose token it is, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenInfo {
    /// The portal it opens.
    pub hub_id: PortalId,
    /// The app it belongs to: changes made with it carry this as their source.
    pub app_id: AppId,
    /// What it may do.
    pub scopes: Vec<String>,
}

impl HubSpotClient {
    /// Asks HubSpot about the token in use. Only private apps' tokens are known there.
    pub async fn token_info(&self) -> Result<TokenInfo, HubSpotError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            token_key: &'a str,
        }
        let body = Body { token_key: self.token().expose_secret() };
        let path = "/oauth/v2/private-apps/get/access-token-info";
        self.call("token.info", Method::POST, path, &[], Some(&body)).await
    }
}
