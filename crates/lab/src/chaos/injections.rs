//! What injections: processes, brokers, databases, networks, and the APIs.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use lab::{Fleet, Proxy, cases::declines, proxy::Traffic};
use rustix::process::Signal;
use simulator::{Fault, FaultKind, Target};
use testbed::Services;

use super::dice::Dice;

/// Longer than the leases of this fleet.
pub const FROZEN: Duration = Duration::from_secs(12);

/// A stop takes no longer than this, or it is a finding.
pub const GRACEFUL: Duration = Duration::from_secs(15);

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultInjection {
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
    CutBroker,
    CutLedger,
    CutApis,
    StallBroker,
    StallLedger,
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
    OpenAiNoMoney,
}

impl FaultInjection {
    pub const ALL: [Self; 29] = [
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
        Self::CutBroker,
        Self::CutLedger,
        Self::CutApis,
        Self::StallBroker,
        Self::StallLedger,
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
        Self::OpenAiNoMoney,
    ];
}

impl fmt::Display for FaultInjection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
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
            Self::CutBroker => "services ✂ RabbitMQ",
            Self::CutLedger => "services ✂ Postgres",
            Self::CutApis => "services ✂ HubSpot and OpenAI",
            Self::StallBroker => "services … RabbitMQ (no bytes pass)",
            Self::StallLedger => "services … Postgres (no bytes pass)",
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
            Self::OpenAiNoMoney => "OpenAI: insufficient_quota",
        })
    }
}

/// What is struck.
pub struct Targets<'a> {
    pub services: &'a mut Services,
    pub fleet: &'a mut Fleet,
    pub broker: Proxy,
    pub ledger: Proxy,
    pub apis: Proxy,
}

/// What a injection showed, beside what became of the events.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown {
    /// How long a graceful stop took.
    pub stop: Option<Duration>,
    /// Whether it had to be killed after all.
    pub was_killed: bool,
}

