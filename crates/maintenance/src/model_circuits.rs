//! Circuit breakers of models: one that is gone, forbidden or refuses a parameter concerns the playbooks that ask it, and no
//! other work.
//!
//! Each playbook has a circuit for each of its models. What a worker is told goes into the ledger before it goes on, and every
//! worker reads it from there. While a circuit is open, the playbook's next model is asked, or its events wait. A model that is
//! back, or may be, is asked about one event at a time until it answers.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{Circuit, CircuitBreakerState, EventId, PlaybookModel, Reason};
use ledger::{CircuitBreaker, LEDGER_RETRY, Ledger, LedgerError, ProbeDelays, Worker};
use service::Readiness;
use tokio::time::Instant;

use crate::{breaker::others_first, breaker_sync::PROBE_TIMEOUT};

/// Asks whether there is a model with this name, without a question that costs money. Where that cannot be known, an event has to
/// find it out, and the answer is yes.
pub type ModelProbe = Box<dyn Fn(String) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// What a model refused, whatever the question was about.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// The reason in words.
    pub detail: String,
    /// What it does not take, a parameter for example, where the event's own data may be to blame: then several events decide.
    /// `None` when it is away for any request.
    pub parameter: Option<String>,
}

/// No model of a playbook can be asked at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPause {
    /// Which, and why, for people.
    pub why: String,
    /// The next attempt makes sense after this.
    pub after: Duration,
    /// Whether an event's own question paused the model although it had answered others since the last time.
    pub opened_again: bool,
}

/// The turns of one event: half-open circuits of which no other event of this process may ask the model meanwhile.
#[derive(Debug, Default)]
pub struct Turns(Vec<Turn>);

#[derive(Debug)]
struct Turn {
    circuits: ModelCircuits,
    model: PlaybookModel,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(mut known) = self.circuits.known(&self.model) {
            known.is_turn_taken = false;
        }
    }
}

impl Turns {
    fn holds(&self, model: &PlaybookModel) -> bool {
        self.0.iter().any(|turn| turn.model == *model)
    }
}

/// Whether and how a model may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    Freely,
    /// As the only one of the fleet.
    Alone,
}

/// The right to ask a model. What came of it has to be said to [`ModelCircuits`].
#[derive(Debug)]
pub struct Permission {
    model: PlaybookModel,
    asking: Asking,
}

/// The circuit breakers of all models of all playbooks. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct ModelCircuits(Arc<Shared>);

struct Shared {
    circuits: HashMap<PlaybookModel, Mutex<Known>>,
    settings: settings::CircuitBreakerSection,
    ledger: Ledger,
    worker: Worker,
    /// How long a question may take whose answer the fleet waits for.
    lease: Duration,
    probe: ModelProbe,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("circuits", &self.circuits).finish_non_exhaustive()
    }
}

/// A circuit, as this process knows it.
#[derive(Debug)]
struct Known {
    state: CircuitBreakerState,
    why: String,
    due_at: Instant,
    refused_events: i32,
    is_turn_taken: bool,
    /// Whether the model has answered here since its circuit was last opened.
    has_answered: bool,
    /// When this process changed it: what was read from the ledger before is out of date.
    changed_at: Instant,
}

impl Known {
    fn is_closed(&self) -> bool {
        self.state == CircuitBreakerState::Closed
    }

    fn set(&mut self, state: CircuitBreakerState) {
        self.state = state;
        self.changed_at = Instant::now();
    }

    fn pause(&self, model: &PlaybookModel) -> ModelPause {
        let after = match self.state {
            CircuitBreakerState::Open => self.due_at.saturating_duration_since(Instant::now()),
            // It may answer any moment.
            CircuitBreakerState::HalfOpen | CircuitBreakerState::Closed => Duration::ZERO,
        };
        ModelPause { why: format!("{}: {}", model.model, self.why), after, opened_again: false }
    }
}

impl ModelCircuits {
    /// The circuits of `models`, all closed until the ledger says otherwise. `lease` is the longest time that one question may
    /// take.
    pub fn new(
        settings: &settings::CircuitBreakerSection,
        models: impl IntoIterator<Item = PlaybookModel>,
        (ledger, worker): (Ledger, Worker),
        lease: Duration,
        probe: ModelProbe,
    ) -> Self {
        let closed = |model| {
            let now = Instant::now();
            let known = Known {
                state: CircuitBreakerState::Closed,
                why: String::new(),
                due_at: now,
                refused_events: 0,
                is_turn_taken: false,
                has_answered: false,
                changed_at: now,
            };
            (model, Mutex::new(known))
        };
        let circuits = models.into_iter().map(closed).collect();
        Self(Arc::new(Shared { circuits, settings: settings.clone(), ledger, worker, lease, probe }))
    }

