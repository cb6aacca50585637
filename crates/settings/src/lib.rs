//! Settings: defaults in the code, then a TOML file, then the environment (`LEADLINE__SECTION__KEY`, or
//! `LEADLINE__SECTION__KEY_FILE` for a value that a file holds, as Kubernetes mounts secrets).
//!
//! Unknown keys are rejected, everything is validated before anything starts, and all errors are reported together.

mod broker_urls;
mod check;
mod error;
mod fingerprint;
mod pem;
mod reload;
mod sections;
mod source;
mod tables;
mod transport;
mod urls;
mod validate;

use std::path::{Path, PathBuf};

pub use error::{InvalidSettings, MissingSetting, SettingsFinding};
pub use reload::{Reloadable, ValueFiles, value_again};
pub use sections::{
    AdminSection, BrokerSection, CircuitBreakerSection, DriftSection, HubSpotSection, InferenceSection, LedgerSection,
    LogFormat, ModelFacts, OpenAiSection, PoolMode, RateLimitSection, ReceiverSection, ReconcileSection,
    RetentionSection, ReviewSection, SecretsSection, SignatureVersion, SpendSection, TelemetrySection, WriterSection,
};
pub use tables::{ConfigScope, Settings};
pub use validate::MAX_LEDGER_BATCH;

/// Where programs look for the settings file if no other is named.
const DEFAULT_FILE: &str = "deploy/leadline.toml";

/// The settings file to read: `given`, else the default file if it exists. A given file that is missing is an error of
/// [`Settings::load`].
pub fn file_or_default(given: Option<PathBuf>) -> Option<PathBuf> {
    given.or_else(|| {
        let default = PathBuf::from(DEFAULT_FILE);
        default.exists().then_some(default)
    })
}

impl Settings {
    /// Reads and validates the settings for `scope` from `file` (if given) and the process's environment.
    pub fn load(file: Option<&Path>, scope: ConfigScope) -> Result<Self, InvalidSettings> {
        Self::load_from(file, source::texts(std::env::vars_os()).map_err(InvalidSettings)?, scope)
    }

    /// The same with a given environment.
    pub fn load_from(
        file: Option<&Path>,
        environment: Vec<(String, String)>,
        scope: ConfigScope,
    ) -> Result<Self, InvalidSettings> {
        let settings: Self = source::read(file, environment).map_err(InvalidSettings)?;
        let findings = validate::findings(&settings, scope);
        if findings.is_empty() { Ok(settings) } else { Err(InvalidSettings(findings)) }
    }
}

#[cfg(test)]
mod tests {
    use super::{ConfigScope, InvalidSettings, Settings};

