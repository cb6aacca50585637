//! The fleet at one moment: what it has to do, what it uses of its limits, and what is wrong. `status` prints it.

use std::{collections::BTreeMap, time::Duration};

use broker::Route;
use domain::{Circuit, CircuitBreakerState, GateState, PlaybookModel, Reason};
use ledger::{
    CircuitBreaker, DriftEntry, GateEntry, GateNote, Ledger, ParkedStage, RateLimitEntry, SpendLimitEntry,
    UnfinishedCommands, UnfinishedEvents,
};
use time::OffsetDateTime;

use crate::{
    operator::Operator,
    playbooks::held_back_table,
    print::{Cell, Page, Table, column},
    times,
};

/// What is parked in one stage for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedReason {
    /// Where it failed.
    pub stage: ParkedStage,
    /// Why.
    pub reason: Option<Reason>,
    /// How many.
    pub parked: usize,
    /// When the newest of them was parked.
    pub newest: Option<OffsetDateTime>,
}

/// What the queues and the ledger say.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The age of the oldest unfinished event, zero when there is none.
    pub oldest: Duration,
    /// Every queue, with the messages that wait in it.
    pub queues: Vec<(Route, u32)>,
    /// Unfinished events by state and reason.
    pub events: Vec<UnfinishedEvents>,
    /// Unfinished write commands by state.
    pub commands: Vec<UnfinishedCommands>,
    /// What waits for an operator.
    pub parked: Vec<ParkedReason>,
    /// The limits on calls and tokens.
    pub rate_limits: Vec<RateLimitEntry>,
    /// The limits on money.
    pub spend_limits: Vec<SpendLimitEntry>,
    /// Every circuit breaker that was ever opened.
    pub circuits: Vec<CircuitBreaker>,
    /// What the workers make of the gates of playbooks.
    pub gates: Vec<GateEntry>,
    /// Why versions of playbooks that are in use are held back.
    pub held_back: Vec<DriftEntry>,
}

impl Snapshot {
    /// Asks the broker and the ledger.
    ///
    /// # Errors
    /// One of them does not answer.
    pub async fn take(operator: &Operator) -> anyhow::Result<Self> {
        let ledger = &operator.ledger;
        Ok(Self {
            oldest: ledger.oldest_unfinished().await?,
            queues: operator.connection.queue_depths().await?,
            events: ledger.unfinished_events().await?,
            commands: ledger.unfinished_commands().await?,
            parked: parked(ledger).await?,
            rate_limits: ledger.rate_limits().await?,
            spend_limits: ledger.spend_limits().await?,
            circuits: ledger.circuit_breakers().await?,
            gates: ledger.gates().await?,
            held_back: ledger.held_back().await?.into_iter().filter(|entry| entry.is_used).collect(),
        })
    }

    /// All of it in the order in which one looks.
    pub fn page(&self) -> Page {
        Page::default()
            .fact("oldest_unfinished_seconds", self.oldest, self.oldest_sentence())
            .section("queues", "queues that hold messages (without those in progress)", self.queues_table())
            .section("unfinished_events", "unfinished events", self.events_table())
            .section("unfinished_write_commands", "unfinished write commands", self.commands_table())
            .section(
                "parked",
                "parked in the ledger (`leadline parked list` adds messages that the ledger does not know)",
                self.parked_table(),
            )
            .section(
                "rate_limits",
                "rate limits (used within the window; allowed for the fleet; quota of the account)",
                self.rate_limits_table(),
            )
            .section("spend_limits", "spend limits (today, in UTC)", self.spend_limits_table())
            .section("circuit_breakers", "circuit breakers that are not closed", self.circuits_table())
            .section(
                "rejected_credentials",
                "workers that pause because their credential is rejected (and not for others)",
                self.rejected_table(),
            )
            .section(
                "paused_models",
                "models that do not answer a playbook (a fallback does, or its events wait)",
                self.models_table(),
            )
            .section(
                "gates",
                "playbooks that do not run as their file says, because that version has not passed its gate",
                self.gates_table(),
            )
            .section(
                "held_back",
                "playbooks that step back to review, because too many answers were as it says (`leadline playbook resume`)",
                held_back_table(&self.held_back),
            )
    }

    /// Whether all is done, or how late the fleet is.
    pub fn oldest_sentence(&self) -> String {
        match self.oldest {
            Duration::ZERO => "no event is unfinished".to_owned(),
            age => format!("the oldest unfinished event is {} old", times::duration(age)),
        }
    }

    /// The queues that hold messages.
    pub fn queues_table(&self) -> Table {
        let mut table = Table::new([column("queue", "queue"), column("messages", "messages")]);
        for (route, depth) in self.queues.iter().filter(|(_, depth)| *depth > 0) {
            table.add([route.to_string().into(), (*depth).into()]);
        }
        table
    }

    /// Unfinished events by state and reason.
    pub fn events_table(&self) -> Table {
        let mut table = Table::new([
            column("state", "state"),
            column("reason", "reason"),
            column("events", "events"),
            column("oldest", "oldest_claimed_at"),
            column("key of the oldest", "oldest_key").whole(),
        ]);
        for row in &self.events {
            table.add([
                row.state.into(),
                row.reason.into(),
                row.events.into(),
                row.oldest.into(),
                row.oldest_key.clone().into(),
            ]);
        }
        table
    }

    /// Unfinished write commands by state.
    pub fn commands_table(&self) -> Table {
        let mut table = Table::new([
            column("state", "state"),
            column("write commands", "write_commands"),
            column("oldest", "oldest_recorded_at"),
        ]);
        for row in &self.commands {
            table.add([row.state.into(), row.commands.into(), row.oldest.into()]);
        }
        table
    }

