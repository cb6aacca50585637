//! The faults: processes, RabbitMQ, Postgres, networks, and the APIs.

use std::{
    collections::HashSet,
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use lab::{Fleet, Proxy, cases::declines, proxy::Traffic};
use rand::{Rng, RngExt, seq::IndexedRandom};
use rustix::process::Signal;
use simulator::{Fault, FaultKind, Target, admin::ModelAccess};
use testbed::{OldPrimary, Services};

use super::{cluster::ClusterFault, phases::Phase, plan::Proxies};

/// How long a frozen process stays frozen: longer than the leases of this fleet.
pub const FROZEN: Duration = Duration::from_secs(12);

/// A graceful stop that takes longer than this is reported as wrong.
pub const GRACEFUL: Duration = Duration::from_secs(15);

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChaosFault {
    KillReceiver,
    KillInference,
    KillWriter,
    StopReceiver,
    StopInference,
    StopWriter,
    FreezeInference,
    FreezeWriter,
    CrashRabbitMq,
    CrashPostgres,
    PromoteStandby,
    CutBroker,
    CutLedger,
    CutApis,
    StallBroker,
    StallLedger,
    SilenceBroker,
    SilenceLedger,
    DiskAlarm,
    MemoryAlarm,
    PurgeWrites,
    HubSpotErrors,
    HubSpotLimit,
    HubSpotDown,
    HubSpotUnauthorized,
    HubSpotHangs,
    HubSpotHalfAnswers,
    OpenAiErrors,
    OpenAiLimit,
    OpenAiHangs,
    OpenAiHalfAnswers,
    OpenAiBlindBills,
    OpenAiNoMoney,
    OpenAiModelShutDown,
    /// Of a RabbitMQ of three nodes.
    Cluster(ClusterFault),
}

impl ChaosFault {
    /// Every fault of a fleet with a RabbitMQ of one node. [`ChaosFault::PromoteStandby`] needs a Postgres that has a standby.
    pub const ALL: [Self; 34] = [
        Self::KillReceiver,
        Self::KillInference,
        Self::KillWriter,
        Self::StopReceiver,
        Self::StopInference,
        Self::StopWriter,
        Self::FreezeInference,
        Self::FreezeWriter,
        Self::CrashRabbitMq,
        Self::CrashPostgres,
        Self::PromoteStandby,
        Self::CutBroker,
        Self::CutLedger,
        Self::CutApis,
        Self::StallBroker,
        Self::StallLedger,
        Self::SilenceBroker,
        Self::SilenceLedger,
        Self::DiskAlarm,
        Self::MemoryAlarm,
        Self::PurgeWrites,
        Self::HubSpotErrors,
        Self::HubSpotLimit,
        Self::HubSpotDown,
        Self::HubSpotUnauthorized,
        Self::HubSpotHangs,
        Self::HubSpotHalfAnswers,
        Self::OpenAiErrors,
        Self::OpenAiLimit,
        Self::OpenAiHangs,
        Self::OpenAiHalfAnswers,
        Self::OpenAiBlindBills,
        Self::OpenAiNoMoney,
        Self::OpenAiModelShutDown,
    ];

    /// Whether RabbitMQ or Postgres is killed, or its limits are changed: what may not be done to services of others.
    pub fn breaks_services(self) -> bool {
        use ChaosFault::{Cluster, CrashPostgres, CrashRabbitMq, DiskAlarm, MemoryAlarm, PromoteStandby};
        matches!(self, CrashRabbitMq | CrashPostgres | PromoteStandby | DiskAlarm | MemoryAlarm | Cluster(_))
    }
}

impl fmt::Display for ChaosFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster(fault) => return fault.fmt(f),
            Self::KillReceiver => "receiver: kill -9",
            Self::KillInference => "inference: kill -9",
            Self::KillWriter => "writer: kill -9",
            Self::StopReceiver => "receiver: SIGTERM",
            Self::StopInference => "inference: SIGTERM",
            Self::StopWriter => "writer: SIGTERM",
            Self::FreezeInference => "inference: SIGSTOP beyond its lease",
            Self::FreezeWriter => "writer: SIGSTOP beyond its lease",
            Self::CrashRabbitMq => "RabbitMQ: kill -9, started again",
            Self::CrashPostgres => "Postgres: kill -9, started again",
            Self::PromoteStandby => "Postgres: primary killed, standby promoted",
            Self::CutBroker => "RabbitMQ: connections cut",
            Self::CutLedger => "Postgres: connections cut",
            Self::CutApis => "HubSpot and OpenAI: connections cut",
            Self::StallBroker => "RabbitMQ: connections stalled (no bytes pass)",
            Self::StallLedger => "Postgres: connections stalled (no bytes pass)",
            Self::SilenceBroker => "RabbitMQ: open connections die in silence",
            Self::SilenceLedger => "Postgres: open connections die in silence",
            Self::DiskAlarm => "RabbitMQ: disk alarm",
            Self::MemoryAlarm => "RabbitMQ: memory alarm",
            Self::PurgeWrites => "RabbitMQ: leadline.writes purged by mistake",
            Self::HubSpotErrors => "HubSpot: 500 for a third",
            Self::HubSpotLimit => "HubSpot: 429 for a half",
            Self::HubSpotDown => "HubSpot: 503 for all",
            Self::HubSpotUnauthorized => "HubSpot: 401 for all",
            Self::HubSpotHangs => "HubSpot: no answer for a fifth",
            Self::HubSpotHalfAnswers => "HubSpot: answers break off, after their effect",
            Self::OpenAiErrors => "OpenAI: 503 for all",
            Self::OpenAiLimit => "OpenAI: 429 for a half",
            Self::OpenAiHangs => "OpenAI: no answer for a fifth",
            Self::OpenAiHalfAnswers => "OpenAI: answers break off",
            Self::OpenAiBlindBills => {
                "OpenAI: answers are billed and lost, given up by a gateway (504), or do not say their cost"
            }
            Self::OpenAiNoMoney => "OpenAI: insufficient_quota",
            Self::OpenAiModelShutDown => "OpenAI: the model is shut down, and comes back",
        })
    }
}

