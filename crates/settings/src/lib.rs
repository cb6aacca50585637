//! Settings: defaults in the code, then a TOML file, then the environment (`LEADLINE__SECTION__KEY`, or
//! `LEADLINE__SECTION__KEY_FILE` for a value that a file holds, as Kubernetes mounts secrets).
//!
//! Unknown keys are refused, everything is validated before anything starts, and all that is wrong is said at once.

mod sections;
mod source;
mod validate;

use std::{collections::BTreeMap, fmt, path::Path};

use secrecy::SecretString;
pub use sections::{
    Admin, Broker, CircuitBreaker, HubSpot, Inference, Ledger, LogFormat, ModelFacts, OpenAi, RateLimit, Receiver,
    Reconcile, Retention, SignatureVersion, Spend, Telemetry, Writer,
};
use serde::Deserialize;

/// Every setting. `deploy/leadline.toml` names and explains each one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// RabbitMQ.
    pub broker: Broker,
    /// Postgres.
    pub ledger: Ledger,
    /// HubSpot.
    pub hubspot: HubSpot,
    /// OpenAI.
    pub openai: OpenAi,
    /// What the fleet takes of HubSpot's and OpenAI's limits.
    pub rate_limit: RateLimit,
    /// What the models may cost.
    pub spend: Spend,
    /// The receiver.
    pub receiver: Receiver,
    /// The inference workers.
    pub inference: Inference,
    /// The writers.
    pub writer: Writer,
    /// The webhook URLs of channels that playbooks notify, by the channel's name.
    pub notify: BTreeMap<String, SecretString>,
    /// When an outage is recognised, and how its end is.
    pub circuit_breaker: CircuitBreaker,
    /// When work whose message is lost is taken up again.
    pub reconcile: Reconcile,
    /// How long what is kept.
    pub retention: Retention,
    /// The internal listener of every service.
    pub admin: Admin,
    /// Logs and traces.
    pub telemetry: Telemetry,
}

