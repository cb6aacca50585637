//! A fleet: simulator, receivers, inference workers and writers, as processes or as tasks of this process.

mod leadline;
mod logs;
mod member;
mod plan;
mod task;
mod wait;

use anyhow::{Context, Result};
use ledger::Ledger;
use testbed::{Process, Role, TestNamespace, free_port, workspace};

use crate::SimulatorClient;
pub use leadline::Leadline;
use logs::Logs;
pub use member::Member;
pub use plan::{FleetPlan, Members, PUBLIC_URL, variable};
use task::Task;
pub use wait::until_event;

/// A running fleet. On drop the services end, then the simulator.
#[derive(Debug)]
pub struct Fleet {
    /// Every service that is a process; the simulator is none.
    pub members: Vec<Member>,
    /// Every service that is a task, and the simulator if it is one.
    tasks: Vec<Task>,
    kind: Members,
    /// The simulator.
    pub simulator: SimulatorClient,
    /// The fleet's ledger.
    pub ledger: Ledger,
    /// The virtual host and the database of the fleet.
    pub namespace: TestNamespace,
    simulator_process: Option<Process>,
    logs: Logs,
    /// The settings of all programs, without the users of any.
    environment: Vec<(String, String)>,
    /// The settings of the command `leadline`.
    operator: Vec<(String, String)>,
    receiver_urls: Vec<String>,
    /// A connection past any proxy, and its settings; `None` until the services have started.
    broker: Option<(broker::Connection, broker::BrokerSettings)>,
}

impl Fleet {
    /// Migrates the ledger, declares the queues, starts everything, and waits until it is ready. Each program has the user
    /// and the rights that it has in production.
    pub async fn start(namespace: TestNamespace, plan: &FleetPlan) -> Result<Self> {
        let simulator_port = plan.simulator_port.map_or_else(free_port, Ok)?;
        let simulator_url = format!("http://127.0.0.1:{simulator_port}");
        let receiver_ports: Vec<u16> = (0..plan.receivers).map(|_| free_port()).collect::<Result<_>>()?;
        let environment = environment(&namespace, plan, &simulator_url)?;
        // Boxed, as the settings are large, and with them what holds them across an await.
        Box::pin(migrate(&namespace, &environment)).await?;
        // The test itself may do everything, and goes past any proxy.
        let mut everything = environment.clone();
        everything.extend([
            (variable("broker.url"), namespace.amqp_url.clone()),
            (variable("ledger.url"), namespace.postgres_url.clone()),
        ]);
        let settings = Box::new(load(everything)?);
        let ledger = bootstrap::connect_ledger(&settings, "leadline-dev").map_err(anyhow::Error::msg)?;

        let mut fleet = Self {
            members: Vec::new(),
            tasks: Vec::new(),
            kind: plan.members,
            receiver_urls: Vec::new(),
            simulator: SimulatorClient::new(simulator_url),
            ledger,
            logs: Logs::create(&namespace.name)?,
            namespace,
            simulator_process: None,
            operator: as_user(Role::Operator, environment.clone())?,
            environment,
            broker: None,
        };
        if plan.with_simulator {
            fleet.start_simulator(simulator_port, receiver_ports.first().copied(), plan).await?;
        }
        for port in receiver_ports {
            fleet.add_receiver(port).await?;
        }
        for _ in 0..plan.inferences {
            fleet.add("leadline-inference").await?;
        }
        for _ in 0..plan.writers {
            fleet.add("leadline-writer").await?;
        }
        fleet.until_ready().await?;
        let broker = bootstrap::broker_settings(&settings, "leadline-dev").map_err(anyhow::Error::msg)?;
        fleet.broker = Some((broker::Connection::open(broker.clone()).await?, broker));
        Ok(fleet)
    }

    async fn start_simulator(&mut self, port: u16, receiver: Option<u16>, plan: &FleetPlan) -> Result<()> {
        let mut arguments =
            vec!["--listen".to_owned(), format!("127.0.0.1:{port}"), "--public-url".to_owned(), PUBLIC_URL.to_owned()];
        if let Some(receiver) = receiver.filter(|_| plan.with_echoes) {
            arguments.extend(["--webhook-url".to_owned(), receiver_url(receiver)]);
        }
        arguments.extend(plan.simulator_arguments.iter().cloned());
        match self.kind {
            Members::Processes => {
                let program = workspace::binaries()?.join("leadline-simulator");
                let log = self.logs.next_file("simulator");
                let process = Process::start("simulator", &program, &log, |command| {
                    command.args(arguments);
                })?;
                self.simulator_process = Some(process);
            }
            Members::Tasks => self.tasks.push(Task::simulator(arguments).await?),
        }
        Ok(())
    }

    async fn add_receiver(&mut self, port: u16) -> Result<()> {
        let mut environment = self.environment.clone();
        environment.push((variable("receiver.listen"), format!("127.0.0.1:{port}")));
        self.receiver_urls.push(receiver_url(port));
        self.add_with("leadline-receiver", Role::Receiver, environment).await
    }