/// What faults are injected into.
pub struct Targets<'a> {
    pub services: &'a mut Services,
    pub fleet: &'a mut Fleet,
    pub proxies: Proxies,
}

/// What is known about a fault when it is over.
#[derive(Debug, Default)]
pub struct Course {
    /// How the process stopped, if the fault was a graceful stop.
    pub stop: Option<GracefulStop>,
    /// When RabbitMQ could take messages, and when it could not, if the fault was one of a cluster.
    pub phases: Vec<Phase>,
}

/// How a process took SIGTERM.
#[derive(Debug, Clone, Copy)]
pub struct GracefulStop {
    pub took: Duration,
    /// It did not end within [`GRACEFUL`].
    pub was_killed: bool,
}

/// A fault that was injected, and its effect.
pub struct Injected {
    pub fault: ChaosFault,
    /// The keys of events that had been accepted and were not finished.
    pub in_flight: HashSet<String>,
    /// From the fault's end until the next event was written.
    pub recovery: Duration,
    pub course: Course,
}

impl Targets<'_> {
    /// Injects a fault and ends it: when this returns, everything runs again.
    pub async fn inject(&mut self, fault: ChaosFault, random: &mut impl Rng) -> Result<Course> {
        let a_while = Duration::from_millis(random.random_range(1_500..4_000));
        match fault {
            ChaosFault::KillReceiver => self.kill("leadline-receiver", random).await?,
            ChaosFault::KillInference => self.kill("leadline-inference", random).await?,
            ChaosFault::KillWriter => self.kill("leadline-writer", random).await?,
            ChaosFault::StopReceiver => return self.stop("leadline-receiver", random).await,
            ChaosFault::StopInference => return self.stop("leadline-inference", random).await,
            ChaosFault::StopWriter => return self.stop("leadline-writer", random).await,
            ChaosFault::FreezeInference => self.freeze("leadline-inference", random).await?,
            ChaosFault::FreezeWriter => self.freeze("leadline-writer", random).await?,
            ChaosFault::CrashRabbitMq => self.services.crash_rabbitmq(a_while).await?,
            ChaosFault::CrashPostgres => self.services.crash_postgres(a_while).await?,
            ChaosFault::PromoteStandby => {
                let instances = self.services.instances().context("only a private Postgres has a standby")?;
                // The last one may have been promoted.
                instances.make_standby().await?;
                instances.promote_standby(OldPrimary::Dies).await?;
            }
            ChaosFault::CutBroker => through(&self.proxies.broker, Traffic::Cut, a_while).await,
            ChaosFault::CutLedger => through(std::slice::from_ref(&self.proxies.ledger), Traffic::Cut, a_while).await,
            ChaosFault::CutApis => through(std::slice::from_ref(&self.proxies.apis), Traffic::Cut, a_while).await,
            ChaosFault::StallBroker => through(&self.proxies.broker, Traffic::Stalls, a_while).await,
            ChaosFault::StallLedger => {
                through(std::slice::from_ref(&self.proxies.ledger), Traffic::Stalls, a_while).await;
            }
            ChaosFault::SilenceBroker => self.proxies.broker.iter().for_each(Proxy::silence_open_connections),
            ChaosFault::SilenceLedger => self.proxies.ledger.silence_open_connections(),
            ChaosFault::DiskAlarm => {
                self.services.rabbitmqctl(&["set_disk_free_limit", "9000GB"]).await?;
                tokio::time::sleep(a_while).await;
                self.services.rabbitmqctl(&["set_disk_free_limit", "50MB"]).await?;
            }
            ChaosFault::MemoryAlarm => {
                self.services.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0001"]).await?;
                tokio::time::sleep(a_while).await;
                self.services.rabbitmqctl(&["set_vm_memory_high_watermark", "0.4"]).await?;
            }
            ChaosFault::PurgeWrites => self.purge_writes(a_while).await?,
            ChaosFault::HubSpotErrors => self.api_fault(Target::Hubspot, status(500), 33, a_while).await?,
            ChaosFault::HubSpotLimit => self.api_fault(Target::Hubspot, limit(), 50, a_while).await?,
            ChaosFault::HubSpotDown => self.api_fault(Target::Hubspot, status(503), 100, a_while).await?,
            ChaosFault::HubSpotUnauthorized => self.api_fault(Target::Hubspot, status(401), 100, a_while).await?,
            ChaosFault::HubSpotHangs => self.api_fault(Target::Hubspot, FaultKind::Hang, 20, a_while).await?,
            ChaosFault::HubSpotHalfAnswers => {
                self.api_fault(Target::Hubspot, FaultKind::LostAnswer, 25, a_while).await?;
            }
            ChaosFault::OpenAiErrors => self.api_fault(Target::Openai, status(503), 100, a_while).await?,
            ChaosFault::OpenAiLimit => self.api_fault(Target::Openai, limit(), 50, a_while).await?,
            ChaosFault::OpenAiHangs => self.api_fault(Target::Openai, FaultKind::Hang, 20, a_while).await?,
            ChaosFault::OpenAiHalfAnswers => self.api_fault(Target::Openai, FaultKind::Cut, 25, a_while).await?,
            ChaosFault::OpenAiBlindBills => {
                let silent = Fault { percent: Some(20), ..Fault::new(Target::Openai, FaultKind::NoUsage) };
                self.fleet.simulator.fault(&silent).await?;
                let given_up = Fault { percent: Some(20), ..Fault::new(Target::Openai, FaultKind::GatewayGaveUp(504)) };
                self.fleet.simulator.fault(&given_up).await?;
                self.api_fault(Target::Openai, FaultKind::LostAnswer, 20, a_while).await?;
            }
            ChaosFault::OpenAiNoMoney => {
                self.api_fault(Target::Openai, FaultKind::InsufficientQuota, 100, a_while).await?;
            }
            ChaosFault::OpenAiModelShutDown => self.shut_model_down(a_while).await?,
            ChaosFault::Cluster(fault) => {
                let instances = self.services.instances().context("a cluster needs private instances")?;
                let phases = fault.inject(instances.nodes(), &self.fleet.namespace, random).await?;
                return Ok(Course { phases, ..Course::default() });
            }
        }
        Ok(Course::default())
    }

    /// One of the processes that run `program`.
    fn any_of(&self, program: &str, random: &mut impl Rng) -> Result<usize> {
        self.fleet.indices(program).choose(random).copied().with_context(|| format!("no {program} runs"))
    }

    async fn kill(&mut self, program: &str, random: &mut impl Rng) -> Result<()> {
        let index = self.any_of(program, random)?;
        self.fleet.members[index].process.kill();
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;
        self.fleet.restart(index)
    }

    async fn stop(&mut self, program: &str, random: &mut impl Rng) -> Result<Course> {
        let index = self.any_of(program, random)?;
        let process = &mut self.fleet.members[index].process;
        let started = Instant::now();
        process.signal(Signal::TERM);
        while process.still_runs().is_ok() && started.elapsed() < GRACEFUL {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let took = started.elapsed();
        let was_killed = process.still_runs().is_ok();
        process.kill();
        self.fleet.restart(index)?;
        Ok(Course { stop: Some(GracefulStop { took, was_killed }), ..Course::default() })
    }

    async fn freeze(&mut self, program: &str, random: &mut impl Rng) -> Result<()> {
        let index = self.any_of(program, random)?;
        self.fleet.members[index].process.signal(Signal::STOP);
        tokio::time::sleep(FROZEN).await;
        self.fleet.members[index].process.signal(Signal::CONT);
        Ok(())
    }

    /// Empties the queue of write commands. The writers are down meanwhile, so that messages are in it.
    async fn purge_writes(&mut self, down: Duration) -> Result<()> {
        let writers = self.fleet.indices("leadline-writer");
        for index in &writers {
            self.fleet.members[*index].process.kill();
        }
        tokio::time::sleep(down).await;
        let path = format!("queues/{}/leadline.writes/contents", self.fleet.namespace.name);
        self.fleet.namespace.management(reqwest::Method::DELETE, &path, None).await?;
        for index in writers {
            self.fleet.restart(index)?;
        }
        Ok(())
    }

    /// Takes the model of every playbook away, in the middle of their questions, and brings it back.
    async fn shut_model_down(&mut self, during: Duration) -> Result<()> {
        let model = settings::Settings::default().openai.model;
        let access = ModelAccess { shut_down: vec![model], ..ModelAccess::default() };
        self.fleet.simulator.models(&access).await?;
        tokio::time::sleep(during).await;
        self.fleet.simulator.models(&ModelAccess::default()).await
    }

    /// Lets the simulator answer `percent` of the calls with a fault.
    async fn api_fault(&mut self, target: Target, kind: FaultKind, percent: u8, during: Duration) -> Result<()> {
        let fault = Fault { percent: Some(percent), ..Fault::new(target, kind) };
        self.fleet.simulator.fault(&fault).await?;
        tokio::time::sleep(during).await;
        self.fleet.simulator.clear_faults().await?;
        self.fleet.simulator.fault(&declines()).await
    }
}

async fn through(proxies: &[Proxy], traffic: Traffic, during: Duration) {
    proxies.iter().for_each(|proxy| proxy.set(traffic));
    tokio::time::sleep(during).await;
    proxies.iter().for_each(|proxy| proxy.set(Traffic::Flows));
}

fn status(code: u16) -> FaultKind {
    FaultKind::Status { code, retry_after: None }
}

fn limit() -> FaultKind {
    FaultKind::Status { code: 429, retry_after: Some(1) }
}
