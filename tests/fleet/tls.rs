//! A fleet whose every connection speaks TLS, with an authority of its own; and what is said where a certificate is wrong.

use std::{net::SocketAddr, path::Path};

use lab::{Fleet, FleetPlan, fleet::variable};
use serde_json::json;
use testbed::{Authority, Certificate, Role, Services, TestNamespace, TlsDoor, free_port};

use fixtures::{BUYER, ask, contact, ended_as, note_event, quick, signed};

/// RabbitMQ, Postgres, HubSpot and OpenAI over TLS.
struct Encrypted {
    authority: Authority,
    client: Certificate,
    /// Where HubSpot and OpenAI are.
    apis: TlsDoor,
    simulator: u16,
    amqps: u16,
    namespace: TestNamespace,
    _services: Services,
}

fn path(file: &Path) -> &str {
    file.to_str().expect("UTF-8")
}

impl Encrypted {
    async fn start() -> Self {
        http_client::install_tls_provider();
        let authority = Authority::new().expect("an authority");
        let server = authority.issue("server", &["DNS:localhost"]).expect("a certificate");
        let client = authority.issue("client", &["DNS:client.example.com"]).expect("a certificate");
        let (services, amqps) = Services::private_with_tls(&authority, &server).await.expect("services");
        let simulator = free_port().expect("a port");
        let apis = TlsDoor::to(SocketAddr::from(([127, 0, 0, 1], simulator)), &server).await.expect("a door");
        let namespace = TestNamespace::new(&services).await.expect("a namespace");
        Self { authority, client, apis, simulator, amqps, namespace, _services: services }
    }

    /// The broker's URL over TLS, at this host.
    fn broker_url(&self, host: &str) -> String {
        let tls = self.namespace.amqp_url.replacen("amqp://", "amqps://", 1);
        tls.replace(self.namespace.amqp_address(), &format!("{host}:{}", self.amqps))
    }

    /// The ledger's URL, at this host, whose certificate has to be signed by this authority.
    fn ledger_url(&self, host: &str, authority: &Authority) -> String {
        let url = self.namespace.postgres_url.replacen("127.0.0.1", host, 1);
        format!("{url}?sslmode=verify-full&sslrootcert={}", path(&authority.file()))
    }

    fn plan(&self) -> FleetPlan {
        let (authority, api) = (self.authority.file(), format!("https://localhost:{}", self.apis.port));
        let plan = FleetPlan { simulator_port: Some(self.simulator), with_echoes: false, ..quick() };
        let plan = FleetPlan { broker_url: Some(self.broker_url("localhost")), ..plan };
        plan.with("broker.tls_ca_file", path(&authority))
            .with("broker.tls_certificate_file", path(&self.client.chain))
            .with("broker.tls_key_file", path(&self.client.key))
            .with("ledger.url", &self.ledger_url("localhost", &self.authority))
            .with("hubspot.base_url", &api)
            .with("hubspot.tls_ca_file", path(&authority))
            .with("openai.base_url", &format!("{api}/v1"))
            .with("openai.tls_ca_file", path(&authority))
    }
}

/// What `leadline check` says with these settings beside those of the fleet.
async fn check(fleet: &Fleet, settings: &[(&str, &str)]) -> (bool, String) {
    let environment = fleet.environment_of(Role::Operator).expect("settings");
    let more = settings.iter().map(|(key, value)| (variable(key), (*value).to_owned()));
    let output = tokio::process::Command::new(testbed::workspace::binaries().expect("built").join("leadline"))
        .args(["check", "--no-questions"])
        .envs(environment.into_iter().chain(more))
        .current_dir(testbed::workspace::root().expect("a workspace"))
        .output();
    let output = output.await.expect("runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}

fn holds_all(said: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(said.contains(part), "{part} in\n{said}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_with_an_authority_of_its_own_writes_over_tls_and_says_which_certificate_is_wrong() {
    let encrypted = Encrypted::start().await;
    let public = encrypted.authority.issue("public", &["DNS:localhost"]).expect("a certificate");
    let plan = encrypted
        .plan()
        .with("receiver.tls_certificate_file", path(&public.chain))
        .with("receiver.tls_key_file", path(&public.key));
    let fleet = Fleet::start(encrypted.namespace.clone(), &plan).await.expect("a fleet");
    contact(&fleet, 1, &[BUYER]).await;

    let url = fleet.receivers()[0].replace("http://127.0.0.1", "https://localhost");
    let body = json!([note_event(1, 1)]).to_string().into_bytes();
    let pem = std::fs::read(encrypted.authority.file()).expect("there");
    let trusting = reqwest::Certificate::from_pem(&pem).expect("a certificate");
    let trusting = reqwest::Client::builder().tls_certs_merge([trusting]).build().expect("a client");
    let secret = simulator::Config::default().client_secret;
    let webhook = |url: &str| signed(url, &secret, body.clone()).build().expect("a request");
    let answer = trusting.execute(webhook(&url)).await.expect("an answer");
    assert_eq!(answer.status(), 200, "{}", fleet.logs());
    ended_as(&fleet, &note_event(1, 1), "written", None).await;
    let encrypted_sessions = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid)
                              where ssl and usename in ('leadline_inference', 'leadline_writer')";
    assert!(ask::<i64>(&fleet, encrypted_sessions).await >= 2, "the workers' sessions");

    // Who does not trust the authority does not send, and plain text is no TLS.
    assert!(reqwest::Client::new().execute(webhook(&url)).await.is_err());
    assert!(trusting.execute(webhook(&fleet.receivers()[0])).await.is_err());

    let (is_well, said) = check(&fleet, &[]).await;
    assert!(is_well, "{said}");

    let stranger = Authority::new().expect("an authority");
    let (file, ledger) = (stranger.file(), encrypted.ledger_url("localhost", &stranger));
    let ca = path(&file);
    let wrong =
        [("broker.tls_ca_file", ca), ("hubspot.tls_ca_file", ca), ("openai.tls_ca_file", ca), ("ledger.url", &ledger)];
    let (is_well, said) = check(&fleet, &wrong).await;
    assert!(!is_well, "{said}");
    let unknown = "invalid peer certificate: UnknownIssuer";
    for line in ["RabbitMQ's certificate is not accepted", "broker.tls_ca"] {
        holds_all(&said, &[line]);
    }
    assert!(said.matches(unknown).count() >= 4, "{said}");

    let (broker, ledger) = (encrypted.broker_url("127.0.0.1"), encrypted.ledger_url("127.0.0.1", &encrypted.authority));
    let api = format!("https://127.0.0.1:{}", encrypted.apis.port);
    let openai = format!("{api}/v1");
    let other_name = [
        ("broker.url", &*broker),
        ("ledger.url", &*ledger),
        ("hubspot.base_url", &*api),
        ("openai.base_url", &*openai),
    ];
    let (is_well, said) = check(&fleet, &other_name).await;
    assert!(!is_well, "{said}");
    assert!(said.matches("certificate not valid for name \"127.0.0.1\"").count() >= 4, "{said}");

    let unsigned = stranger.issue("client", &["DNS:client.example.com"]).expect("a certificate");
    let (chain, key) = (path(&unsigned.chain), path(&unsigned.key));
    let (is_well, said) = check(&fleet, &[("broker.tls_certificate_file", chain), ("broker.tls_key_file", key)]).await;
    assert!(!is_well, "{said}");
    holds_all(&said, &["RabbitMQ ends the TLS handshake", "broker.tls_certificate"]);
}
