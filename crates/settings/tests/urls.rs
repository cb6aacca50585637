//! What only a person can mend ends the start with words: a URL is read to its end, and never quoted.
#![allow(clippy::expect_used, reason = "these are tests")]

use secrecy::ExposeSecret;
use settings::{ConfigScope, InvalidSettings, Settings};

fn load(environment: &[(&str, &str)]) -> Result<Settings, InvalidSettings> {
    let complete = [
        ("HUBSPOT__TOKEN", "t"),
        ("HUBSPOT__CLIENT_SECRET", "s"),
        ("HUBSPOT__APP_ID", "1"),
        ("HUBSPOT__PORTAL_ID", "2"),
        ("OPENAI__API_KEY", "k"),
        ("RECEIVER__PUBLIC_URL", "https://hooks.example.com/webhooks/hubspot"),
    ];
    let all = complete.iter().chain(environment);
    let environment = all.map(|(name, value)| (format!("LEADLINE__{name}"), (*value).to_owned()));
    Settings::load_from(None, environment.collect(), ConfigScope::Everything)
}

/// The setting is refused for this reason, which does not quote it.
fn refused(setting: &str, value: &str, why: &str) {
    let error = load(&[(setting, value)]).expect_err(value).to_string();
    let key = setting.to_lowercase().replace("__", ".");
    assert!(error.contains(&format!("{key}: {why}")), "{value}: {error}");
    assert!(!error.contains("geheim"), "{value}: {error}");
}

#[test]
fn a_url_of_rabbitmq_is_read_to_its_end() {
    let host = "amqp://u:geheim@127.0.0.1";
    for rest in [
        "",
        ":5672/%2f",
        "/leadline",
        "/%C3%A4?heartbeat=10&frame_max=16384&channel_max=100&connection_timeout=5000&auth_mechanism=PLAIN",
    ] {
        load(&[("BROKER__URL", &format!("{host}{rest}"))]).unwrap_or_else(|error| panic!("{rest}: {error}"));
    }
    for (rest, why) in [
        (":99999/%2f", "is no URL: invalid port number"),
        (":geheim/%2f", "is no URL: invalid port number"),
        (":0/%2f", "has the port 0"),
        ("/", "has an empty virtual host: end it with /%2f"),
        ("/a/b", "has a / in its virtual host: write it as %2f"),
        ("/%2", "has a % in its virtual host without two hex digits"),
        ("/%ff", "its virtual host is no text in UTF-8"),
        ("/%2f#x", "has a # in it"),
        // At an end it is no part of the URL, as around the comma before another one.
        ("/lead line", "has a space or a control character in it"),
        ("/%2f?heartbeat=abc", "its parameter `heartbeat` must be a number of seconds within 1–600"),
        // RabbitMQ would not look at the connection any more, nor would the client.
        ("/%2f?heartbeat=0", "its parameter `heartbeat` must be"),
        ("/%2f?heartbeat=70000", "its parameter `heartbeat` must be"),
        ("/%2f?frame_max=1e4", "its parameter `frame_max` must be"),
        ("/%2f?channel_max=0", "its parameter `channel_max` must be"),
        ("/%2f?auth_mechanism=magic", "its parameter `auth_mechanism` must be plain,"),
        ("/%2f?heartbeats=5&verify=verify_none", "has parameters that are not known here: heartbeats, verify"),
    ] {
        refused("BROKER__URL", &format!("{host}{rest}"), why);
    }
    for (url, why) in [
        ("http://u:geheim@127.0.0.1", "must begin with amqp:// or amqps://"),
        ("amqp:u:geheim", "must begin with amqp:// or amqps://"),
        ("amqp:///%2f", "has no host"),
        ("amqp://u:geheim@[::1]/%2f", "has an IPv6 address as its host"),
        ("amqps://u:geheim@a,b/%2f", "has several hosts"),
        ("amqp://u:ge%heim@127.0.0.1/%2f", "has a % in its password without two hex digits"),
        ("amqp://%ff:geheim@127.0.0.1/%2f", "its user is no text in UTF-8"),
        // A password that was not encoded.
        ("amqp://u:1?geheim@127.0.0.1/%2f", "has an @ after a ?"),
        ("amqp://u:1#geheim@127.0.0.1/%2f", "has a # in it"),
        ("amqp://u:1/geheim@127.0.0.1/%2f", "has a / in its virtual host"),
    ] {
        refused("BROKER__URL", url, why);
    }
}

