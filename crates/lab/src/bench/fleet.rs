//! The fleet under measurement: its events, how many are written, and what they cost in CPU time and memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use lab::{Fleet, FleetPlan, WebhookClient, webhook_client::milliseconds};
use serde_json::{Value, json};
use simulator::population::FIRST_CONTACT;
use testbed::{Services, TestNamespace};
use tokio::task::JoinSet;

use super::usage;

/// Longer than a receiver or a metrics endpoint takes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// When no event is written for this long, the measurement fails.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// A running fleet whose simulator has contacts that no event was about yet.
pub struct Bench {
    pub fleet: Fleet,
    pub webhooks: WebhookClient,
    http: reqwest::Client,
    contacts: usize,
    next: AtomicUsize,
}

/// The conditions of a measurement.
pub struct Conditions {
    /// How many of each service, and their settings.
    pub plan: FleetPlan,
    /// Contacts in the simulator; there is one event about each.
    pub contacts: usize,
    /// The notes on each of them.
    pub notes_per_contact: usize,
    /// How long the model takes for an answer.
    pub latency: Duration,
    /// Calls that the simulated HubSpot allows in ten seconds.
    pub calls_per_10s: usize,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            plan: FleetPlan::default(),
            contacts: 40_000,
            notes_per_contact: 2,
            latency: Duration::from_millis(200),
            calls_per_10s: 1_000_000,
        }
    }
}

impl Bench {
    pub async fn start(services: &Services, conditions: Conditions) -> Result<Self> {
        Self::start_in(TestNamespace::new(services).await?, conditions).await
    }