    fn known(&self, model: &PlaybookModel) -> Option<MutexGuard<'_, Known>> {
        Some(self.0.circuits.get(model)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether an event may go on to ask one of `models`, the first that is not away. Of a model that may be back, one event at
    /// a time finds out.
    ///
    /// # Errors
    /// All of them are away.
    pub fn admit<'a>(&self, models: impl IntoIterator<Item = &'a PlaybookModel>) -> Result<Turns, ModelPause> {
        let mut pauses = Vec::new();
        for model in models {
            let Some(mut known) = self.known(model) else { return Ok(Turns::default()) };
            match known.state {
                CircuitBreakerState::Closed => return Ok(Turns::default()),
                CircuitBreakerState::HalfOpen if !known.is_turn_taken => {
                    known.is_turn_taken = true;
                    return Ok(Turns(vec![Turn { circuits: self.clone(), model: model.clone() }]));
                }
                CircuitBreakerState::HalfOpen | CircuitBreakerState::Open => pauses.push(known.pause(model)),
            }
        }
        Err(ModelPause::of_all(pauses))
    }

    /// The right to ask `model` now. What comes of the question is to be said by [`Self::answered`], [`Self::refused`] or
    /// [`Self::give_back`].
    ///
    /// # Errors
    /// The inner error: it is away, or another event asks it. The outer one: the ledger does not say.
    pub async fn permission(
        &self,
        model: &PlaybookModel,
        turns: &Turns,
    ) -> Result<Result<Permission, ModelPause>, LedgerError> {
        let permission = |asking| Permission { model: model.clone(), asking };
        let (state, pause) = match self.known(model) {
            Some(known) if !known.is_closed() => (known.state, known.pause(model)),
            _ => return Ok(Ok(permission(Asking::Freely))),
        };
        if state == CircuitBreakerState::Open || !turns.holds(model) {
            return Ok(Err(pause));
        }
        let Shared { ledger, worker, lease, .. } = &*self.0;
        let is_ours = retry::run(&LEDGER_RETRY, || ledger.take_turn(model, worker, *lease)).await?;
        Ok(if is_ours { Ok(permission(Asking::Alone)) } else { Err(pause) })
    }

    /// The model has answered: an outage of it is over, and what it refused before was not its own.
    pub async fn answered(&self, permission: Permission) {
        let Permission { model, asking } = permission;
        let Some(refused_events) = self.known(&model).map(|mut known| {
            known.has_answered = true;
            known.refused_events
        }) else {
            return;
        };
        let Shared { ledger, worker, .. } = &*self.0;
        let noted = match asking {
            Asking::Alone => ledger.close_circuit_breaker(&Circuit::Model(model.clone()), worker).await.map(drop),
            Asking::Freely if refused_events > 0 => ledger.forget_refused_parameter(&model).await,
            Asking::Freely => return,
        };
        match noted {
            Ok(()) => {
                if asking == Asking::Alone {
                    tracing::warn!(playbook = model.playbook, model = model.model, "the model answers again");
                }
                if let Some(mut known) = self.known(&model) {
                    known.refused_events = 0;
                    known.set(CircuitBreakerState::Closed);
                }
            }
            // The answer counts all the same; the turn ends by itself, and the next event finds it out again.
            Err(error) => tracing::warn!(%error, "that a model answers again is not in the ledger"),
        }
    }

    /// Nothing is known about the model: the question failed for another reason.
    pub async fn give_back(&self, permission: Permission) {
        let Permission { model, asking } = permission;
        if asking == Asking::Alone
            && let Err(error) = self.0.ledger.give_turn_back(&model, &self.0.worker).await
        {
            tracing::debug!(%error, "the turn to ask a model is not given back; it ends by itself");
        }
    }

    /// The model refused the question of `event` for a reason that holds for any other. Returns the pause that follows; `None`
    /// while a parameter was refused for too few events to tell that it is not the event's own.
    ///
    /// # Errors
    /// The ledger did not take it.
    pub async fn refused(
        &self,
        permission: Permission,
        event: EventId,
        refused: &Refused,
    ) -> Result<Option<ModelPause>, LedgerError> {
        let Permission { model, asking } = permission;
        let Shared { ledger, worker, settings, .. } = &*self.0;
        if let (Some(parameter), Asking::Freely) = (&refused.parameter, asking) {
            let note = || ledger.note_refused_parameter(&model, parameter, event, worker);
            let events = retry::run(&LEDGER_RETRY, note).await?;
            if let Some(events) = events.filter(|events| i64::from(*events) < i64::from(settings.refusal_threshold)) {
                if let Some(mut known) = self.known(&model) {
                    known.refused_events = events;
                }
                return Ok(None);
            }
        }
        let circuit = Circuit::Model(model.clone());
        let open = || ledger.open_circuit_breaker(&circuit, refused.reason, &refused.detail, worker, self.delays());
        let is_new = retry::run(&LEDGER_RETRY, open).await?;
        if is_new {
            tracing::error!(
                playbook = model.playbook,
                model = model.model,
                reason = %refused.reason,
                detail = refused.detail,
                "the model does not answer this playbook; it is not asked until it does, or the playbook is edited"
            );
            let labels = [
                ("playbook", model.playbook.clone()),
                ("model", model.model.clone()),
                ("reason", refused.reason.as_str().to_owned()),
            ];
            metrics::counter!("leadline_playbook_pauses_total", &labels).increment(1);
        }
        Ok(self.known(&model).map(|mut known| {
            let opened_again = is_new && std::mem::take(&mut known.has_answered);
            known.why = format!("{}: {}", refused.reason, refused.detail);
            known.due_at = Instant::now() + self.delays().first;
            known.set(CircuitBreakerState::Open);
            ModelPause { opened_again, ..known.pause(&model) }
        }))
    }

