//! A fleet of real processes: simulator, receivers, inference workers, writers.

mod logs;
mod member;
mod plan;
mod wait;

use anyhow::{Context, Result};
use ledger::Ledger;
use testbed::{Process, TestNamespace, free_port, workspace};

use crate::SimulatorClient;
use logs::Logs;
pub use member::Member;
pub use plan::{FleetPlan, PUBLIC_URL, variable};

/// A running fleet. On drop the services end, then the simulator.
#[derive(Debug)]
pub struct Fleet {
    /// Every service; the simulator is none.
    pub members: Vec<Member>,
    /// The simulator.
    pub simulator: SimulatorClient,
    /// The fleet's ledger.
    pub ledger: Ledger,
    /// The virtual host and the database of the fleet.
    pub namespace: TestNamespace,
    simulator_process: Option<Process>,
    logs: Logs,
    environment: Vec<(String, String)>,
    /// A connection past any proxy, and its settings; `None` until the services have started.
    broker: Option<(broker::Connection, broker::BrokerSettings)>,
}

impl Fleet {
    /// Migrates the ledger, starts everything, and waits until it is ready.
    pub async fn start(namespace: TestNamespace, plan: &FleetPlan) -> Result<Self> {
        let simulator_port = plan.simulator_port.map_or_else(free_port, Ok)?;
        let simulator_url = format!("http://127.0.0.1:{simulator_port}");
        let receiver_ports: Vec<u16> = (0..plan.receivers).map(|_| free_port()).collect::<Result<_>>()?;
        let environment = environment(&namespace, plan, &simulator_url)?;
        let settings = settings::Settings::load_from(None, environment.clone(), settings::ConfigScope::LedgerOnly)?;
        let ledger = bootstrap::connect_ledger(&settings, "leadline-dev").map_err(anyhow::Error::msg)?;
        ledger.migrate().await?;

        let mut fleet = Self {
            members: Vec::new(),
            simulator: SimulatorClient::new(simulator_url),
            ledger,
            logs: Logs::create(&namespace.name)?,
            namespace,
            simulator_process: None,
            environment,
            broker: None,
        };
        if plan.with_simulator {
            fleet.start_simulator(simulator_port, receiver_ports.first().copied(), plan)?;
        }
        for port in receiver_ports {
            fleet.add_receiver(port)?;
        }
        for _ in 0..plan.inferences {
            fleet.add("leadline-inference")?;
        }
        for _ in 0..plan.writers {
            fleet.add("leadline-writer")?;
        }
        fleet.until_ready().await?;
        // After the services: opening declares the queues, and a service has to be the first to meet a queue that is wrong.
        let broker = broker::BrokerSettings {
            url: fleet.namespace.amqp_url.as_str().into(),
            ..bootstrap::broker_settings(&settings, "leadline-dev").map_err(anyhow::Error::msg)?
        };
        fleet.broker = Some((broker::Connection::open(broker.clone()).await?, broker));
        Ok(fleet)
    }

    fn start_simulator(&mut self, port: u16, receiver: Option<u16>, plan: &FleetPlan) -> Result<()> {
        let program = workspace::binaries()?.join("leadline-simulator");
        let process = Process::start("simulator", &program, &self.logs.next_file("simulator"), |command| {
            command.args(["--listen", &format!("127.0.0.1:{port}"), "--public-url", PUBLIC_URL]);
            if let Some(receiver) = receiver.filter(|_| plan.with_echoes) {
                command.args(["--webhook-url", &format!("http://127.0.0.1:{receiver}/webhooks/hubspot")]);
            }
            command.args(&plan.simulator_arguments);
        })?;
        self.simulator_process = Some(process);
        Ok(())
    }

    fn add_receiver(&mut self, port: u16) -> Result<()> {
        let listen = format!("127.0.0.1:{port}");
        let mut environment = self.environment.clone();
        environment.push((variable("receiver.listen"), listen.clone()));
        let public_url = format!("http://{listen}/webhooks/hubspot");
        let log = self.logs.next_file("leadline-receiver");
        self.members.push(Member::start("leadline-receiver", environment, Some(public_url), &log)?);
        Ok(())
    }