impl Targets<'_> {
    /// Strikes, and ends the fault. When this returns, what was struck is there again.
    pub async fn injection(&mut self, injection: FaultInjection, dice: &mut Dice) -> Result<Shown> {
        use FaultInjection as S;
        let a_while = Duration::from_millis(dice.within(1_500, 4_000));
        let mut shown = Shown::default();
        match injection {
            S::KillReceiver => self.kill("leadline-receiver", dice).await?,
            S::KillInference => self.kill("leadline-inference", dice).await?,
            S::KillWriter => self.kill("leadline-writer", dice).await?,
            S::StopReceiver => shown = self.stop("leadline-receiver", dice).await?,
            S::StopInference => shown = self.stop("leadline-inference", dice).await?,
            S::StopWriter => shown = self.stop("leadline-writer", dice).await?,
            S::FreezeInference => self.freeze("leadline-inference", dice).await?,
            S::FreezeWriter => self.freeze("leadline-writer", dice).await?,
            S::CrashRabbitMq => self.services.instances().context("private instances")?.crash_rabbitmq(a_while).await?,
            S::CrashPostgres => self.services.instances().context("private instances")?.crash_postgres(a_while).await?,
            S::CutBroker => through(&self.broker, Traffic::Cut, a_while).await,
            S::CutLedger => through(&self.ledger, Traffic::Cut, a_while).await,
            S::CutApis => through(&self.apis, Traffic::Cut, a_while).await,
            S::StallBroker => through(&self.broker, Traffic::Stalls, a_while).await,
            S::StallLedger => through(&self.ledger, Traffic::Stalls, a_while).await,
            S::DiskAlarm => {
                let instances = self.services.instances().context("private instances")?;
                instances.rabbitmqctl(&["set_disk_free_limit", "9000GB"]).await?;
                tokio::time::sleep(a_while).await;
                instances.rabbitmqctl(&["set_disk_free_limit", "50MB"]).await?;
            }
            S::MemoryAlarm => {
                let instances = self.services.instances().context("private instances")?;
                instances.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0001"]).await?;
                tokio::time::sleep(a_while).await;
                instances.rabbitmqctl(&["set_vm_memory_high_watermark", "0.4"]).await?;
            }
            S::PurgeWrites => {
                // Without writers, so that there is something to lose.
                let writers = self.fleet.indices("leadline-writer");
                for index in &writers {
                    self.fleet.members[*index].process.kill();
                }
                tokio::time::sleep(a_while).await;
                let path = format!("queues/{}/leadline.writes/contents", self.fleet.namespace.name);
                self.fleet.namespace.management(reqwest::Method::DELETE, &path, None).await?;
                for index in writers {
                    self.fleet.restart(index)?;
                }
            }
            S::HubSpotErrors => self.fault(Target::Hubspot, status(500), 33, a_while).await?,
            S::HubSpotLimit => self.fault(Target::Hubspot, limit(), 50, a_while).await?,
            S::HubSpotDown => self.fault(Target::Hubspot, status(503), 100, a_while).await?,
            S::HubSpotUnauthorized => self.fault(Target::Hubspot, status(401), 100, a_while).await?,
            S::HubSpotHangs => self.fault(Target::Hubspot, FaultKind::Hang, 20, a_while).await?,
            S::HubSpotHalfAnswers => self.fault(Target::Hubspot, FaultKind::LostAnswer, 25, a_while).await?,
            S::OpenAiErrors => self.fault(Target::Openai, status(503), 100, a_while).await?,
            S::OpenAiLimit => self.fault(Target::Openai, limit(), 50, a_while).await?,
            S::OpenAiHangs => self.fault(Target::Openai, FaultKind::Hang, 20, a_while).await?,
            S::OpenAiHalfAnswers => self.fault(Target::Openai, FaultKind::Cut, 25, a_while).await?,
            S::OpenAiNoMoney => self.fault(Target::Openai, FaultKind::InsufficientQuota, 100, a_while).await?,
        }
        Ok(shown)
    }

    fn one(&self, program: &str, dice: &mut Dice) -> Result<usize> {
        dice.pick(&self.fleet.indices(program)).copied().context("there is none")
    }

    async fn kill(&mut self, program: &str, dice: &mut Dice) -> Result<()> {
        let index = self.one(program, dice)?;
        self.fleet.members[index].process.kill();
        tokio::time::sleep(Duration::from_millis(dice.within(0, 1_500))).await;
        self.fleet.restart(index)
    }

    async fn stop(&mut self, program: &str, dice: &mut Dice) -> Result<Shown> {
        let index = self.one(program, dice)?;
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
        Ok(Shown { stop: Some(took), was_killed })
    }

    async fn freeze(&mut self, program: &str, dice: &mut Dice) -> Result<()> {
        let index = self.one(program, dice)?;
        self.fleet.members[index].process.signal(Signal::STOP);
        tokio::time::sleep(FROZEN).await;
        self.fleet.members[index].process.signal(Signal::CONT);
        Ok(())
    }

    async fn fault(&mut self, target: Target, kind: FaultKind, percent: u8, during: Duration) -> Result<()> {
        let fault = Fault { percent: Some(percent), ..Fault::new(target, kind) };
        self.fleet.simulator.fault(&fault).await?;
        tokio::time::sleep(during).await;
        self.fleet.simulator.clear_faults().await?;
        self.fleet.simulator.fault(&declines()).await
    }
}

async fn through(proxy: &Proxy, traffic: Traffic, during: Duration) {
    proxy.set(traffic);
    tokio::time::sleep(during).await;
    proxy.set(Traffic::Flows);
}

fn status(code: u16) -> FaultKind {
    FaultKind::Status { code, retry_after: None }
}

fn limit() -> FaultKind {
    FaultKind::Status { code: 429, retry_after: Some(1) }
}