    /// Starts one more inference worker (`leadline-inference`) or writer (`leadline-writer`).
    pub async fn add(&mut self, program: &str) -> Result<()> {
        self.add_with_settings(program, &[]).await
    }

    /// Starts one more inference worker or writer, with settings that the others do not have, for example
    /// `("openai.api_key", "sk-wrong")`.
    pub async fn add_with_settings(&mut self, program: &str, settings: &[(&str, &str)]) -> Result<()> {
        let role = if program == "leadline-writer" { Role::Writer } else { Role::Inference };
        let settings = settings.iter().map(|(key, value)| (variable(key), (*value).to_owned())).collect();
        self.add_with(program, role, with_more(self.environment.clone(), settings)).await
    }

    async fn add_with(&mut self, program: &str, role: Role, environment: Vec<(String, String)>) -> Result<()> {
        let environment = as_user(role, environment)?;
        match self.kind {
            Members::Processes => {
                let log = self.logs.next_file(program);
                self.members.push(Member::start(program, environment, &log)?);
            }
            Members::Tasks => self.tasks.push(Box::pin(Task::service(program, environment)).await?),
        }
        Ok(())
    }

    /// Asks every task that runs `program` to stop, and waits until all have ended.
    pub async fn stop(&mut self, program: &str) -> Result<()> {
        for task in self.tasks.extract_if(.., |task| task.program() == program) {
            task.stop().await?;
        }
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
        self.receiver_urls.clone()
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
    pub fn operator_environment(&self) -> &[(String, String)] {
        &self.operator
    }

    /// The settings of a program, by the name of the environment variable, with the users of its role.
    pub fn environment_of(&self, role: Role) -> Result<Vec<(String, String)>> {
        as_user(role, self.environment.clone())
    }

    /// Runs the operator's command against this fleet and returns its output.
    pub async fn leadline(&self, arguments: &[&str]) -> Result<std::process::Output> {
        self.leadline_as(Role::Operator, arguments).await
    }

    /// The same with the rights of another role: `leadline migrate` is the owner's.
    pub async fn leadline_as(&self, role: Role, arguments: &[&str]) -> Result<std::process::Output> {
        self.leadline_of(role)?.run(arguments).await
    }

    /// The command of a role, for a task that goes on while the fleet changes.
    pub fn leadline_of(&self, role: Role) -> Result<Leadline> {
        Ok(Leadline { environment: self.environment_of(role)? })
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

fn receiver_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/webhooks/hubspot")
}

/// Does what `leadline migrate` does.
async fn migrate(namespace: &TestNamespace, environment: &[(String, String)]) -> Result<()> {
    let mut environment = environment.to_vec();
    environment.extend([
        (variable("broker.url"), namespace.amqp_url_of(Role::Owner)?),
        (variable("ledger.url"), namespace.postgres_url_of(Role::Owner)?),
    ]);
    let settings = load(environment)?;
    let ledger = bootstrap::connect_ledger(&settings, "leadline-dev").map_err(anyhow::Error::msg)?;
    ledger.migrate(bootstrap::retention(&settings)).await?;
    let mut broker = bootstrap::broker_settings(&settings, "leadline-dev").map_err(anyhow::Error::msg)?;
    // Many fleets declare their queues at once in the tests.
    broker.connect_timeout = std::time::Duration::from_secs(60);
    Ok(broker::declare_topology(&broker).await?)
}

fn load(environment: Vec<(String, String)>) -> Result<settings::Settings> {
    Ok(settings::Settings::load_from(None, environment, settings::ConfigScope::LedgerAndBroker)?)
}

/// The same settings with the user of `role` for RabbitMQ and for Postgres, whatever host the URLs lead to.
fn as_user(role: Role, mut environment: Vec<(String, String)>) -> Result<Vec<(String, String)>> {
    let of_users = [variable("broker.url"), variable("ledger.url")];
    for (name, value) in &mut environment {
        if of_users.contains(name) {
            *value = role.url(value)?;
        }
    }
    if role == Role::Receiver {
        environment.retain(|(name, _)| *name != of_users[1]);
    }
    Ok(environment)
}

/// The settings of every program, by the name of the environment variable.
fn environment(namespace: &TestNamespace, plan: &FleetPlan, simulator_url: &str) -> Result<Vec<(String, String)>> {
    let mut environment = vec![
        (variable("broker.url"), plan.broker_url.clone().unwrap_or_else(|| namespace.amqp_url.clone())),
        (variable("ledger.url"), namespace.postgres_url.clone()),
        (variable("receiver.public_url"), PUBLIC_URL.to_owned()),
        // What is broken on purpose would make playbooks step back to review.
        (variable("drift.enabled"), "false".to_owned()),
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
    Ok(with_more(environment, plan.settings.clone()))
}

/// The settings with others, by the name of the environment variable. A value that comes from a file takes the place of the value itself:
/// no program accepts both.
fn with_more(mut environment: Vec<(String, String)>, more: Vec<(String, String)>) -> Vec<(String, String)> {
    environment.retain(|(name, _)| !more.iter().any(|(other, _)| *other == format!("{name}_FILE")));
    environment.extend(more);
    environment
}
