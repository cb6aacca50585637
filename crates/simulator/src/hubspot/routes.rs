//! The paths of the simulated HubSpot.

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, Method, header},
    middleware::{self, Next},
    response::Response,
    routing::{get, post, put},
};

use super::{account, associations, creation, errors, objects, pipelines, properties, search, token};
use crate::state::Simulator;

/// The endpoints in both versions of the API.
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
            .route(&format!("{objects}/{{type}}/batch/archive"), post(objects::batch_archive))
            .route(&format!("{associations}/{{from}}/{{to}}/batch/read"), post(associations::batch_read))
            .route(&format!("{associations}/{{from}}/{{to}}/labels"), get(associations::labels))
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
    for version in ["v3", "2026-09"] {
        router = router
            .route(&format!("/account-info/{version}/details"), get(account::details))
            .route(&format!("/crm/property-validations/{version}/{{type}}"), get(properties::list_rules));
    }
    for objects in ["/crm/v4/objects", "/crm/objects/2026-09"] {
        let default = format!("{objects}/{{from}}/{{id}}/associations/default/{{to}}/{{to_id}}");
        router = router.route(&default, put(associations::put_default));
    }
    router = router.route("/crm/v4/objects/{from}/{id}/associations/{to}", get(associations::list));
    let crm = router.fallback(async || errors::not_found("no such resource")).layer(middleware::from_fn(json_only));
    // This endpoint checks no header: the token is in the body.
    let token = Router::new().route("/oauth/v2/private-apps/get/access-token-info", post(token::info));
    crm.merge(token)
}

/// Answers 415 to a body that is not declared as JSON, as HubSpot does.
async fn json_only(request: Request, next: Next) -> Response {
    let is_json = |headers: &HeaderMap| {
        headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
    };
    if [Method::POST, Method::PATCH].contains(request.method()) && !is_json(request.headers()) {
        return errors::unsupported_media_type();
    }
    next.run(request).await
}
