//! How the end of an outage is detected: by calls that cost nothing.

use domain::Dependency;
use maintenance::{Probe, hubspot_probe, probe};

/// Reads HubSpot's description of the token, and OpenAI's of the model.
pub fn probes(
    hubspot: &hubspot::HubSpotClient,
    openai: &openai::OpenAiClient,
    model: &str,
) -> Vec<(Dependency, Probe)> {
    let (openai, model) = (openai.clone(), model.to_owned());
    let check_model = move || {
        let (openai, model) = (openai.clone(), model.clone());
        async move { openai.check(&model).await }
    };
    vec![(Dependency::HubSpot, hubspot_probe(hubspot)), (Dependency::OpenAi, probe(check_model))]
}
