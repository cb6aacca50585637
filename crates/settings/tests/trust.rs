//! Secrets are read as they are, go to no wrong host in plain text, and are in no error.
#![allow(clippy::expect_used, reason = "these are tests")]

use std::path::PathBuf;

use secrecy::ExposeSecret;
use settings::{ConfigScope, InvalidSettings, Settings};

/// What every service needs, over TLS.
const COMPLETE: [(&str, &str); 8] = [
    ("BROKER__URL", "amqps://leadline:geheim@rabbitmq.example.com:5671/leadline"),
    ("LEDGER__URL", "postgres://leadline:geheim@postgres.example.com/leadline"),
    ("HUBSPOT__TOKEN", "pat-na1-geheim"),
    ("HUBSPOT__CLIENT_SECRET", "geheim"),
    ("HUBSPOT__APP_ID", "1"),
    ("HUBSPOT__PORTAL_ID", "2"),
    ("OPENAI__API_KEY", "sk-geheim"),
    ("RECEIVER__PUBLIC_URL", "https://hooks.example.com/webhooks/hubspot"),
];

fn load(file: Option<&PathBuf>, environment: &[(&str, &str)]) -> Result<Settings, InvalidSettings> {
    let all = COMPLETE.iter().chain(environment);
    let environment = all.map(|(name, value)| (format!("LEADLINE__{name}"), (*value).to_owned()));
    Settings::load_from(file.map(PathBuf::as_path), environment.collect(), ConfigScope::Everything)
}

/// The text of the error that loading must end in.
fn refused(environment: &[(&str, &str)]) -> String {
    let error = load(None, environment).expect_err("refused").to_string();
    assert!(!error.contains("geheim"), "{error}");
    error
}

/// A settings file that is removed at the end.
struct File(PathBuf);

