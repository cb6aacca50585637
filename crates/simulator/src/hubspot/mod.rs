//! Simulated HubSpot: the CRM API in its forms v3/v4 and 2026-09.

mod associations;
mod creation;
pub(crate) mod errors;
pub(crate) mod limits;
mod objects;
mod pipelines;
pub(crate) mod portal;
mod properties;
mod search;
mod token;
mod values;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};

use crate::{Simulator, lock};

pub(crate) fn router() -> Router<Arc<Simulator>> {
    let mut router = Router::new();
    for (objects, associations, properties, pipelines, owners) in [
        ("/crm/v3/objects", "/crm/v4/associations", "/crm/v3/properties", "/crm/v3/pipelines", "/crm/v3/owners"),
        (
            "/crm/objects/2026-09",
            "/crm/associations/2026-09",
            "/crm/properties/2026-09",
            "/crm/pipelines/2026-09",
            "/crm/owners/2026-09",
        ),
    ] {
        router = router
            .route(&format!("{objects}/{{type}}/{{id}}"), get(objects::read).patch(objects::update))
            .route(&format!("{objects}/{{type}}/batch/read"), post(objects::batch_read))
            .route(&format!("{objects}/{{type}}/batch/update"), post(objects::batch_update))
            .route(&format!("{objects}/{{type}}/batch/create"), post(creation::batch_create))
            .route(&format!("{associations}/{{from}}/{{to}}/batch/read"), post(associations::batch_read))
            .route(&format!("{objects}/{{type}}"), post(creation::create))
            .route(&format!("{objects}/{{type}}/search"), post(search::search))
            .route(&format!("{properties}/{{type}}"), get(properties::list).post(properties::create))
            .route(
                &format!("{properties}/{{type}}/groups"),
                get(properties::list_groups).post(properties::create_group),
            )
            .route(&format!("{pipelines}/{{type}}"), get(pipelines::list))
            .route(owners, get(pipelines::owners));
    }
    for objects in ["/crm/v4/objects", "/crm/objects/2026-09"] {
        let default = format!("{objects}/{{from}}/{{id}}/associations/default/{{to}}/{{to_id}}");
        router = router.route(&default, put(associations::put_default));
    }
    router = router.route("/crm/v4/objects/{from}/{id}/associations/{to}", get(associations::list));
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
    if [Method::POST, Method::PATCH].contains(request.method()) && !is_json(request.headers()) {
        return errors::unsupported_media_type();
    }
    next.run(request).await
}

/// What every call passes before it is looked at: the token, the limits, the scope. Gives the headers of the answer.
fn admit(simulator: &Simulator, headers: &HeaderMap, scope: &str) -> Result<HeaderMap, Box<Response>> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if given != Some(simulator.config.token.as_str()) {
        return Err(Box::new(errors::invalid_authentication()));
    }
    let headers = lock(&simulator.hubspot_limits).take()?;
    if !simulator.config.scopes.iter().any(|granted| granted == scope) {
        return Err(Box::new(errors::missing_scope(scope)));
    }
    Ok(headers)
}

/// Answers one call: what it has to pass first, then `work`, and the headers of the limits on whatever comes of it.
fn answer(
    simulator: &Simulator,
    headers: &HeaderMap,
    scope: &str,
    work: impl FnOnce() -> Result<Response, Response>,
) -> Response {
    match admit(simulator, headers, scope) {
        Ok(limits) => (limits, work().unwrap_or_else(|error| error)).into_response(),
        Err(refused) => *refused,
    }
}

/// The same for search, which has a limit of its own and says nothing about it in headers.
fn answer_search(
    simulator: &Simulator,
    headers: &HeaderMap,
    scope: &str,
    work: impl FnOnce() -> Result<Response, Response>,
) -> Response {
    if let Err(refused) = admit(simulator, headers, scope) {
        return *refused;
    }
    if !lock(&simulator.search_limit).take() {
        return errors::rate_limited("SECONDLY");
    }
    work().unwrap_or_else(|error| error)
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

type Shared = State<Arc<Simulator>>;
