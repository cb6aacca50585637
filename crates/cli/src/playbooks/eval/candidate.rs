//! A model that is tried: the playbook, told to ask it.

use std::path::Path;

use anyhow::bail;
use bootstrap::CallHooks;
use inference::ModelClient;
use openai::models::Model;
use playbook::Playbook;
use settings::Settings;

/// A playbook with the model that it asks.
pub struct Candidate {
    pub playbook: Playbook,
    pub model: Model,
}

/// The playbook in `file` once for each of these models, or with its own. Never empty.
///
/// # Errors
/// The file is wrong, a model is named twice, or a model refuses an option of the playbook.
pub fn load(settings: &Settings, file: &Path, names: &[String]) -> anyhow::Result<Vec<Candidate>> {
    if let Some(twice) = (1..names.len()).find(|index| names[..*index].contains(&names[*index])) {
        bail!("--model {} is given twice", names[twice]);
    }
    let candidate = |name: Option<&String>| -> anyhow::Result<Candidate> {
        let mut playbook = super::super::one(file, settings)?;
        playbook.model.name = name.cloned().or(playbook.model.name);
        let model = inference::model_of(settings, &playbook);
        Ok(Candidate { playbook, model })
    };
    let candidates: Vec<_> = if names.is_empty() {
        vec![candidate(None)?]
    } else {
        names.iter().map(|name| candidate(Some(name))).collect::<Result<_, _>>()?
    };
    let refused =
        inference::check_models(settings.openai.api, candidates.iter().map(|one| (&one.playbook, &one.model)));
    if refused.is_empty() { Ok(candidates) } else { bail!("{}", refused.join("\n")) }
}

/// The client that asks, outside the shared rate limits and spend limits.
pub fn model_client(settings: &Settings) -> anyhow::Result<ModelClient> {
    let openai = bootstrap::openai_client(settings, CallHooks::default())?;
    Ok(ModelClient::unlimited(openai, inference::wiring::text_pool(settings), settings.inference.max_parts))
}