impl File {
    fn with(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("leadline-trust-{name}-{}.toml", std::process::id()));
        std::fs::write(&path, text).expect("written");
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn everything_over_tls_needs_no_permission() {
    load(None, &[]).expect("valid");
}

#[test]
fn every_url_of_a_cluster_is_looked_at() {
    let first = COMPLETE[0].1;
    let urls = |second: &str| refused(&[("BROKER__URL", &format!("{first}, {second}"))]);
    let says = urls("amqp://leadline:geheim@two.example.com/leadline");
    assert!(says.contains("broker.url: amqp:// to another machine"), "{says}");
    let says = urls("amqps://leadline:geheim@two.example.com/other");
    assert!(says.contains("broker.url: its URLs lead to different virtual hosts"), "{says}");
    let says = refused(&[("BROKER__URL", &format!("{first},two.example.com:5671/leadline"))]);
    assert!(says.contains("broker.url: after a comma another URL begins with amqp://"), "{says}");
    let three = format!("{first},{first},{first}");
    let settings = load(None, &[("BROKER__URL", &three)]).expect("valid");
    assert_eq!(settings.broker.urls().len(), 3);
}

#[test]
fn plain_text_to_another_host_is_refused_unless_it_is_allowed_there() {
    for (setting, value, permission) in [
        ("BROKER__URL", "amqp://leadline:geheim@rabbitmq:5672/%2f", "BROKER__ALLOW_PLAINTEXT"),
        ("LEDGER__URL", "postgres://leadline:geheim@postgres/leadline?sslmode=require", "LEDGER__ALLOW_PLAINTEXT"),
        ("LEDGER__URL", "postgres://leadline:geheim@postgres/leadline?sslmode=prefer", "LEDGER__ALLOW_PLAINTEXT"),
        ("LEDGER__URL", "postgres://leadline:geheim@postgres/leadline?ssl-mode=disable", "LEDGER__ALLOW_PLAINTEXT"),
        ("HUBSPOT__BASE_URL", "http://api.hubapi.com", "HUBSPOT__ALLOW_PLAINTEXT"),
        ("OPENAI__BASE_URL", "http://gateway.example.com/v1", "OPENAI__ALLOW_PLAINTEXT"),
        ("NOTIFY__SALES", "http://hooks.example.com/services/geheim", "WRITER__ALLOW_PLAINTEXT"),
        ("TELEMETRY__OTLP_ENDPOINT", "http://collector:4318", "TELEMETRY__ALLOW_PLAINTEXT"),
    ] {
        let error = refused(&[(setting, value)]);
        let key = setting.to_lowercase().replace("__", ".");
        let allow = permission.to_lowercase().replace("__", ".");
        assert!(error.contains(&format!("{key}: ")) && error.contains(&format!("{allow} = true")), "{error}");
        load(None, &[(setting, value), (permission, "true")]).expect("allowed");
        let others = ["BROKER", "LEDGER", "HUBSPOT", "OPENAI", "WRITER", "TELEMETRY"];
        let others = others.map(|section| format!("{section}__ALLOW_PLAINTEXT"));
        let mut environment = vec![(setting, value)];
        environment.extend(others.iter().filter(|other| *other != permission).map(|other| (other.as_str(), "true")));
        assert!(load(None, &environment).is_err(), "{setting} needs its own permission");
    }
}

#[test]
fn plain_text_to_this_machine_is_allowed_and_a_host_that_only_looks_like_it_is_not() {
    for (setting, value) in [
        ("BROKER__URL", "amqp://guest:guest@127.0.0.1:5672/%2f"),
        ("BROKER__URL", "amqp://guest:guest@localhost/%2f"),
        ("LEDGER__URL", "postgres://leadline@127.8.9.1:5432/leadline"),
        ("LEDGER__URL", "postgres://leadline@[::1]/leadline?sslmode=disable"),
        ("LEDGER__URL", "postgres://leadline@db/leadline?host=/var/run/postgresql"),
        ("LEDGER__URL", "postgres://leadline@%2Fvar%2Frun%2Fpostgresql/leadline"),
        ("HUBSPOT__BASE_URL", "http://localhost:8090"),
        ("OPENAI__BASE_URL", "http://[::1]:8090/v1"),
    ] {
        load(None, &[(setting, value)]).unwrap_or_else(|error| panic!("{value}: {error}"));
    }
    for (setting, value) in [
        ("BROKER__URL", "amqp://127.0.0.1:geheim@rabbitmq.example.com/%2f"),
        ("HUBSPOT__BASE_URL", "http://localhost.example.com"),
        ("HUBSPOT__BASE_URL", "http://localhost@example.com"),
        ("HUBSPOT__BASE_URL", "http://0.0.0.0:8090"),
        ("LEDGER__URL", "postgres://leadline@localhost/leadline?host=db.example.com&sslmode=disable"),
        ("LEDGER__URL", "postgres://leadline@localhost/leadline?hostaddr=10.0.0.1&sslmode=allow"),
        ("LEDGER__URL", "postgres:///leadline?sslmode=disable"),
    ] {
        refused(&[(setting, value)]);
    }
}

#[test]
fn postgres_elsewhere_is_verified_unless_the_url_says_otherwise() {
    let url = |url: &str| {
        let settings = load(None, &[("LEDGER__URL", url), ("LEDGER__ALLOW_PLAINTEXT", "true")]).expect("valid");
        settings.ledger.url().expose_secret().to_owned()
    };
    assert_eq!(url("postgres://u:p@db.example.com/l"), "postgres://u:p@db.example.com/l?sslmode=verify-full");
    assert_eq!(url("postgres://u:p@db/l?dbname=l"), "postgres://u:p@db/l?dbname=l&sslmode=verify-full");
    for as_it_is in [
        "postgres://u:p@127.0.0.1/l",
        "postgres://u:p@db/l?sslmode=require",
        "postgres://u:p@db/l?sslrootcert=ca.pem&sslmode=verify-ca",
    ] {
        assert_eq!(url(as_it_is), as_it_is);
    }
}

#[test]
fn an_error_in_the_file_is_told_by_line_and_column_and_never_by_its_text() {
    for (name, text, place) in [
        ("quote", "[hubspot]\ntoken = \"pat-na1-geheim\n", "line 2, column 24"),
        ("equals", "[broker]\n\n  pat-na1-geheim\n", "line 3, column 17"),
        ("twice", "[openai]\napi_key = \"sk-geheim\"\napi_key = \"sk-geheim\"\n", "line 3, column 1"),
        ("zeros", "[hubspot]\nclient_secret = 00geheim\n", "line 2, column 17"),
    ] {
        let file = File::with(name, text);
        let error = load(Some(&file.0), &[]).expect_err("no TOML").to_string();
        assert!(error.contains(&format!("not valid TOML at {place}")), "{name}: {error}");
        assert!(error.contains(file.0.to_str().expect("UTF-8")) && !error.contains("geheim"), "{error}");
    }
}

#[test]
fn a_secret_that_looks_like_a_number_or_a_boolean_stays_text() {
    for secret in ["00012345", "1e400", "TRUE", "false", "0x10", "-0", "1_000", "12345678901234567890123", ".5", "on"] {
        let secrets = [
            ("HUBSPOT__TOKEN", secret),
            ("HUBSPOT__CLIENT_SECRET", secret),
            ("OPENAI__API_KEY", secret),
            ("OPENAI__PROJECT", secret),
        ];
        let settings = load(None, &secrets).expect("valid");
        for read in [&settings.hubspot.token, &settings.hubspot.client_secret, &settings.openai.api_key] {
            assert_eq!(read.as_ref().expect("given").expose_secret(), secret);
        }
        assert_eq!(settings.openai.project.as_deref(), Some(secret));
    }
    // What is a number or a boolean is still read as one.
    let settings = load(
        None,
        &[
            ("WRITER__BATCH_MAX", "7"),
            ("RATE_LIMIT__HUBSPOT_SHARE", "0.5"),
            ("OPENAI__HTTP2_PRIOR_KNOWLEDGE", "false"),
            ("BROKER__RETRY_DELAYS_SECONDS", "1,2,30"),
            ("HUBSPOT__SIGNATURE_VERSIONS", "v3,v1"),
            ("INFERENCE__PROTECTED_PROPERTIES", "email,amount"),
        ],
    )
    .expect("valid");
    assert_eq!((settings.writer.batch_max, settings.broker.retry_delays_seconds), (7, vec![1, 2, 30]));
    assert_eq!(settings.inference.protected_properties, ["email", "amount"]);
}

/// TOML has numbers of its own: the secret `1e3` would become `1000`.
#[test]
fn a_secret_in_the_file_that_is_no_text_is_refused_without_being_quoted() {
    for value in ["12345", "1e3", "true", "[\"geheim\"]"] {
        let file = File::with("number", &format!("[openai]\nproject = \"p\"\n[notify]\nsales = {value}\n"));
        let error = load(Some(&file.0), &[]).expect_err("no text").to_string();
        assert!(error.contains("notify.sales: is no text: put it in quotes"), "{error}");
        assert!(!error.contains(value), "{error}");
    }
}

#[test]
fn what_is_no_certificate_and_a_certificate_without_its_key_are_named() {
    let certificate = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n";
    for (name, key) in [
        ("BROKER__TLS_CA", "broker.tls_ca"),
        ("HUBSPOT__TLS_CA", "hubspot.tls_ca"),
        ("OPENAI__TLS_CA", "openai.tls_ca"),
    ] {
        let message = refused(&[(name, "/etc/leadline/ca.pem")]);
        assert!(message.contains(&format!("{key}: holds no certificate in PEM")), "{message}");
        load(None, &[(name, certificate)]).expect("valid");
    }
    for section in ["broker", "receiver"] {
        let [of_certificate, of_key] =
            ["TLS_CERTIFICATE", "TLS_KEY"].map(|name| format!("{}__{name}", section.to_uppercase()));
        let message = refused(&[(&of_certificate, certificate)]);
        assert!(message.contains(&format!("{section}.tls_key: is not set, and tls_certificate is")), "{message}");
        let message = refused(&[(&of_certificate, certificate), (&of_key, "geheim")]);
        assert!(message.contains(&format!("{section}.tls_key: holds no private key in PEM")), "{message}");
        let key = "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\n";
        let message = refused(&[(&of_certificate, certificate), (&of_key, &key.replace('\n', " "))]);
        assert!(message.contains(&format!("{section}.tls_key: holds no private key in PEM")), "{message}");
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        let message = refused(&[(&of_certificate, certificate), (&of_key, &encrypted)]);
        assert!(message.contains(&format!("{section}.tls_key: is encrypted")), "{message}");
        load(None, &[(&of_certificate, certificate), (&of_key, key)]).expect("valid");
    }
}

#[test]
fn a_client_secret_that_is_nothing_but_white_space_is_refused() {
    for (name, key) in [
        ("HUBSPOT__CLIENT_SECRET", "hubspot.client_secret"),
        ("HUBSPOT__CLIENT_SECRET_PREVIOUS", "hubspot.client_secret_previous"),
    ] {
        for blank in [" ", "\t ", "\u{a0}"] {
            let message = refused(&[(name, blank)]);
            assert!(message.contains(&format!("{key}: is nothing but white space")), "{message}");
        }
    }
}
