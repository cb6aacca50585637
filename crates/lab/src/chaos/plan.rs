//! The fleet that chaos runs: its size and settings, with a proxy in front of everything it talks to.

use std::path::PathBuf;

use anyhow::Result;
use lab::{FleetPlan, Proxy};
use testbed::{TestNamespace, workspace};

use super::reviewer::REVIEWED;

/// The proxies between the services and what they talk to.
pub struct Proxies {
    /// One for each node of RabbitMQ.
    pub broker: Vec<Proxy>,
    pub ledger: Proxy,
    /// HubSpot and OpenAI: the simulator.
    pub apis: Proxy,
}

impl Proxies {
    pub async fn start(namespace: &TestNamespace, simulator_port: u16) -> Result<Self> {
        let mut broker = Vec::new();
        for url in namespace.amqp_url.split(',') {
            broker.push(Proxy::to(host_of(url)).await?);
        }
        Ok(Self {
            broker,
            ledger: Proxy::to(host_of(&namespace.postgres_url)).await?,
            apis: Proxy::to(format!("127.0.0.1:{simulator_port}")).await?,
        })
    }
}

/// Two receivers, three inferences and two writers. Their settings turn what takes minutes in production into seconds.
pub fn plan(namespace: &TestNamespace, simulator_port: u16, proxies: &Proxies) -> Result<FleetPlan> {
    let through = |url: &str, proxy: &Proxy| url.replace(&host_of(url), &proxy.address.to_string());
    let nodes = namespace.amqp_url.split(',').zip(&proxies.broker);
    let broker_url = nodes.map(|(url, proxy)| through(url, proxy)).collect::<Vec<_>>().join(",");
    let apis = format!("http://{}", proxies.apis.address);
    let plan = FleetPlan {
        receivers: 2,
        inferences: 3,
        writers: 2,
        broker_url: Some(broker_url),
        simulator_port: Some(simulator_port),
        simulator_arguments: ["--calls-per-10s", "1500", "--model-latency-ms", "800"].map(ToOwned::to_owned).to_vec(),
        ..FleetPlan::default()
    };
    let settings = [
        ("inference.playbooks", playbooks(&namespace.name)?.display().to_string()),
        ("ledger.url", through(&namespace.postgres_url, &proxies.ledger)),
        ("ledger.acquire_timeout_ms", "2000".to_owned()),
        ("ledger.statement_timeout_ms", "3000".to_owned()),
        ("hubspot.base_url", apis.clone()),
        ("openai.base_url", format!("{apis}/v1")),
        ("broker.retry_delays_seconds", "1,2,5".to_owned()),
        ("broker.confirm_timeout_ms", "1500".to_owned()),
        ("broker.connect_timeout_seconds", "3".to_owned()),
        ("broker.shutdown_grace_seconds", "10".to_owned()),
        ("hubspot.timeout_seconds", "1".to_owned()),
        ("hubspot.backoff_ms", "50".to_owned()),
        ("hubspot.backoff_max_ms", "2000".to_owned()),
        ("openai.timeout_seconds", "3".to_owned()),
        ("openai.backoff_ms", "50".to_owned()),
        ("openai.backoff_max_ms", "2000".to_owned()),
        ("inference.lease_seconds", "12".to_owned()),
        // Limits that no run reaches, so that reservations are made and nothing waits for tomorrow.
        ("spend.micro_dollars_per_day", "1000000000000".to_owned()),
        ("spend.micro_dollars_per_record_and_day", "1000000000000".to_owned()),
        ("inference.concurrency", "50".to_owned()),
        ("writer.lease_seconds", "5".to_owned()),
        ("writer.notify_timeout_seconds", "1".to_owned()),
        ("rate_limit.batch_linger_at_limit_ms", "300".to_owned()),
        ("circuit_breaker.poll_ms", "250".to_owned()),
        ("circuit_breaker.probe_first_seconds", "1".to_owned()),
        ("circuit_breaker.probe_max_seconds", "4".to_owned()),
        ("circuit_breaker.half_open_seconds", "3".to_owned()),
        ("circuit_breaker.model_probe_max_seconds", "4".to_owned()),
        ("reconcile.interval_seconds", "3".to_owned()),
        ("reconcile.stuck_after_seconds", "20".to_owned()),
        ("telemetry.log_format", "human".to_owned()),
    ];
    Ok(settings.iter().fold(plan, |plan, (key, value)| plan.with(key, value)))
}

/// The folder with the shipped playbook, changed so that every good answer makes a task and a notification, not one a week:
/// only then can a fault double one. One of its properties is reviewed.
fn playbooks(name: &str) -> Result<PathBuf> {
    const FILE: &str = "lead-qualification.toml";
    let folder = workspace::root()?.join("target/fleet").join(name).join("playbooks");
    std::fs::create_dir_all(&folder)?;
    let shipped = std::fs::read_to_string(workspace::root()?.join("deploy/playbooks").join(FILE))?;
    let changed = shipped.replace("cooldown_hours = 168", "cooldown_hours = 0");
    anyhow::ensure!(changed != shipped, "{FILE} no longer has `cooldown_hours = 168`");
    let write = format!("[[writes]]\nproperty = \"{REVIEWED}\"\n");
    anyhow::ensure!(changed.contains(&write), "{FILE} no longer writes {REVIEWED}");
    let changed = changed.replace(&write, &format!("{write}mode = \"review\"\n"));
    std::fs::write(folder.join(FILE), changed)?;
    Ok(folder)
}

/// `host:port` of a URL.
fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split_once('/').map_or(rest, |(host, _)| host);
    rest.rsplit_once('@').map_or(rest, |(_, host)| host).to_owned()
}
