//! Whose outages pause this service, and how their end is found out: by calls that cost nothing.

use maintenance::{Probe, probe};

/// HubSpot, in the ledger.
pub const HUBSPOT: &str = "hubspot";
/// OpenAI, in the ledger.
pub const OPENAI: &str = "openai";

/// A question about the token, and one about the model.
pub fn probes(
    hubspot: &hubspot::HubSpotClient,
    openai: &openai::OpenAiClient,
    model: &str,
) -> Vec<(&'static str, Probe)> {
    let hubspot = hubspot.clone();
    let ask_hubspot = move || {
        let hubspot = hubspot.clone();
        async move { hubspot.token_info().await }
    };
    let (openai, model) = (openai.clone(), model.to_owned());
    let ask_openai = move || {
        let (openai, model) = (openai.clone(), model.clone());
        async move { openai.check(&model).await }
    };
    vec![(HUBSPOT, probe(ask_hubspot)), (OPENAI, probe(ask_openai))]
}