#[test]
fn a_url_of_postgres_is_read_to_its_end() {
    for (url, why) in [
        ("mysql://u:geheim@127.0.0.1/l", "must begin with postgres:// or postgresql://"),
        ("postgres://u:geheim@127.0.0.1:70000/l", "is no URL: invalid port number"),
        ("postgres://u:geheim@a,b/l?sslmode=verify-full", "has several hosts"),
        ("postgres://u:geheim@127.0.0.1/l?sslmode=geheim", "its parameter `sslmode` must be disable,"),
        ("postgres://u:geheim@127.0.0.1/l?port=x", "its parameter `port` must be a port"),
        ("postgres://u:geheim@127.0.0.1/l?hostaddr=localhost", "its parameter `hostaddr` must be an IP address"),
        ("postgres://u:geheim@127.0.0.1/l?statement-cache-capacity=many", "its parameter `statement-cache-capacity`"),
        ("postgres://u:geheim@127.0.0.1/l?options[lock_timeout=1", "its parameter `options[lock_timeout` lacks its ]"),
        ("postgres://u:geheim@127.0.0.1/l?pool=5", "has parameters that are not known here: pool"),
        ("postgres://u:geheim@127.0.0.1/%ff", "its database is no text in UTF-8"),
        ("postgres://u:geheim%zz@127.0.0.1/l", "has a % in its password"),
        ("postgres://u:1?geheim@127.0.0.1/l", "has an @ after a ?"),
        ("postgres://u:1/geheim@127.0.0.1/l", "has a / in its database"),
    ] {
        refused("LEDGER__URL", url, why);
    }
    for url in ["postgres://127.0.0.1/l", "postgresql://u:p%40%25@127.0.0.1:5432/l?sslmode=Disable&port=5433"] {
        load(&[("LEDGER__URL", url)]).unwrap_or_else(|error| panic!("{url}: {error}"));
    }
}

#[test]
fn urls_for_http_are_read_to_their_end() {
    let all = ["HUBSPOT__BASE_URL", "OPENAI__BASE_URL", "TELEMETRY__OTLP_ENDPOINT", "BROKER__MANAGEMENT_URL"];
    for setting in all.into_iter().chain(["RECEIVER__PUBLIC_URL", "NOTIFY__SALES"]) {
        for (url, why) in [
            ("ftp://geheim", "must begin with https:// or http://"),
            ("collector:4318", "must begin with https:// or http://"),
            ("https://", "is no URL: empty host"),
            ("https://u:geheim@example.com:x", "is no URL: invalid port number"),
            ("https://exa mple.com", "has a space or a control character in it"),
            ("https://example.com/geheim\n/v1", "has a space or a control character in it"),
            ("https://example.com/v1#geheim", "has a # in it"),
        ] {
            refused(setting, url, why);
        }
    }
    for setting in all {
        refused(setting, "https://example.com/v1?key=geheim", "must have no query");
    }
    load(&[("NOTIFY__SALES", "https://hooks.example.com/services?key=k")]).expect("called as it is");
}

#[test]
fn a_key_that_no_header_can_carry_is_refused() {
    for setting in ["HUBSPOT__TOKEN", "OPENAI__API_KEY", "OPENAI__ORGANIZATION", "OPENAI__PROJECT"] {
        for value in ["geheim geheim", "geheim\ngeheim", "gehe\u{ed}m", "geheim\u{7f}", "\"geheim\u{a0}\""] {
            refused(setting, value, "has a character in it that no key has");
        }
    }
}

#[test]
fn the_same_line_breaks_are_left_out_of_a_variable_and_of_a_file_and_nothing_else() {
    let path = std::env::temp_dir().join(format!("leadline-urls-{}", std::process::id()));
    for (given, expected) in [("a\n", "a"), ("a\r\n\n", "a"), (" a b \n", " a b "), ("\ta\u{a0}", "\ta\u{a0}")] {
        std::fs::write(&path, given).expect("written");
        let secret = |settings: Settings| settings.hubspot.client_secret_previous.expect("given");
        let file = [("HUBSPOT__CLIENT_SECRET_PREVIOUS_FILE", path.to_str().expect("UTF-8"))];
        let of_file = secret(load(&file).expect("valid"));
        let of_variable = secret(load(&[("HUBSPOT__CLIENT_SECRET_PREVIOUS", given)]).expect("valid"));
        assert_eq!((of_file.expose_secret(), of_variable.expose_secret()), (expected, expected));
    }
    std::fs::write(&path, [b'a', 0xff]).expect("written");
    let error = load(&[("HUBSPOT__CLIENT_SECRET_PREVIOUS_FILE", path.to_str().expect("UTF-8"))]).expect_err("no text");
    assert!(error.to_string().contains("hubspot.client_secret_previous_file: cannot read"), "{error}");
    std::fs::remove_file(path).expect("removed");
}

/// Whoever mixes settings up may have given any of them a secret.
#[test]
fn no_value_is_quoted_whatever_setting_has_it() {
    for setting in [
        "OPENAI__API",
        "OPENAI__EFFORT",
        "OPENAI__SERVICE_TIER",
        "OPENAI__HTTP2_PRIOR_KNOWLEDGE",
        "TELEMETRY__LOG_FORMAT",
        "HUBSPOT__SIGNATURE_VERSIONS",
        "HUBSPOT__APP_ID",
        "BROKER__RETRY_DELAYS_SECONDS",
        "RATE_LIMIT__OPENAI_SHARE",
        "ADMIN__LISTEN",
        "HUBSPOT__API_VERSION",
        "HUBSPOT__PORTAL_ID_FILE",
        "OPENAI__CHAT_PATH",
        "NOWHERE__KEY",
    ] {
        let error = load(&[(setting, "sk-geheim")]).expect_err(setting).to_string();
        assert!(!error.contains("geheim"), "{setting}: {error}");
        let key = setting.to_lowercase().replace("__", ".");
        assert!(error.contains(&key), "{setting}: {error}");
    }
}
