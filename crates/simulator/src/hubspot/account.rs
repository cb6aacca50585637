//! The endpoint that describes the portal.

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::admission::{Shared, answer};

/// Every token may ask; HubSpot documents no scope for it beyond that of every app.
pub(super) async fn details(State(simulator): Shared, headers: HeaderMap) -> Response {
    let config = &simulator.config;
    let any_scope = config.scopes.first().cloned().unwrap_or_default();
    answer(&simulator, &headers, &any_scope, || {
        // The offset is that of winter; nothing may be computed from it.
        Ok(Json(json!({"portalId": config.portal_id, "accountType": "STANDARD", "timeZone": config.time_zone,
            "companyCurrency": "USD", "additionalCurrencies": [], "utcOffset": "-05:00",
            "utcOffsetMilliseconds": -18_000_000, "uiDomain": "app.hubspot.com", "dataHostingLocation": "na1"}))
        .into_response())
    })
}
