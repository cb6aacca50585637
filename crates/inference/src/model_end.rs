//! Models that OpenAI is about to shut down.

use openai::models::ShutdownUrgency;
use service::Readiness;
use time::OffsetDateTime;

use crate::ConfiguredPlaybook;

/// Warns, on `/readyz` and in a metric, of models in use that are shut down within 90 days.
pub fn warn_of_ending_models(readiness: Readiness, playbooks: &[ConfiguredPlaybook]) -> Readiness {
    let ends: Vec<_> = playbooks
        .iter()
        .flat_map(|configured| configured.models().map(move |model| (&configured.playbook, model)))
        .filter_map(|(playbook, model)| Some((playbook.name.clone(), model.name.clone(), model.shutdown_date?)))
        .collect();
    for (_, model, day) in &ends {
        #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
        metrics::gauge!("leadline_openai_model_end_timestamp_seconds", "model" => model.clone())
            .set(day.midnight().assume_utc().unix_timestamp() as f64);
    }
    readiness.with_note(move || {
        let today = OffsetDateTime::now_utc().date();
        let near = ends.iter().filter(|(.., day)| ShutdownUrgency::on(today, *day) != ShutdownUrgency::Far);
        let near: Vec<_> =
            near.map(|(playbook, model, day)| format!("OpenAI shuts {model} down on {day} ({playbook})")).collect();
        (!near.is_empty()).then(|| near.join("; "))
    })
}
