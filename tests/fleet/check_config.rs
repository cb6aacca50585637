//! `--check-config` says what only a person can mend, before anything connects.

use testbed::workspace;

const COMPLETE: [(&str, &str); 7] = [
    ("LEDGER__URL", "postgres://u:geheim@127.0.0.1/leadline"),
    ("HUBSPOT__TOKEN", "pat-geheim"),
    ("HUBSPOT__CLIENT_SECRET", "geheim"),
    ("HUBSPOT__APP_ID", "1"),
    ("HUBSPOT__PORTAL_ID", "2"),
    ("OPENAI__API_KEY", "sk-geheim"),
    ("RECEIVER__PUBLIC_URL", "https://hooks.example.com/webhooks/hubspot"),
];

/// Whether the program finds the settings valid with this URL of RabbitMQ, and what it says.
async fn checked(program: &str, broker_url: &str) -> (bool, String) {
    let mut command = tokio::process::Command::new(workspace::binaries().expect("built").join(program));
    command.arg("--check-config").env_clear().env("LEADLINE__BROKER__URL", broker_url);
    command.envs(COMPLETE.map(|(name, value)| (format!("LEADLINE__{name}"), value)));
    let output = command.current_dir(std::env::temp_dir()).output().await.expect("runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains("geheim"), "{said}");
    (output.status.success(), said)
}

#[tokio::test]
async fn every_program_says_what_is_wrong_with_a_url_and_never_the_url() {
    for program in ["leadline-receiver", "leadline-inference", "leadline-writer", "leadline"] {
        let (is_valid, said) = checked(program, "amqp://u:geheim@127.0.0.1:5672/%2f?heartbeat=5").await;
        assert!(is_valid && said.contains("the settings are valid"), "{program}: {said}");
        let (is_valid, said) = checked(program, "amqp://u:geheim@127.0.0.1:5672/%2f?heartbeat=abc").await;
        let expected = "broker.url: its parameter `heartbeat` must be a number of seconds";
        assert!(!is_valid && said.contains(expected), "{program}: {said}");
    }
}