/// Who reads the settings: each needs others of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigScope {
    /// `leadline-receiver`
    Receiver,
    /// `leadline-inference`
    Inference,
    /// `leadline-writer`
    Writer,
    /// `leadline migrate`, `leadline event`: the ledger alone.
    LedgerOnly,
    /// `leadline backlog`, `leadline parked`, …: the ledger and the broker.
    LedgerAndBroker,
    /// `leadline playbook eval`: the model alone.
    OpenAiOnly,
    /// `leadline check`: everything that any service needs.
    Everything,
}

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The setting, as in the TOML file.
    pub key: String,
    /// The file or environment variable it came from, if it was given.
    pub origin: Option<String>,
    /// What is wrong. Never quotes a secret.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)?;
        match &self.origin {
            Some(origin) => write!(f, " (from {origin})"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("settings:\n{}", .0.iter().map(|finding| format!("  {finding}")).collect::<Vec<_>>().join("\n"))]
pub struct Findings(pub Vec<Finding>);

impl Settings {
    /// Reads and validates the settings for `reader` from `file` (if given) and the process's environment.
    pub fn load(file: Option<&Path>, reader: ConfigScope) -> Result<Self, Findings> {
        Self::load_from(file, std::env::vars().collect(), reader)
    }

    /// The same with a given environment.
    pub fn load_from(
        file: Option<&Path>,
        environment: Vec<(String, String)>,
        reader: ConfigScope,
    ) -> Result<Self, Findings> {
        let settings: Self = source::read(file, environment).map_err(Findings)?;
        let findings = validate::findings(&settings, reader);
        if findings.is_empty() { Ok(settings) } else { Err(Findings(findings)) }
    }
}

#[cfg(test)]
mod tests {
    use super::{ConfigScope, Settings};

    fn load(environment: &[(&str, &str)], reader: ConfigScope) -> Result<Settings, String> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::load_from(None, environment, reader).map_err(|findings| findings.to_string())
    }

    fn documented() -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/leadline.toml")
    }

    #[test]
    fn the_documented_file_is_right_and_says_the_defaults() {
        let secrets = [
            ("LEADLINE__HUBSPOT__TOKEN", "t"),
            ("LEADLINE__HUBSPOT__CLIENT_SECRET", "s"),
            ("LEADLINE__OPENAI__API_KEY", "k"),
            ("LEADLINE__HUBSPOT__APP_ID", "1"),
            ("LEADLINE__HUBSPOT__PORTAL_ID", "2"),
            ("LEADLINE__RECEIVER__PUBLIC_URL", "https://hooks.example.com/webhooks/hubspot"),
        ];
        let environment = || secrets.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let from_file =
            Settings::load_from(Some(&documented()), environment(), ConfigScope::Everything).expect("right");
        let defaults = Settings::load_from(None, environment(), ConfigScope::Everything).expect("right");
        assert_eq!(format!("{from_file:?}"), format!("{defaults:?}"), "the file documents the defaults");
    }

    /// Every field of every section has to be named in the documented file.
    #[test]
    fn the_documented_file_names_every_setting() {
        let text = std::fs::read_to_string(documented()).expect("readable");
        let source = include_str!("sections.rs");
        let fields = source.lines().filter_map(|line| line.strip_prefix("    pub ")?.split_once(':'));
        let missing: Vec<_> = fields
            .map(|(name, _)| name)
            .filter(|name| {
                !text.lines().any(|line| {
                    line.trim_start_matches(['#', ' ']).starts_with(&format!("{name} ="))
                        || line.ends_with(&format!(".{name}]]"))
                })
            })
            .collect();
        assert!(missing.is_empty(), "not documented: {missing:?}");
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once_with_its_origin_and_without_secrets() {
        let message = load(
            &[
                ("LEADLINE__BROKER__URL", "http://u:geheim@x"),
                ("LEADLINE__INFERENCE__CONCURRENCY", "many"),
                ("LEADLINE__WRITER__BATCH_SIZE", "1"),
                ("LEADLINE__HUBSPOT__TOKEN_FILE", "/nowhere/at/all"),
                ("LEADLINE__NOWHERE__KEY", "1"),
            ],
            ConfigScope::Inference,
        )
        .expect_err("wrong");
        for part in [
            "inference.concurrency: ",
            "LEADLINE__INFERENCE__CONCURRENCY",
            "writer.batch_size: unknown",
            "hubspot.token_file: cannot read /nowhere/at/all",
            "nowhere.key: unknown",
        ] {
            assert!(message.contains(part), "{part} in\n{message}");
        }
        assert!(!message.contains("geheim"));
        let message =
            load(&[("LEADLINE__BROKER__URL", "http://u:geheim@x")], ConfigScope::Inference).expect_err("wrong");
        for part in ["broker.url: ", "hubspot.token: ", "openai.api_key: ", "hubspot.app_id: "] {
            assert!(message.contains(part), "{part} in\n{message}");
        }
        assert!(!message.contains("geheim") && !message.contains("receiver.public_url"), "{message}");
    }

    #[test]
    fn a_secret_may_come_from_a_file_but_not_from_two_places() {
        let file = std::env::temp_dir().join(format!("leadline-secret-{}", std::process::id()));
        std::fs::write(&file, "from-a-file\n").expect("writable");
        let path = file.to_str().expect("UTF-8");
        let settings = load(&[("LEADLINE__HUBSPOT__TOKEN_FILE", path)], ConfigScope::LedgerOnly).expect("right");
        assert_eq!(secrecy::ExposeSecret::expose_secret(settings.hubspot.token.as_ref().expect("set")), "from-a-file");
        let both = [("LEADLINE__HUBSPOT__TOKEN_FILE", path), ("LEADLINE__HUBSPOT__TOKEN", "x")];
        assert!(load(&both, ConfigScope::LedgerOnly).expect_err("ambiguous").contains("given twice"));
        std::fs::remove_file(file).expect("removable");
    }

    #[test]
    fn a_lease_shorter_than_the_calls_under_it_is_refused() {
        let message =
            load(&[("LEADLINE__INFERENCE__LEASE_SECONDS", "30")], ConfigScope::Inference).expect_err("too short");
        assert!(message.contains("inference.lease_seconds: "), "{message}");
    }
}