    fn load(environment: &[(&str, &str)], scope: ConfigScope) -> Result<Settings, InvalidSettings> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::load_from(None, environment, scope)
    }

    /// The text of the error that loading must end in.
    fn rejected(environment: &[(&str, &str)], scope: ConfigScope) -> String {
        load(environment, scope).expect_err("invalid").to_string()
    }

    fn documented() -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/leadline.toml")
    }

    #[test]
    fn the_documented_file_is_valid_and_shows_the_defaults() {
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
            Settings::load_from(Some(&documented()), environment(), ConfigScope::Everything).expect("valid");
        let defaults = Settings::load_from(None, environment(), ConfigScope::Everything).expect("valid");
        assert_eq!(format!("{from_file:?}"), format!("{defaults:?}"), "the file documents the defaults");
    }

    /// Every field of every section has to be named in the documented file.
    #[test]
    fn the_documented_file_names_every_setting() {
        let text = std::fs::read_to_string(documented()).expect("readable");
        let sources = [
            include_str!("sections/connections.rs"),
            include_str!("sections/operation.rs"),
            include_str!("sections/services.rs"),
        ];
        let fields = sources
            .iter()
            .flat_map(|source| source.lines())
            .filter_map(|line| line.strip_prefix("    pub ")?.split_once(':'));
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
    fn all_errors_are_reported_together_with_their_origin_and_without_secrets() {
        let message = rejected(
            &[
                ("LEADLINE__BROKER__URL", "http://u:geheim@x"),
                ("LEADLINE__INFERENCE__CONCURRENCY", "many"),
                ("LEADLINE__WRITER__BATCH_SIZE", "1"),
                ("LEADLINE__HUBSPOT__TOKEN_FILE", "/nowhere/at/all"),
                ("LEADLINE__NOWHERE__KEY", "1"),
            ],
            ConfigScope::Inference,
        );
        for part in [
            "inference.concurrency: ",
            "LEADLINE__INFERENCE__CONCURRENCY",
            "writer.batch_size: unknown",
            "hubspot.token_file: cannot read the file that LEADLINE__HUBSPOT__TOKEN_FILE names",
            "nowhere.key: unknown",
        ] {
            assert!(message.contains(part), "{part} in\n{message}");
        }
        assert!(!message.contains("geheim"));
        let message = rejected(&[("LEADLINE__BROKER__URL", "http://u:geheim@x")], ConfigScope::Inference);
        for part in ["broker.url: ", "hubspot.token: ", "openai.api_key: ", "hubspot.app_id: "] {
            assert!(message.contains(part), "{part} in\n{message}");
        }
        assert!(!message.contains("geheim") && !message.contains("receiver.public_url"), "{message}");
    }

    #[test]
    fn a_secret_may_come_from_a_file_but_not_from_a_file_and_a_variable() {
        let file = std::env::temp_dir().join(format!("leadline-secret-{}", std::process::id()));
        std::fs::write(&file, "from-a-file\n").expect("writable");
        let path = file.to_str().expect("UTF-8");
        let settings = load(&[("LEADLINE__HUBSPOT__TOKEN_FILE", path)], ConfigScope::LedgerOnly).expect("valid");
        assert_eq!(secrecy::ExposeSecret::expose_secret(settings.hubspot.token.as_ref().expect("set")), "from-a-file");
        let both = [("LEADLINE__HUBSPOT__TOKEN_FILE", path), ("LEADLINE__HUBSPOT__TOKEN", "x")];
        assert!(rejected(&both, ConfigScope::LedgerOnly).contains("given twice"));
        std::fs::remove_file(file).expect("removable");
    }

    #[test]
    fn a_parameter_of_the_ledgers_url_that_would_be_ignored_is_refused() {
        let url = |query: &str| format!("postgres://u:geheim@127.0.0.1/leadline?{query}");
        let ignored = url("target_session_attrs=read-write&options[lock_timeout]=1000&connect_timeout=3");
        let message = rejected(&[("LEADLINE__LEDGER__URL", &ignored)], ConfigScope::LedgerOnly);
        assert!(message.contains("parameters that are not known here: connect_timeout"), "{message}");
        let left =
            "its parameter `target_session_attrs` is not known here: a server that only reads is left without it";
        assert!(message.contains(left), "{message}");
        assert!(!message.contains("geheim"), "{message}");
        let message = rejected(&[("LEADLINE__LEDGER__MIGRATE_URL", &ignored)], ConfigScope::LedgerOnly);
        assert!(message.contains("ledger.migrate_url: ") && !message.contains("geheim"), "{message}");
        let read = url("sslmode=disable&options[lock_timeout]=1000");
        load(&[("LEADLINE__LEDGER__URL", &read)], ConfigScope::LedgerOnly).expect("valid");
    }

    #[test]
    fn migrations_go_to_the_ledger_unless_they_have_a_url_of_their_own() {
        let migrates_at = |variables: &[(&str, &str)]| {
            let settings = load(variables, ConfigScope::LedgerOnly).expect("valid");
            secrecy::ExposeSecret::expose_secret(&settings.ledger.migrate_url()).to_owned()
        };
        let pooler = ("LEADLINE__LEDGER__URL", "postgres://u@pooler.example.com:6432/l");
        assert_eq!(migrates_at(&[pooler]), "postgres://u@pooler.example.com:6432/l?sslmode=verify-full");
        let server = ("LEADLINE__LEDGER__MIGRATE_URL", "postgres://u@127.0.0.1/l");
        assert_eq!(migrates_at(&[pooler, server, ("LEADLINE__LEDGER__POOL_MODE", "transaction")]), server.1);
        let message = rejected(&[("LEADLINE__LEDGER__POOL_MODE", "statement")], ConfigScope::LedgerOnly);
        assert!(message.contains("ledger.pool_mode: "), "{message}");
    }

    #[test]
    fn a_lease_shorter_than_the_calls_under_it_is_rejected() {
        let message = rejected(&[("LEADLINE__INFERENCE__LEASE_SECONDS", "30")], ConfigScope::Inference);
        assert!(message.contains("inference.lease_seconds: "), "{message}");
    }

    #[test]
    fn an_empty_variable_is_as_one_that_is_not_there() {
        let settings = load(&[("LEADLINE__TELEMETRY__OTLP_ENDPOINT", "")], ConfigScope::LedgerOnly).expect("valid");
        assert_eq!(settings.telemetry.otlp_endpoint, None);
        let message = rejected(&[("LEADLINE__HUBSPOT__TOKEN", "")], ConfigScope::Writer);
        assert!(message.contains("hubspot.token: "), "{message}");
    }

    /// At the limit a creation would be too late for its lease each time, and the retries would keep the limit used up.
    #[test]
    fn a_lease_shorter_than_the_wait_in_a_batch_at_the_limit_is_rejected() {
        let variables = [
            ("LEADLINE__HUBSPOT__TIMEOUT_SECONDS", "1"),
            ("LEADLINE__WRITER__NOTIFY_TIMEOUT_SECONDS", "1"),
            ("LEADLINE__WRITER__LEASE_SECONDS", "5"),
        ];
        let message = rejected(&variables, ConfigScope::Writer);
        assert!(message.contains("writer.lease_seconds: "), "{message}");
        let brief = [&variables[..], &[("LEADLINE__RATE_LIMIT__BATCH_LINGER_AT_LIMIT_MS", "1000")]].concat();
        let message = rejected(&brief, ConfigScope::Writer);
        assert!(!message.contains("writer.lease_seconds: "), "{message}");
    }
}