    /// Starts one more inference worker (`leadline-inference`) or writer (`leadline-writer`).
    pub fn add(&mut self, program: &str) -> Result<()> {
        let log = self.logs.next_file(program);
        self.members.push(Member::start(program, self.environment.clone(), None, &log)?);
        Ok(())
    }

    /// Starts a member whose process has ended again, with the same settings, but without its crash point.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        let log = self.logs.next_file(&self.members[index].program);
        self.members[index] = self.members[index].start_again(&log)?;
        Ok(())
    }

    /// The simulator's URL.
    pub fn simulator_url(&self) -> &str {
        self.simulator.base()
    }

    /// Settings for a connection to the broker, past any proxy.
    pub fn broker_settings(&self) -> Result<broker::BrokerSettings> {
        let (_, settings) = self.broker.as_ref().context("the fleet has not started")?;
        Ok(settings.clone())
    }

    /// The indices of the members that run `program`.
    pub fn indices(&self, program: &str) -> Vec<usize> {
        (0..self.members.len()).filter(|index| self.members[*index].program == program).collect()
    }

    /// The receivers' URLs for webhooks.
    pub fn receivers(&self) -> Vec<String> {
        self.members.iter().filter_map(|member| member.public_url.clone()).collect()
    }

    /// The last lines of every service's output, for a failing test.
    pub fn logs(&self) -> String {
        let tail = |member: &Member| format!("=== {}\n{}\n", member.process.name(), member.process.last_lines(25));
        self.members.iter().map(tail).collect()
    }

    /// The most memory that any member running `program` ever had, in KiB; 0 when none of them runs.
    pub fn peak_memory(&self, program: &str) -> u64 {
        let members = self.members.iter().filter(|member| member.program == program);
        members.filter_map(Member::peak_memory).max().unwrap_or(0)
    }

    /// Keeps the log files when the fleet ends.
    pub fn keep_logs(&mut self) {
        self.logs.keep();
    }

    /// The settings that the `leadline` command needs to operate this fleet, by the name of the environment variable.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Runs the operator's command against this fleet and returns its output.
    pub async fn leadline(&self, arguments: &[&str]) -> Result<std::process::Output> {
        let program = workspace::binaries()?.join("leadline");
        tokio::process::Command::new(program)
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .current_dir(workspace::root()?)
            .output()
            .await
            .context("cannot run leadline")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // All are asked to end at the same time; then each is waited for.
        for member in &self.members {
            member.process.signal(rustix::process::Signal::TERM);
        }
        self.members.clear();
    }
}

/// The settings of every service, by the name of the environment variable.
fn environment(namespace: &TestNamespace, plan: &FleetPlan, simulator_url: &str) -> Result<Vec<(String, String)>> {
    let mut environment = vec![
        (variable("broker.url"), plan.broker_url.clone().unwrap_or_else(|| namespace.amqp_url.clone())),
        (variable("ledger.url"), namespace.postgres_url.clone()),
        (variable("receiver.public_url"), PUBLIC_URL.to_owned()),
        (variable("inference.playbooks"), workspace::root()?.join("deploy/playbooks").display().to_string()),
    ];
    if plan.with_simulator {
        let simulated = simulator::Config::default();
        environment.extend([
            (variable("hubspot.base_url"), simulator_url.to_owned()),
            (variable("hubspot.token"), simulated.token),
            (variable("hubspot.client_secret"), simulated.client_secret),
            (variable("hubspot.app_id"), simulated.app_id.to_string()),
            (variable("hubspot.portal_id"), simulated.portal_id.to_string()),
            (variable("openai.base_url"), format!("{simulator_url}/v1")),
            (variable("openai.api_key"), simulated.api_key),
            (variable("notify.sales"), format!("{simulator_url}/_simulator/channels/sales")),
        ]);
    }
    environment.extend(plan.settings.iter().cloned());
    Ok(environment)
}