    fn delays(&self) -> ProbeDelays {
        let settings = &self.0.settings;
        ProbeDelays {
            first: Duration::from_secs(settings.probe_first_seconds),
            max: Duration::from_secs(settings.model_probe_max_seconds),
            others_first: others_first(settings),
        }
    }

    /// Adds a warning to `/readyz` while a model is away: the worker does its other work.
    pub fn add_note(&self, readiness: Readiness) -> Readiness {
        let circuits = self.clone();
        readiness.with_note(move || {
            let describe = |model: &PlaybookModel| {
                let known = circuits.known(model).filter(|known| !known.is_closed())?;
                Some(format!("the playbook {} does not ask {}, {}", model.playbook, model.model, known.why))
            };
            let mut paused: Vec<_> = circuits.0.circuits.keys().filter_map(describe).collect();
            paused.sort();
            (!paused.is_empty()).then(|| paused.join("; "))
        })
    }

    /// Takes over what the ledger said at `asked_at`, and probes what is due, if this process may: whose key is rejected finds out nothing
    /// about a model.
    pub(crate) async fn follow(
        &self,
        rows: &[CircuitBreaker],
        asked_at: Instant,
        may_probe: bool,
    ) -> Result<(), LedgerError> {
        let is_of =
            |row: &CircuitBreaker, model: &PlaybookModel| matches!(&row.circuit, Circuit::Model(of) if of == model);
        for model in self.0.circuits.keys() {
            let row = rows.iter().find(|row| is_of(row, model));
            self.adopt(model, row, asked_at);
            if let Some(row) = row.filter(|row| may_probe && row.state == CircuitBreakerState::Open && row.is_due)
                && self.0.ledger.take_probe(&row.circuit, &self.0.worker, self.delays()).await?
            {
                // On its own: the probe of a model must not delay what is known about the others.
                let has_waited_longest = self.delays().is_longest_after(row.probes);
                tokio::spawn(self.clone().probe(model.clone(), row.reason, has_waited_longest));
            }
        }
        Ok(())
    }

    fn adopt(&self, model: &PlaybookModel, row: Option<&CircuitBreaker>, asked_at: Instant) {
        let Some(mut known) = self.known(model).filter(|known| known.changed_at <= asked_at) else { return };
        let state = row.map_or(CircuitBreakerState::Closed, |row| row.state);
        if known.state != state {
            let (playbook, model) = (&model.playbook, &model.model);
            tracing::warn!(playbook, model, state = state.as_str(), "the circuit breaker of a model has a new state");
        }
        known.state = state;
        if let Some(row) = row {
            let reason = row.reason.map_or("", Reason::as_str);
            known.why = format!("{reason}: {}", row.detail.as_deref().unwrap_or_default());
            known.due_at = Instant::now() + row.due_in;
            known.refused_events = row.refused_events;
        }
        let labels = [("playbook", model.playbook.clone()), ("model", model.model.clone())];
        metrics::gauge!("leadline_playbook_model_paused", &labels).set(if known.is_closed() { 0.0 } else { 1.0 });
    }

    /// Lets one event at a time ask a model that is there again. Whether a parameter is taken again, only a question says. So it is
    /// after the longest wait, whatever is said of the model: it may answer all the same, and a refusal costs nothing.
    async fn probe(self, model: PlaybookModel, reason: Option<Reason>, has_waited_longest: bool) {
        let is_there = has_waited_longest
            || reason == Some(Reason::OpenAiInvalidRequest)
            || tokio::time::timeout(PROBE_TIMEOUT, (self.0.probe)(model.model.clone())).await.unwrap_or(false);
        tracing::info!(playbook = model.playbook, model = model.model, is_there, "probed a model");
        if !is_there {
            return;
        }
        let circuit = Circuit::Model(model);
        let half_opened = self.0.ledger.half_open_circuit_breaker(&circuit, &self.0.worker, Duration::ZERO).await;
        if let Err(error) = half_opened {
            tracing::debug!(%error, "a model that is there again is not in the ledger; it is probed again");
        }
    }
}

impl ModelPause {
    /// The pause of a playbook whose models are all away: until the first of them may be back.
    pub fn of_all(pauses: Vec<Self>) -> Self {
        Self {
            after: pauses.iter().map(|pause| pause.after).min().unwrap_or_default(),
            opened_again: pauses.iter().any(|pause| pause.opened_again),
            why: pauses.into_iter().map(|pause| pause.why).collect::<Vec<_>>().join("; "),
        }
    }
}
