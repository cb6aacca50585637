//! The endpoint that describes an access token.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{admission::Shared, errors, wire::parse};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    token_key: String,
}

pub(super) async fn info(State(simulator): Shared, body: Bytes) -> Response {
    let config = &simulator.config;
    match parse::<Body>(&body) {
        Ok(body) if body.token_key == config.token => Json(json!({
            "userId": 1, "hubId": config.portal_id, "appId": config.app_id, "scopes": config.scopes,
        }))
        .into_response(),
        Ok(_) => errors::invalid_authentication(),
        Err(error) => error,
    }
}