    /// What is parked, by stage and reason.
    pub fn parked_table(&self) -> Table {
        let mut table = Table::new([
            column("stage", "stage"),
            column("reason", "reason"),
            column("parked", "parked"),
            column("newest", "newest_parked_at"),
        ]);
        for row in &self.parked {
            table.add([row.stage.as_str().into(), row.reason.into(), row.parked.into(), row.newest.into()]);
        }
        table
    }

    /// The limits on calls and tokens.
    pub fn rate_limits_table(&self) -> Table {
        let mut table = Table::new([
            column("rate limit", "name").whole(),
            column("share used", "percent_used"),
            column("used", "used"),
            column("allowed", "allowed"),
            column("quota", "quota"),
            column("rejected calls", "rejections"),
            column("paused until", "held_until"),
        ]);
        for limit in &self.rate_limits {
            table.add([
                limit.name.clone().into(),
                Cell::share(limit.used, limit.allowed),
                limit.used.into(),
                limit.allowed.into(),
                limit.quota.into(),
                limit.rejections.into(),
                limit.held_until.into(),
            ]);
        }
        table
    }

    /// The limits on money.
    pub fn spend_limits_table(&self) -> Table {
        let mut table = Table::new([
            column("spend limit", "name").whole(),
            column("share used", "percent_used"),
            column("spent or reserved", "micro_dollars_spent"),
            column("a day", "micro_dollars_per_day"),
            column("", "note"),
        ]);
        for limit in &self.spend_limits {
            let is_reached = limit.micro_dollars_spent >= limit.micro_dollars_per_day;
            table.add([
                limit.name.clone().into(),
                Cell::share(limit.micro_dollars_spent, limit.micro_dollars_per_day),
                Cell::MicroDollars(limit.micro_dollars_spent),
                Cell::MicroDollars(limit.micro_dollars_per_day),
                is_reached.then_some("reached: the work waits until midnight UTC").into(),
            ]);
        }
        table
    }

    /// Circuit breakers of dependencies and credentials that are not closed.
    pub fn circuits_table(&self) -> Table {
        let mut table = Table::new([
            column("circuit breaker", "circuit"),
            column("state", "state"),
            column("open for", "opened_at"),
            column("reason", "reason"),
            column("detail", "detail"),
            column("failed probes", "failed_probes"),
        ]);
        for breaker in self.not_closed() {
            if !matches!(breaker.circuit, Circuit::Model(_)) {
                table.add([
                    breaker.circuit.to_string().into(),
                    breaker.state.into(),
                    breaker.opened_at.into(),
                    breaker.reason.into(),
                    breaker.detail.clone().into(),
                    breaker.probes.into(),
                ]);
            }
        }
        table
    }

    /// Credentials that are rejected for some workers, which pause by themselves.
    pub fn rejected_table(&self) -> Table {
        let mut table = Table::new([
            column("credential", "circuit"),
            column("workers", "workers"),
            column("reason", "reason"),
            column("detail", "detail"),
        ]);
        let is_rejected =
            |breaker: &&CircuitBreaker| !breaker.rejected_by.is_empty() && breaker.state != CircuitBreakerState::Open;
        for breaker in self.circuits.iter().filter(is_rejected) {
            table.add([
                breaker.circuit.to_string().into(),
                breaker.rejected_by.join(", ").into(),
                breaker.reason.into(),
                breaker.detail.clone().into(),
            ]);
        }
        table
    }

    /// Models that do not answer a playbook.
    pub fn models_table(&self) -> Table {
        let mut table = Table::new([
            column("playbook", "playbook"),
            column("version", "version"),
            column("model", "model"),
            column("state", "state"),
            column("for", "opened_at"),
            column("reason", "reason"),
            column("detail", "detail"),
        ]);
        for breaker in self.not_closed() {
            if let Circuit::Model(PlaybookModel { playbook, version, model }) = &breaker.circuit {
                table.add([
                    playbook.clone().into(),
                    version.clone().into(),
                    model.clone().into(),
                    breaker.state.into(),
                    breaker.opened_at.into(),
                    breaker.reason.into(),
                    breaker.detail.clone().into(),
                ]);
            }
        }
        table
    }

    /// Playbooks whose gate is not open.
    pub fn gates_table(&self) -> Table {
        let mut table = Table::new([
            column("playbook", "playbook"),
            column("in the file", "version"),
            column("model", "model"),
            column("gate", "state"),
            column("runs", "runs_version"),
            column("detail", "detail"),
        ]);
        for GateEntry { note: GateNote { wanted, state, runs_version, detail }, .. } in &self.gates {
            if *state != GateState::Open {
                table.add([
                    wanted.playbook.clone().into(),
                    wanted.version.clone().into(),
                    wanted.model.clone().into(),
                    state.as_str().into(),
                    runs_version.clone().into(),
                    detail.clone().into(),
                ]);
            }
        }
        table
    }

    fn not_closed(&self) -> impl Iterator<Item = &CircuitBreaker> {
        self.circuits.iter().filter(|breaker| breaker.state != CircuitBreakerState::Closed)
    }
}

async fn parked(ledger: &Ledger) -> anyhow::Result<Vec<ParkedReason>> {
    let mut reasons: BTreeMap<_, ParkedReason> = BTreeMap::new();
    for entry in ledger.parked().await? {
        let (stage, reason) = (entry.stage, entry.reason);
        let row = reasons.entry((stage, reason.map(Reason::as_str))).or_insert(ParkedReason {
            stage,
            reason,
            parked: 0,
            newest: None,
        });
        row.parked += 1;
        row.newest = row.newest.max(entry.parked_at);
    }
    Ok(reasons.into_values().collect())
}
