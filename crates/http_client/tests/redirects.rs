//! No client follows a redirect: the other server would get the token, the API key or the channel's secret URL.
#![allow(clippy::expect_used, reason = "these are tests")]

use std::time::Duration;

use testbed::Redirection;

#[tokio::test]
async fn a_redirect_is_an_answer_and_the_other_server_hears_nothing() {
    http_client::install_tls_provider();
    let client = http_client::builder(Duration::from_secs(10)).build().expect("a client");
    for status in [301, 302, 303, 307, 308] {
        let servers = Redirection::start(status).await.expect("servers");
        for request in [client.get(&servers.url), client.post(&servers.url).body("a secret")] {
            let response = request.header("api-key", "a secret").send().await.expect("an answer");
            assert_eq!(response.status().as_u16(), status);
        }
        assert_eq!((servers.asked(), servers.heard()), (2, 0), "{status}");
    }
}