    pub async fn start_in(namespace: TestNamespace, conditions: Conditions) -> Result<Self> {
        let Conditions { mut plan, contacts, notes_per_contact, latency, calls_per_10s } = conditions;
        let numbers = [
            ("--contacts", contacts.to_string()),
            ("--notes-per-contact", notes_per_contact.to_string()),
            ("--model-latency-ms", latency.as_millis().to_string()),
            ("--calls-per-10s", calls_per_10s.to_string()),
            ("--requests-per-minute", "100000000".to_owned()),
            ("--tokens-per-minute", "100000000000".to_owned()),
            ("--keep-calls", "0".to_owned()),
        ];
        // HTTP/2, as with OpenAI's host, but without TLS.
        plan = plan.with("openai.http2_prior_knowledge", "true");
        // Limits that no run reaches: money is reserved for every question, and no event waits for tomorrow.
        for limit in ["spend.micro_dollars_per_day", "spend.micro_dollars_per_record_and_day"] {
            plan = plan.with(limit, "1000000000000");
        }
        // An app subscribes to the properties that trigger its playbooks, not to those they write.
        plan.with_echoes = false;
        plan.simulator_arguments.extend(numbers.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
        Ok(Self {
            fleet: Fleet::start(namespace, &plan).await?,
            webhooks: WebhookClient::new(ANSWER_TIMEOUT)?,
            http: reqwest::Client::builder().timeout(ANSWER_TIMEOUT).build()?,
            contacts,
            next: AtomicUsize::new(0),
        })
    }

    /// The services' processes.
    pub fn processes(&self) -> Vec<u32> {
        self.fleet.members.iter().map(|member| member.process.id()).collect()
    }

    /// The processes of one service.
    pub fn processes_of(&self, program: &str) -> Vec<u32> {
        self.fleet.indices(program).into_iter().map(|index| self.fleet.members[index].process.id()).collect()
    }

    /// A webhook's body: events about `size` contacts that no event was about yet.
    pub fn batch(&self, size: usize) -> Result<Vec<u8>> {
        let first = self.next.fetch_add(size, Ordering::Relaxed);
        if first + size > self.contacts {
            bail!("there was an event about each of the {} contacts", self.contacts);
        }
        let first = i64::try_from(first)?;
        let events: Vec<_> = (first..).take(size).map(|n| note_event(FIRST_CONTACT + n, n)).collect();
        Ok(serde_json::to_vec(&events)?)
    }

    /// A webhook's body of events that start no playbook, for measuring the receiver.
    pub fn idle_batch(size: usize) -> Result<Vec<u8>> {
        let event = |n: usize| {
            let mut event = note_event(1, i64::try_from(n).unwrap_or(0));
            event["propertyName"] = json!("favourite_colour");
            event
        };
        Ok(serde_json::to_vec(&(0..size).map(event).collect::<Vec<_>>())?)
    }

    /// The metrics of each replica of one service.
    pub async fn scrape(&self, program: &str) -> Result<Vec<Scrape>> {
        let mut replicas = Vec::new();
        for index in self.fleet.indices(program) {
            let url = format!("{}/metrics", self.fleet.members[index].admin_url);
            replicas.push(Scrape(self.http.get(url).send().await?.text().await?));
        }
        Ok(replicas)
    }

    /// The number of events that have been written.
    pub async fn written(&self) -> Result<f64> {
        let replicas = self.scrape("leadline-writer").await?;
        let written =
            |replica: &Scrape| replica.sum("leadline_write_commands_total", &["state"], |of| of == ["written"]);
        Ok(replicas.iter().map(written).sum())
    }

    /// Sends `events` in batches of 100 at the given pace and measures the middle part: at the beginning the stages fill, and
    /// at the end they empty.
    pub async fn run(&self, events: usize, pace: Pace) -> Result<Throughput> {
        let already = self.written().await?;
        let finished = Arc::new(AtomicUsize::new(0));
        let mut feeding = JoinSet::new();
        let batches: Vec<_> = (0..events / 100).map(|_| self.batch(100)).collect::<Result<_>>()?;
        let sent = Arc::new(AtomicUsize::new(0));
        let batches = Arc::new(std::sync::Mutex::new(batches));
        let receivers = self.fleet.receivers();
        let started = Instant::now();
        for sender in 0..4 {
            let (webhooks, batches) = (self.webhooks.clone(), batches.clone());
            let (sent, finished) = (sent.clone(), finished.clone());
            let receiver = receivers[sender % receivers.len()].clone();
            feeding.spawn(async move {
                loop {
                    let next = batches.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
                    let Some(body) = next else { return };
                    let before = sent.fetch_add(100, Ordering::Relaxed);
                    while !pace.allows(before, finished.load(Ordering::Relaxed), started.elapsed()) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    webhooks.deliver(&receiver, &body).await;
                }
            });
        }
        let processes = self.processes();
        let mut samples: Vec<(Instant, f64, Duration)> = Vec::new();
        let (mut memory, mut moved) = (0.0_f64, Instant::now());
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let done = self.written().await? - already;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let count = done as usize;
            if finished.swap(count, Ordering::Relaxed) != count {
                moved = Instant::now();
            }
            samples.push((Instant::now(), done, usage::cpu(&processes)));
            memory = memory.max(usage::memory(&processes));
            if count >= events {
                break;
            }
            if moved.elapsed() > STUCK_AFTER {
                bail!(
                    "{count} of {events} events were written, and no more within {STUCK_AFTER:?}:\n{}",
                    self.fleet.logs()
                );
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        let events = events as f64;
        let at = |part: f64| samples.iter().find(|sample| sample.1 >= events * part).copied().context("a sample");
        let (from, to) = (at(0.15)?, at(0.9)?);
        let count = to.1 - from.1;
        let per_cpu_second = count / (to.2.saturating_sub(from.2)).as_secs_f64();
        Ok(Throughput { per_second: count / (to.0 - from.0).as_secs_f64(), per_cpu_second, memory })
    }
}

/// One replica's metrics in Prometheus' text format.
pub struct Scrape(String);

impl Scrape {
    /// The series of a metric: the values of its `labels`, and the number.
    pub fn values<'a>(&'a self, name: &'a str, labels: &'a [&str]) -> impl Iterator<Item = (Vec<&'a str>, f64)> {
        self.0.lines().filter_map(move |line| {
            let (of, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
            let label = |label: &&str| of.split(&format!("{label}=\"")).nth(1)?.split('"').next();
            Some((labels.iter().map(|name| label(name).unwrap_or_default()).collect(), value.parse().ok()?))
        })
    }

    /// The sum over the series of a metric whose `labels` are wanted.
    pub fn sum(&self, name: &str, labels: &[&str], wanted: impl Fn(&[&str]) -> bool) -> f64 {
        self.values(name, labels).filter(|(of, _)| wanted(of)).map(|(_, value)| value).sum()
    }
}

/// How fast events are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// As fast as events are finished: at most this many are unfinished.
    InFlight(usize),
    /// This many per second.
    PerSecond(f64),
}

impl Pace {
    /// Enough in flight for the fleet's full speed.
    pub const FULL: Self = Self::InFlight(2_000);

    /// Whether a batch of 100 more may be sent.
    fn allows(self, sent: usize, finished: usize, elapsed: Duration) -> bool {
        match self {
            Self::InFlight(most) => sent + 100 <= finished + most,
            #[expect(clippy::cast_precision_loss, reason = "a count")]
            Self::PerSecond(rate) => sent as f64 <= rate * elapsed.as_secs_f64(),
        }
    }
}

/// A fleet's speed and cost.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// Events written per second.
    pub per_second: f64,
    /// Events written per second of CPU time of the services.
    pub per_cpu_second: f64,
    /// The services' peak memory, in MiB.
    pub memory: f64,
}

/// The webhook's element about a note that was logged on a contact.
pub fn note_event(contact: i64, n: i64) -> Value {
    json!({"eventId": n, "subscriptionId": 1, "portalId": 9_876_543, "appId": 1_234_567, "occurredAt": milliseconds(),
        "attemptNumber": 0, "objectId": contact, "objectTypeId": "0-1", "changeSource": "CRM_UI",
        "subscriptionType": "contact.propertyChange", "propertyName": "notes_last_updated",
        "propertyValue": "1764000000000", "sourceId": "userId:42"})
}
