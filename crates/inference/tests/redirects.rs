//! A server that redirects gets the token or the API key; the server that it redirects to gets neither.
#![allow(clippy::expect_used, reason = "these are tests")]

use bootstrap::CallHooks;
use retry::{Failure, RetryAction};
use settings::{ConfigScope, Settings};
use testbed::Redirection;

fn settings(url: &str) -> Settings {
    let environment = [
        ("HUBSPOT__TOKEN", "token"),
        ("HUBSPOT__APP_ID", "1"),
        ("HUBSPOT__PORTAL_ID", "2"),
        ("HUBSPOT__BASE_URL", url),
        ("OPENAI__API_KEY", "key"),
        // Sent along by every client that follows redirects, unlike `authorization`.
        ("OPENAI__AUTH_HEADER", "api-key"),
        ("OPENAI__BASE_URL", url),
    ];
    let environment = environment.map(|(name, value)| (format!("LEADLINE__{name}"), value.to_owned())).to_vec();
    http_client::install_tls_provider();
    Settings::load_from(None, environment, ConfigScope::Inference).expect("the settings are right")
}

#[tokio::test]
async fn hubspots_token_goes_nowhere_else() {
    for status in [302, 307, 308] {
        let servers = Redirection::start(status).await.expect("servers");
        let client = bootstrap::hubspot_client(&settings(&servers.url), CallHooks::default()).expect("a client");
        // The token is in the body as well.
        let error = client.token_info().await.expect_err("refused");
        assert_eq!((error.reason().as_str(), error.retry_action()), ("hubspot_refused", RetryAction::Park), "{error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        assert_eq!((servers.asked(), servers.heard()), (1, 0));
    }
}

#[tokio::test]
async fn openais_key_and_prompt_go_nowhere_else() {
    for status in [302, 307, 308] {
        let servers = Redirection::start(status).await.expect("servers");
        let client = bootstrap::openai_client(&settings(&servers.url), CallHooks::default()).expect("a client");
        let error = client.describe("gpt-4o").await.expect_err("refused");
        assert_eq!((error.reason().as_str(), error.retry_action()), ("openai_refused", RetryAction::Park), "{error}");
        assert_eq!((servers.asked(), servers.heard()), (1, 0));
    }
}
