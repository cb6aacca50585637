//! Simulated HubSpot: the CRM API in its forms v3/v4 and 2026-09.

mod associations;
pub(crate) mod errors;
pub(crate) mod limits;
mod objects;
pub(crate) mod portal;
mod properties;
mod token;
mod values;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};

use crate::{Sandbox, lock};

pub(crate) fn router() -> Router<Arc<Sandbox>> {
    let mut router = Router::new();
    for (objects, associations, properties) in [
        ("/crm/v3/objects", "/crm/v4/associations", "/crm/v3/properties"),
        ("/crm/objects/2026-09", "/crm/associations/2026-09", "/crm/properties/2026-09"),
    ] {
        router = router
            .route(&format!("{objects}/{{type}}/{{id}}"), get(objects::read).patch(objects::update))
            .route(&format!("{objects}/{{type}}/batch/read"), post(objects::batch_read))
            .route(&format!("{objects}/{{type}}/batch/update"), post(objects::batch_update))
            .route(&format!("{associations}/{{from}}/{{to}}/batch/read"), post(associations::batch_read))
            .route(&format!("{properties}/{{type}}"), get(properties::list));
    }
    let crm = router.fallback(async || errors::not_found("no such resource")).layer(middleware::from_fn(json_only));
    // The token's description needs no token: it is in the body.
    let token = Router::new().route("/oauth/v2/private-apps/get/access-token-info", post(token::info));
    crm.merge(token)
}

/// HubSpot takes JSON and nothing else.
async fn json_only(request: Request, next: Next) -> Response {
    let is_json = |headers: &HeaderMap| {
        headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
    };
    if [Method::POST, Method::PATCH, Method::PUT].contains(request.method()) && !is_json(request.headers()) {
        return errors::unsupported_media_type();
    }
    next.run(request).await
}

/// What every call passes before it is looked at: the token, the limits, the scope. Gives the headers of the answer.
fn admit(sandbox: &Sandbox, headers: &HeaderMap, scope: &str) -> Result<HeaderMap, Box<Response>> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if given != Some(sandbox.config.token.as_str()) {
        return Err(Box::new(errors::invalid_authentication()));
    }
    let headers = lock(&sandbox.hubspot_limits).take()?;
    if !sandbox.config.scopes.iter().any(|granted| granted == scope) {
        return Err(Box::new(errors::missing_scope(scope)));
    }
    Ok(headers)
}

/// Answers one call: what it has to pass first, then `work`, and the headers of the limits on whatever comes of it.
fn answer(
    sandbox: &Sandbox,
    headers: &HeaderMap,
    scope: &str,
    work: impl FnOnce() -> Result<Response, Response>,
) -> Response {
    match admit(sandbox, headers, scope) {
        Ok(limits) => (limits, work().unwrap_or_else(|error| error)).into_response(),
        Err(refused) => *refused,
    }
}

/// The scope that reading or writing a type needs. Engagements go with the contacts' scopes.
fn scope(object_type: &domain::ObjectType, access: &str) -> String {
    match object_type {
        domain::ObjectType::Deal => format!("crm.objects.deals.{access}"),
        domain::ObjectType::Company => format!("crm.objects.companies.{access}"),
        domain::ObjectType::Ticket => "tickets".to_owned(),
        _ => format!("crm.objects.contacts.{access}"),
    }
}

type Shared = State<Arc<Sandbox>>;
