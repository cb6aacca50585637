//! A fleet of real processes: simulator, receivers, inference workers, writers.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use domain::EventState;
use ledger::{EventStory, Ledger};

use testbed::{Process, TestNamespace, free_port, workspace};

use crate::SimulatorClient;

/// The URL that webhooks are signed for; a proxy would stand there.
pub const PUBLIC_URL: &str = "https://hooks.example.com/webhooks/hubspot";

/// A service is ready within this time, or something is wrong.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How many of each, and with which settings.
#[derive(Debug, Clone)]
pub struct FleetPlan {
    /// Receivers.
    pub receivers: usize,
    /// Inference workers.
    pub inferences: usize,
    /// Writers.
    pub writers: usize,
    /// Whether the simulator plays HubSpot and OpenAI.
    pub with_simulator: bool,
    /// Whether the simulator tells the first receiver of every change, as HubSpot does of those that are subscribed to.
    pub with_echoes: bool,
    /// Where the services find the broker, when it is not where the namespace has it (a proxy stands between).
    pub broker_url: Option<String>,
    /// The simulator's port, when somebody has to know it before (a proxy stands between).
    pub simulator_port: Option<u16>,
    /// Arguments of the simulator.
    pub simulator_arguments: Vec<String>,
    /// Settings of every service, by the name of the environment variable.
    pub settings: Vec<(String, String)>,
}

impl Default for FleetPlan {
    fn default() -> Self {
        Self {
            receivers: 1,
            inferences: 1,
            writers: 1,
            with_simulator: true,
            with_echoes: true,
            broker_url: None,
            simulator_port: None,
            simulator_arguments: Vec::new(),
            settings: Vec::new(),
        }
    }
}

impl FleetPlan {
    /// The same, but every process that comes to this crash point dies there.
    #[must_use]
    pub fn crashing_at(mut self, point: &str) -> Self {
        self.settings.push((crashpoint::VARIABLE.to_owned(), point.to_owned()));
        self
    }

    /// The same with one more setting, for example `("broker.max_attempts", "2")`.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.settings.push((variable(key), value.to_owned()));
        self
    }
}

/// The environment variable of a setting.
pub fn variable(key: &str) -> String {
    format!("LEADLINE__{}", key.replace('.', "__").to_uppercase())
}

/// A running service.
#[derive(Debug)]
pub struct Member {
    /// The process.
    pub process: Process,
    /// Its internal listener.
    pub admin_url: String,
    /// The receiver's public listener.
    pub public_url: Option<String>,
    program: String,
    environment: Vec<(String, String)>,
}

/// A running fleet; ended when dropped, receivers first.
#[derive(Debug)]
pub struct Fleet {
    /// Every service but the simulator.
    pub members: Vec<Member>,
    /// The simulator.
    pub simulator: SimulatorClient,
    /// The ledger, for asking.
    pub ledger: Ledger,
    /// Where it lives.
    pub namespace: TestNamespace,
    simulator_process: Option<Process>,
    logs: PathBuf,
    environment: Vec<(String, String)>,
    broker: Option<broker::Connection>,
    broker_settings: Option<broker::BrokerSettings>,
    keeps_logs: bool,
}

