//! Probes: cheap calls that detect the end of an outage.

use std::{future::Future, pin::Pin};

use retry::{Failure, OutageSign, Reason};

/// What a probe found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The dependency answers.
    Available,
    /// It answers, and rejects the credential.
    Rejected {
        /// Why.
        reason: Reason,
        /// The reason in words.
        detail: String,
    },
    /// It is away.
    Away,
}

/// Makes a cheap call to a dependency and says whether it is available again.
pub type Probe = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ProbeOutcome> + Send>> + Send + Sync>;

/// A probe that makes `call`. Any result that is not a sign of an outage means that the dependency is available, also an error.
pub fn probe<F, Fut, T, E>(call: F) -> Probe
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    E: Failure,
{
    Box::new(move || {
        let call = call();
        Box::pin(async move { call.await.err().map_or(ProbeOutcome::Available, |error| outcome(&error)) })
    })
}

fn outcome(error: &impl Failure) -> ProbeOutcome {
    match error.outage() {
        None => ProbeOutcome::Available,
        Some(outage) if outage.sign == OutageSign::CredentialRejected => {
            ProbeOutcome::Rejected { reason: error.reason(), detail: error.to_string() }
        }
        Some(_) => ProbeOutcome::Away,
    }
}

/// A probe that reads HubSpot's description of the token: a call that counts against no limit.
pub fn hubspot_probe(hubspot: &hubspot::HubSpotClient) -> Probe {
    let hubspot = hubspot.clone();
    probe(move || {
        let hubspot = hubspot.clone();
        async move { hubspot.token_info().await }
    })
}
