//! Models that OpenAI is about to shut down.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use openai::{OpenAiClient, models::ShutdownUrgency};
use service::Readiness;
use time::{Date, OffsetDateTime};

use crate::ConfiguredPlaybook;

/// How often OpenAI is asked when its models end: it says so months before.
const READ_EVERY: Duration = Duration::from_secs(24 * 3_600);

/// The models in use, and when each is shut down. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct ModelEnds(Arc<Mutex<Vec<ModelInUse>>>);

struct ModelInUse {
    playbook: String,
    model: String,
    /// What OpenAI says; before it does, what the facts about models say.
    ends: Option<Date>,
}

impl ModelEnds {
    /// The models of these playbooks, with what the facts about them say.
    pub fn of(playbooks: &[ConfiguredPlaybook]) -> Self {
        let models = playbooks.iter().flat_map(|one| one.models().map(move |model| (&one.playbook, model)));
        let in_use = models.map(|(playbook, model)| ModelInUse {
            playbook: playbook.name.clone(),
            model: model.name.clone(),
            ends: model.shutdown_date,
        });
        let ends = Self(Arc::new(Mutex::new(in_use.collect())));
        ends.models().iter().for_each(set_gauge);
        ends
    }

    fn models(&self) -> MutexGuard<'_, Vec<ModelInUse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a warning to `/readyz` of models that are shut down within 90 days.
    pub fn add_note(&self, readiness: Readiness) -> Readiness {
        let ends = self.clone();
        readiness.with_note(move || ends.warning(OffsetDateTime::now_utc().date()))
    }

    fn warning(&self, today: Date) -> Option<String> {
        let describe = |ModelInUse { playbook, model, ends }: &ModelInUse| {
            let day = ends.filter(|day| ShutdownUrgency::on(today, *day) != ShutdownUrgency::Far)?;
            Some(format!("OpenAI shuts {model} down on {day} ({playbook})"))
        };
        let near: Vec<_> = self.models().iter().filter_map(describe).collect();
        (!near.is_empty()).then(|| near.join("; "))
    }

    /// Reads the descriptions of the models now and once a day.
    pub async fn watch(&self, openai: &OpenAiClient) {
        loop {
            self.read(openai).await;
            tokio::time::sleep(READ_EVERY).await;
        }
    }

    async fn read(&self, openai: &OpenAiClient) {
        let names: BTreeSet<_> = self.models().iter().map(|one| one.model.clone()).collect();
        for name in names {
            let described = match openai.describe(&name).await {
                Ok(described) => described,
                Err(error) => {
                    tracing::debug!(model = name, %error, "OpenAI does not say when a model ends");
                    continue;
                }
            };
            for one in self.models().iter_mut().filter(|one| one.model == name) {
                one.ends = described.shutdown_date.or(one.ends);
                set_gauge(one);
            }
        }
    }
}

fn set_gauge(ModelInUse { model, ends, .. }: &ModelInUse) {
    if let Some(day) = ends {
        #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
        metrics::gauge!("leadline_openai_model_end_timestamp_seconds", "model" => model.clone())
            .set(day.midnight().assume_utc().unix_timestamp() as f64);
    }
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, extract::Path, http::StatusCode, routing::get};
    use openai::models;
    use playbook::Playbook;
    use serde_json::{Value, json};
    use settings::Settings;
    use time::macros::date;

    use super::ModelEnds;
    use crate::ConfiguredPlaybook;

    const LEADS: &str = include_str!("../../../deploy/playbooks/lead-qualification.toml");

    async fn describe(Path(name): Path<String>) -> Result<Json<Value>, StatusCode> {
        match name.as_str() {
            "gpt-6-luna" => Ok(Json(json!({"id": name, "shutdown_date": "2027-03-01"}))),
            "gpt-4o" => Ok(Json(json!({"id": name, "shutdown_date": null}))),
            _ => Err(StatusCode::NOT_FOUND),
        }
    }

    #[tokio::test]
    async fn what_openai_says_of_a_models_end_comes_before_the_facts() {
        http_client::install_tls_provider();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut settings = Settings::default();
        settings.openai.base_url = format!("http://{}", listener.local_addr().expect("an address"));
        settings.openai.api_key = Some(String::from("key").into());
        let router = Router::new().route("/models/{model}", get(describe));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = bootstrap::openai_client(&settings, bootstrap::CallHooks::default()).expect("a client");

        let model = |name: &str| models::find(name).unwrap_or_else(|| models::Model::unknown(name));
        let ends = ModelEnds::of(&[ConfiguredPlaybook {
            playbook: Playbook::parse("lead-qualification.toml", LEADS, &[]).expect("a valid playbook"),
            model: model("gpt-6-luna"),
            fallbacks: ["gpt-4o", "gpt-5-mini", "my-model"].map(model).to_vec(),
            gate: None,
        }]);
        let today = date!(2026 - 12 - 02);
        let of_facts = "OpenAI shuts gpt-4o down on 2027-01-14 (lead-qualification); \
                        OpenAI shuts gpt-5-mini down on 2026-12-11 (lead-qualification)";
        assert_eq!(ends.warning(today).as_deref(), Some(of_facts));
        ends.read(&client).await;
        let described = format!("OpenAI shuts gpt-6-luna down on 2027-03-01 (lead-qualification); {of_facts}");
        assert_eq!(ends.warning(today), Some(described));
    }
}
