//! What every call to the simulated HubSpot has to pass: the token, the limits, the scopes.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use domain::ObjectType;

use super::errors;
use crate::{lock::lock, state::Simulator};

/// The simulator, as an endpoint gets it.
pub(super) type Shared = State<Arc<Simulator>>;

/// Checks the token, the limits and the scope, and returns the headers of the answer, or the error answer.
fn admit(simulator: &Simulator, headers: &HeaderMap, scope: &str) -> Result<HeaderMap, Box<Response>> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if given != Some(simulator.config.token.as_str()) {
        return Err(Box::new(errors::invalid_authentication()));
    }
    let headers = lock(&simulator.hubspot_limits).take_call()?;
    if !simulator.config.scopes.iter().any(|granted| granted == scope) {
        return Err(Box::new(errors::missing_scope(scope)));
    }
    Ok(headers)
}

/// Answers one call: checks it, then does `work`. The answer, also an error of `work`, carries the headers of the
/// limits.
pub(super) fn answer(
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

/// Answers one call of an association endpoint: like [`answer`], but with the lower limit of these endpoints.
pub(super) fn answer_association(
    simulator: &Simulator,
    headers: &HeaderMap,
    scope: &str,
    work: impl FnOnce() -> Result<Response, Response>,
) -> Response {
    answer(simulator, headers, scope, || {
        if !lock(&simulator.hubspot_limits).take_association_call() {
            return Err(errors::rate_limited("TEN_SECONDLY_ROLLING"));
        }
        work()
    })
}

/// Answers one search: like [`answer`], but with the limit of searches and without headers about the limits.
pub(super) fn answer_search(
    simulator: &Simulator,
    headers: &HeaderMap,
    scope: &str,
    work: impl FnOnce() -> Result<Response, Response>,
) -> Response {
    if let Err(refused) = admit(simulator, headers, scope) {
        return *refused;
    }
    if !lock(&simulator.hubspot_limits).take_search() {
        return errors::rate_limited("SECONDLY");
    }
    work().unwrap_or_else(|error| error)
}

/// The scope that reading or writing records of a type needs. Engagements need the scopes of contacts.
pub(super) fn scope(object_type: &ObjectType, access: &str) -> String {
    match object_type {
        ObjectType::Deal => format!("crm.objects.deals.{access}"),
        ObjectType::Company => format!("crm.objects.companies.{access}"),
        ObjectType::Ticket => "tickets".to_owned(),
        custom if custom.is_custom() => format!("crm.objects.custom.{access}"),
        _ => format!("crm.objects.contacts.{access}"),
    }
}
