//! What a fleet consists of.

/// The URL that webhooks are signed for; in production a reverse proxy listens there.
pub const PUBLIC_URL: &str = "https://hooks.example.com/webhooks/hubspot";

/// What the simulator and the services run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Members {
    /// Each is a process of its own.
    Processes,
    /// All are tasks of this process: quick to start, but without internal listeners, and none can be killed alone.
    Tasks,
}

/// How many of each service, and their settings.
#[derive(Debug, Clone)]
pub struct FleetPlan {
    /// What they run as.
    pub members: Members,
    /// Number of receivers.
    pub receivers: usize,
    /// Number of inference workers.
    pub inferences: usize,
    /// Number of writers.
    pub writers: usize,
    /// Whether the simulator stands in for HubSpot and OpenAI.
    pub with_simulator: bool,
    /// Whether the simulator sends the first receiver a webhook about every change, as HubSpot does for subscribed
    /// properties.
    pub with_echoes: bool,
    /// The broker's URL for the services, if it is not the namespace's (a proxy is in between).
    pub broker_url: Option<String>,
    /// The simulator's port, if it has to be known before the start (a proxy is in between).
    pub simulator_port: Option<u16>,
    /// Command-line arguments of the simulator.
    pub simulator_arguments: Vec<String>,
    /// Settings of every service, by the name of the environment variable.
    pub settings: Vec<(String, String)>,
}

impl Default for FleetPlan {
    fn default() -> Self {
        Self {
            members: Members::Processes,
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
    /// The same plan, but every process that reaches this crash point aborts there.
    #[must_use]
    pub fn crashing_at(mut self, point: &str) -> Self {
        self.settings.push((crashpoint::VARIABLE.to_owned(), point.to_owned()));
        self
    }

    /// The same plan with one more setting, for example `("broker.max_attempts", "2")`.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.settings.push((variable(key), value.to_owned()));
        self
    }
}

/// The environment variable of a setting: `LEADLINE__SECTION__KEY` for `section.key`.
pub fn variable(key: &str) -> String {
    format!("LEADLINE__{}", key.replace('.', "__").to_uppercase())
}
