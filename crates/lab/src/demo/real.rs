//! `cargo xtask demo --real`: the same fleet against the real HubSpot and OpenAI, for one contact.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use domain::EventState;
use hubspot::signature;
use lab::{Fleet, FleetPlan, fleet};
use serde_json::json;
use settings::{ConfigScope, Settings};
use testbed::{TestNamespace, step};
use time::OffsetDateTime;

/// Real models take their time.
const WITHIN: Duration = Duration::from_secs(180);

/// The settings in the environment, if they are enough for the real APIs. Asked before anything is set up.
pub fn settings() -> Result<(Settings, Vec<(String, String)>)> {
    let given: Vec<(String, String)> = std::env::vars().filter(|(name, _)| name.starts_with("LEADLINE__")).collect();
    let settings = Settings::load_from(None, given.clone(), ConfigScope::LedgerOnly)?;
    if settings.hubspot.token.is_none() || settings.openai.api_key.is_none() {
        bail!("--real needs {} and {}", fleet::variable("hubspot.token"), fleet::variable("openai.api_key"));
    }
    Ok((settings, given))
}

pub async fn run(namespace: TestNamespace, contact: i64, keep: bool) -> Result<()> {
    let (settings, given) = settings()?;
    let hubspot = bootstrap::hubspot_client(&settings, bootstrap::CallHooks::default()).map_err(anyhow::Error::msg)?;
    let info = step("asking HubSpot whose token this is", async { Ok(hubspot.token_info().await?) }).await?;
    println!("  portal {}, app {}, scopes {}", info.hub_id, info.app_id, info.scopes.join(" "));

    // The webhook is ours here, so any secret will do that both sides know.
    let secret = uuid::Uuid::now_v7().to_string();
    let mut plan = FleetPlan { with_simulator: false, settings: given, ..FleetPlan::default() };
    plan.settings.retain(|(name, _)| !name.ends_with("BROKER__URL") && !name.ends_with("LEDGER__URL"));
    let plan = plan
        .with("hubspot.client_secret", &secret)
        .with("hubspot.app_id", &info.app_id.to_string())
        .with("hubspot.portal_id", &info.hub_id.to_string());
    let fleet = step("receiver, inference and writer", Fleet::start(namespace, &plan)).await?;
    println!("{}", String::from_utf8_lossy(&fleet.leadline(&["check"]).await?.stdout));

    let now = OffsetDateTime::now_utc().unix_timestamp() * 1_000;
    let event = json!({"eventId": now, "subscriptionId": 0, "portalId": info.hub_id, "occurredAt": now,
        "subscriptionType": "contact.propertyChange", "propertyName": "notes_last_updated", "objectId": contact, "objectTypeId": "0-1"});
    let body = json!([event]).to_string();
    let url = fleet.receivers().into_iter().next().context("a receiver")?;
    let timestamp = now.to_string();
    let signature =
        signature::v3(&secret, "POST", &signature::signed_uri(fleet::PUBLIC_URL), body.as_bytes(), &timestamp);
    let response = reqwest::Client::new()
        .post(url)
        .header("X-HubSpot-Signature-v3", signature)
        .header("X-HubSpot-Request-Timestamp", &timestamp)
        .body(body)
        .send()
        .await?;
    println!("the webhook was answered {}", response.status());
    let key = super::key_of(&event)?;
    let story = step("reading, asking, writing", fleet.until_event(&key, EventState::is_final, WITHIN)).await?;
    println!("{}", String::from_utf8_lossy(&fleet.leadline(&["event", &key]).await?.stdout));
    if keep {
        super::keep(&fleet).await;
    }
    let (namespace, state) = (fleet.namespace.clone(), story.state);
    drop(fleet);
    namespace.remove().await?;
    if state != EventState::Written {
        bail!("the event ended {state}");
    }
    Ok(())
}