impl Fleet {
    /// Migrates the ledger, starts everything, and waits until it is ready.
    pub async fn start(namespace: TestNamespace, plan: &FleetPlan) -> Result<Self> {
        let logs = workspace::root()?.join("target/fleet").join(&namespace.name);
        std::fs::create_dir_all(&logs)?;
        let simulator_port = plan.simulator_port.map_or_else(free_port, Ok)?;
        let simulator_url = format!("http://127.0.0.1:{simulator_port}");
        let receiver_ports: Vec<u16> = (0..plan.receivers).map(|_| free_port()).collect::<Result<_>>()?;

        let known = simulator::Config::default();
        let mut environment = vec![
            (variable("broker.url"), plan.broker_url.clone().unwrap_or_else(|| namespace.amqp_url.clone())),
            (variable("ledger.url"), namespace.postgres_url.clone()),
            (variable("receiver.public_url"), PUBLIC_URL.to_owned()),
            (variable("inference.playbooks"), workspace::root()?.join("deploy/playbooks").display().to_string()),
        ];
        if plan.with_simulator {
            environment.extend([
                (variable("hubspot.base_url"), simulator_url.clone()),
                (variable("hubspot.token"), known.token),
                (variable("hubspot.client_secret"), known.client_secret),
                (variable("hubspot.app_id"), known.app_id.to_string()),
                (variable("hubspot.portal_id"), known.portal_id.to_string()),
                (variable("openai.base_url"), format!("{simulator_url}/v1")),
                (variable("openai.api_key"), known.api_key),
                (variable("notify.sales"), format!("{simulator_url}/_simulator/channels/sales")),
            ]);
        }
        environment.extend(plan.settings.iter().cloned());

        let settings = settings::Settings::load_from(None, environment.clone(), settings::ConfigScope::LedgerOnly)?;
        let ledger = bootstrap::connect_ledger(&settings, "leadline-dev").map_err(anyhow::Error::msg)?;
        ledger.migrate().await?;

        let mut fleet = Self {
            members: Vec::new(),
            simulator: SimulatorClient::new(simulator_url),
            ledger,
            namespace,
            simulator_process: None,
            logs,
            environment,
            broker: None,
            broker_settings: None,
            keeps_logs: false,
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
        // After the services: it is they who have to find queues that are not as they should be.
        let broker = broker::BrokerSettings {
            url: fleet.namespace.amqp_url.as_str().into(),
            ..bootstrap::broker_settings(&settings, "leadline-dev").map_err(anyhow::Error::msg)?
        };
        fleet.broker = Some(broker::Connection::open(broker.clone()).await?);
        fleet.broker_settings = Some(broker);
        Ok(fleet)
    }

    fn start_simulator(&mut self, port: u16, receiver: Option<u16>, plan: &FleetPlan) -> Result<()> {
        let program = workspace::binaries()?.join("leadline-simulator");
        let process = Process::start("simulator", &program, &self.logs.join("simulator.log"), |command| {
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
        let member =
            self.launch("leadline-receiver", environment, Some(format!("http://{listen}/webhooks/hubspot")))?;
        self.members.push(member);
        Ok(())
    }

    /// Starts one more inference worker or writer.
    pub fn add(&mut self, program: &str) -> Result<()> {
        let member = self.launch(program, self.environment.clone(), None)?;
        self.members.push(member);
        Ok(())
    }

    fn launch(
        &self,
        program: &str,
        mut environment: Vec<(String, String)>,
        public_url: Option<String>,
    ) -> Result<Member> {
        let admin = format!("127.0.0.1:{}", free_port()?);
        environment.push((variable("admin.listen"), admin.clone()));
        let count = std::fs::read_dir(&self.logs).map_or(0, Iterator::count);
        let log = self.logs.join(format!("{count:02}-{program}.log"));
        let path = workspace::binaries()?.join(program);
        let root = workspace::root()?;
        let process = Process::start(program, &path, &log, |command| {
            // Only what is given here: a developer's own settings must not leak in.
            for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LEADLINE__")) {
                command.env_remove(name);
            }
            command.envs(environment.iter().cloned()).current_dir(&root);
        })?;
        let program = program.to_owned();
        Ok(Member { process, admin_url: format!("http://{admin}"), public_url, program, environment })
    }

    /// Starts a member that has ended again, with the same settings, but for the crash point that it may have had.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        let member = &mut self.members[index];
        member.environment.retain(|(name, _)| name != crashpoint::VARIABLE);
        let member = &self.members[index];
        self.members[index] = self.launch(&member.program, member.environment.clone(), member.public_url.clone())?;
        Ok(())
    }

    /// Waits until every service says that it is ready.
    pub async fn until_ready(&mut self) -> Result<()> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
        let started = Instant::now();
        if let Some(simulator) = &mut self.simulator_process {
            while self.simulator.deliveries().await.is_err() {
                simulator.still_runs()?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        for member in &mut self.members {
            loop {
                member.process.still_runs()?;
                let url = format!("{}/readyz", member.admin_url);
                let missing = match http.get(url).send().await {
                    Ok(response) if response.status().is_success() => break,
                    Ok(response) => response.text().await.unwrap_or_default(),
                    Err(error) => error.to_string(),
                };
                if started.elapsed() > READY_WITHIN {
                    bail!("{} is not ready: {missing}\n{}", member.process.name(), member.process.last_lines(25));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Waits until an event has ended (or rests in `waiting`, which `until` may accept) and gives its story.
    pub async fn until_event(
        &self,
        key: &str,
        until: impl Fn(EventState) -> bool,
        within: Duration,
    ) -> Result<EventStory> {
        let started = Instant::now();
        loop {
            let story = self.ledger.event_story(key).await?;
            if let Some(story) = &story
                && until(story.state)
            {
                return Ok(story.clone());
            }
            if started.elapsed() > within {
                let state = story.map_or_else(|| "unknown to the ledger".to_owned(), |story| story.state.to_string());
                bail!("after {within:?} the event {key} is {state}");
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Where the simulator listens.
    pub fn simulator_url(&self) -> &str {
        self.simulator.base()
    }

    /// How the broker is reached, past any proxy.
    pub fn broker_settings(&self) -> Result<broker::BrokerSettings> {
        self.broker_settings.clone().context("the fleet has not started")
    }

    /// How many messages wait in each queue.
    async fn depths(&self) -> Result<Vec<(String, u32)>> {
        let broker = self.broker.as_ref().context("the fleet has not started")?;
        Ok(broker.queue_depths().await?.into_iter().map(|(route, depth)| (route.to_string(), depth)).collect())
    }

    /// Waits until no event is unfinished in the ledger and the queues and retry queues are empty.
    pub async fn until_idle(&self, within: Duration) -> Result<()> {
        let started = Instant::now();
        let mut quiet = 0;
        // A message on its way from one queue to the next is in none for a moment: look more than once.
        while quiet < 5 {
            let mut busy = self.depths().await?;
            busy.retain(|(name, depth)| !name.ends_with(".parked") && *depth > 0);
            let counts = self.ledger.event_counts().await?;
            let open: Vec<_> = counts.iter().filter(|count| !count.state.is_final()).collect();
            quiet = if busy.is_empty() && open.is_empty() { quiet + 1 } else { 0 };
            if started.elapsed() > within {
                bail!("after {within:?} there is still work: {busy:?} {open:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Waits until the parking lot of a stage (`leadline.events` or `leadline.writes`) holds `count` messages.
    pub async fn until_parked(&self, stage: &str, count: u32, within: Duration) -> Result<()> {
        self.until_holds(&format!("{stage}.parked"), count, within).await
    }

    /// Waits until a queue holds `count` messages.
    pub async fn until_holds(&self, name: &str, count: u32, within: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            let found =
                self.depths().await?.into_iter().find(|(queue, _)| *queue == name).map_or(0, |(_, depth)| depth);
            if found == count {
                return Ok(());
            }
            if started.elapsed() > within {
                bail!("after {within:?} {name} holds {found} messages, not {count}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The members that run `program`.
    pub fn indices(&self, program: &str) -> Vec<usize> {
        (0..self.members.len()).filter(|index| self.members[*index].program == program).collect()
    }

    /// The public addresses of the receivers.
    pub fn receivers(&self) -> Vec<String> {
        self.members.iter().filter_map(|member| member.public_url.clone()).collect()
    }

    /// The last lines of every process's output, for a failing test.
    pub fn logs(&self) -> String {
        let tail = |member: &Member| format!("=== {}\n{}\n", member.process.name(), member.process.last_lines(25));
        self.members.iter().map(tail).collect()
    }

    /// The most memory that any member running `program` ever had, in KiB; 0 when none of them runs.
    pub fn peak_memory(&self, program: &str) -> u64 {
        let peak = |index: usize| {
            let id = self.members[index].process.id();
            let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        self.indices(program).into_iter().filter_map(peak).max().unwrap_or(0)
    }

    /// Leaves the logs where they are when the fleet ends.
    pub fn keep_logs(&mut self) {
        self.keeps_logs = true;
    }

    /// Settings that the `leadline` command needs to operate this fleet.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Runs the operator's command against this fleet and gives its output.
    pub async fn leadline(&self, arguments: &[&str]) -> Result<std::process::Output> {
        let program = workspace::binaries()?.join("leadline");
        tokio::process::Command::new(program)
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .current_dir(workspace::root()?)
            .output()
            .await
            .context("leadline")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // All at once, then each is waited for.
        for member in &self.members {
            member.process.signal(rustix::process::Signal::TERM);
        }
        self.members.clear();
        if !(self.keeps_logs || std::thread::panicking()) {
            let _ = std::fs::remove_dir_all(&self.logs);
        }
    }
}
