//! The description of the portal.

use domain::PortalId;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

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
    /// The name of its time zone, for example `US/Eastern`; `None` when HubSpot does not name one.
    #[serde(default, deserialize_with = "name")]
    pub time_zone: Option<String>,
}

/// Takes anything that is not a name for none: nothing else of the answer depends on it.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value.as_str().filter(|name| !name.is_empty()).map(ToOwned::to_owned))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Account;

    #[test]
    fn a_portal_without_a_time_zone_is_a_portal() {
        let account = |more: serde_json::Value| -> Account {
            let mut body = json!({"portalId": 7, "uiDomain": "app.hubspot.com"});
            body.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
            serde_json::from_value(body).expect("an account")
        };
        assert_eq!(account(json!({"timeZone": "US/Eastern"})).time_zone.as_deref(), Some("US/Eastern"));
        for odd in [json!({}), json!({"timeZone": null}), json!({"timeZone": ""}), json!({"timeZone": 5})] {
            assert_eq!(account(odd.clone()).time_zone, None, "{odd}");
        }
    }
}
