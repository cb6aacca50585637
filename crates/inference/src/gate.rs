//! Which version of a playbook with a gate runs: the one in the file when it has passed, else the last one that has, else none.
//!
//! What counts is in the ledger (`leadline playbook eval --record`). A worker decides when it starts. One that runs no version
//! begins as soon as that of its file has passed; one that runs an older version takes the new one when it starts again.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::GateState;
use ledger::{AskedVersion, GateNote, Ledger, LedgerError, PassedVersion, Worker};
use openai::models::Model;
use playbook::Playbook;
use service::Readiness;
use settings::Settings;

use crate::{
    ConfiguredPlaybook,
    model_check::check_models,
    spend::check_spending,
    wiring::{fallbacks_of, model_of},
};

/// How often a worker looks whether a version has passed meanwhile, and says what it runs.
pub const GATE_POLL: Duration = Duration::from_secs(10);

/// How long a starting worker waits before it asks a ledger again that did not answer.
const LEDGER_WAIT: Duration = Duration::from_secs(1);

/// What a gate lets a worker run.
#[derive(Debug)]
pub enum GateDecision {
    /// The version in the file, which has passed.
    Open,
    /// The last version that has passed.
    Behind(StandIn),
    /// Nothing.
    Closed {
        /// Why.
        why: String,
    },
}

/// A version that runs instead of the one in the file.
#[derive(Debug)]
pub struct StandIn {
    /// The playbook, told to ask its model as it was when it passed.
    pub playbook: Box<Playbook>,
    /// Its report.
    pub passed: PassedVersion,
}

/// What an evaluation of `playbook` with `model` is about.
pub fn asked_version(playbook: &Playbook, model: &Model) -> AskedVersion {
    AskedVersion {
        playbook: playbook.name.clone(),
        version: playbook.version.clone(),
        model: model.name.clone(),
        effort: model.effort(playbook.model.effort),
    }
}

/// What the gate of `playbook` lets a worker with these settings run beside `others`.
///
/// # Errors
/// The ledger does not say.
pub async fn decide(
    settings: &Settings,
    ledger: &Ledger,
    playbook: &Playbook,
    others: &[&Playbook],
) -> Result<GateDecision, LedgerError> {
    if ledger.has_passed(&asked_version(playbook, &model_of(settings, playbook))).await? {
        return Ok(GateDecision::Open);
    }
    let Some(passed) = ledger.last_passed(&playbook.name).await? else {
        return Ok(GateDecision::Closed { why: "no version of it has passed".to_owned() });
    };
    Ok(match stand_in(settings, &passed, others) {
        Ok(playbook) => GateDecision::Behind(StandIn { playbook: Box::new(playbook), passed }),
        Err(why) => {
            let AskedVersion { version, model, .. } = &passed.asked;
            GateDecision::Closed { why: format!("version {version} has passed with {model}, and cannot run: {why}") }
        }
    })
}

/// The playbook of a stored version, read and checked as those in the folder are. `Err` says what is wrong with it.
fn stand_in(settings: &Settings, passed: &PassedVersion, others: &[&Playbook]) -> Result<Playbook, String> {
    let PassedVersion { asked, file_text, .. } = passed;
    let file = format!("{}@{}", asked.playbook, asked.version);
    let protected = &settings.inference.protected_properties;
    let mut playbook = playbook::load_text(&file, file_text, protected, others.iter().copied())
        .map_err(|findings| findings.to_string())?;
    playbook.effects.escapes_formulas = settings.inference.escape_formulas;
    // What the settings say of models may have changed since: it has passed with this one.
    playbook.model.name = Some(asked.model.clone());
    let model = model_of(settings, &playbook);
    if model.reasoning.is_some() {
        playbook.model.effort = Some(asked.effort);
    }
    if asked_version(&playbook, &model) != *asked {
        return Err("the ledger holds another text, or its model is asked in another way today".to_owned());
    }
    let with_model = || std::iter::once((&playbook, &model));
    let mut problems = check_spending(settings, with_model()).problems;
    problems.extend(check_models(settings.openai.api, with_model()));
    if problems.is_empty() { Ok(playbook) } else { Err(problems.join("\n")) }
}

/// Lets each playbook with a gate be what its gate says, as soon as the ledger answers. Of its fallbacks those stay that have
/// passed with the same version.
pub async fn enter(
    settings: &Settings,
    mut playbooks: Vec<ConfiguredPlaybook>,
    ledger: &Ledger,
) -> Vec<ConfiguredPlaybook> {
    for index in 0..playbooks.len() {
        if !playbooks[index].playbook.is_gated() {
            continue;
        }
        let (decision, fallbacks) = loop {
            match look(settings, ledger, &playbooks, index).await {
                Ok(found) => break found,
                Err(error) => {
                    tracing::warn!(%error, "the ledger does not say yet which playbooks have passed their gates");
                    tokio::time::sleep(LEDGER_WAIT).await;
                }
            }
        };
        let one = &mut playbooks[index];
        let wanted = asked_version(&one.playbook, &one.model);
        one.gate = Some(GatedPlaybook::new(wanted, &decision));
        one.fallbacks = fallbacks;
        if let GateDecision::Behind(StandIn { playbook, .. }) = decision {
            one.model = model_of(settings, &playbook);
            one.playbook = *playbook;
        }
    }
    playbooks
}

async fn look(
    settings: &Settings,
    ledger: &Ledger,
    playbooks: &[ConfiguredPlaybook],
    index: usize,
) -> Result<(GateDecision, Vec<Model>), LedgerError> {
    let own = &playbooks[index].playbook;
    let all = playbooks.iter().map(|one| &one.playbook);
    let others: Vec<_> = all.filter(|other| other.name != own.name).collect();
    let decision = decide(settings, ledger, own, &others).await?;
    let runs = match &decision {
        GateDecision::Behind(StandIn { playbook, .. }) => playbook,
        GateDecision::Open | GateDecision::Closed { .. } => own,
    };
    let mut fallbacks = Vec::new();
    for model in fallbacks_of(settings, runs) {
        if ledger.has_passed(&asked_version(runs, &model)).await? {
            fallbacks.push(model);
        } else {
            tracing::warn!(
                playbook = runs.name,
                model = model.name,
                "a fallback has not passed the gate and is not asked"
            );
        }
    }
    Ok((decision, fallbacks))
}

/// A playbook with a gate, as this worker runs it. Cheap to clone; clones share what is known.
#[derive(Clone)]
pub struct GatedPlaybook(Arc<Mutex<GateNote>>);

impl GatedPlaybook {
    fn new(wanted: AskedVersion, decision: &GateDecision) -> Self {
        let (state, runs_version, detail) = match decision {
            GateDecision::Open => (GateState::Open, Some(wanted.version.clone()), None),
            GateDecision::Behind(StandIn { passed, .. }) => {
                let AskedVersion { version, model, .. } = &passed.asked;
                let detail = format!("runs {version} with {model}, the last that has passed");
                (GateState::Behind, Some(version.clone()), Some(detail))
            }
            GateDecision::Closed { why } => (GateState::Closed, None, Some(why.clone())),
        };
        let gate = Self(Arc::new(Mutex::new(GateNote { wanted, state, runs_version, detail })));
        let note = gate.note();
        match note.state {
            GateState::Open => tracing::info!("{}", sentence(&note)),
            GateState::Behind | GateState::Closed => tracing::warn!("{}", sentence(&note)),
        }
        set_gauge(&note);
        gate
    }

    /// Why the playbook may not ask, if so.
    pub(crate) fn closed(&self) -> Option<String> {
        let note = self.known();
        (note.state == GateState::Closed).then(|| sentence(&note))
    }

    fn known(&self) -> MutexGuard<'_, GateNote> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self) -> GateNote {
        self.known().clone()
    }

    /// Looks whether the version in the file has passed meanwhile, and tells the ledger what runs.
    async fn refresh(&self, ledger: &Ledger, worker: &Worker) -> Result<(), LedgerError> {
        let GateNote { wanted, state, .. } = self.note();
        if state != GateState::Open && ledger.has_passed(&wanted).await? {
            let mut note = self.known();
            if state == GateState::Closed {
                *note = GateNote {
                    state: GateState::Open,
                    runs_version: Some(wanted.version.clone()),
                    detail: None,
                    wanted,
                };
                tracing::info!("{}", sentence(&note));
            } else {
                note.detail = Some("it has passed since, and runs when the worker starts again".to_owned());
            }
        }
        let note = self.note();
        set_gauge(&note);
        ledger.note_gate(&note, worker).await
    }
}

/// The gates of a worker's playbooks. Cheap to clone; clones share what is known.
#[derive(Clone)]
pub(crate) struct Gates(Vec<GatedPlaybook>);

impl Gates {
    /// Those of these playbooks.
    pub(crate) fn of(playbooks: &[ConfiguredPlaybook]) -> Self {
        Self(playbooks.iter().filter_map(|one| one.gate.clone()).collect())
    }

    /// Adds a warning to `/readyz` of every playbook that does not run as its file says.
    pub(crate) fn add_note(&self, readiness: Readiness) -> Readiness {
        let gates = self.clone();
        readiness.with_note(move || {
            let notes = gates.0.iter().map(GatedPlaybook::note).filter(|note| note.state != GateState::Open);
            let said: Vec<_> = notes.map(|note| sentence(&note)).collect();
            (!said.is_empty()).then(|| said.join("; "))
        })
    }

    /// Goes on looking at the gates, as long as there are any.
    pub(crate) async fn watch(&self, ledger: &Ledger, worker: &Worker) {
        while !self.0.is_empty() {
            for gate in &self.0 {
                if let Err(error) = gate.refresh(ledger, worker).await {
                    tracing::debug!(%error, "the ledger does not say which playbooks have passed their gates");
                }
            }
            tokio::time::sleep(GATE_POLL).await;
        }
    }
}

/// What a worker makes of a gate, in words.
fn sentence(note: &GateNote) -> String {
    let AskedVersion { playbook, version, model, effort } = &note.wanted;
    let detail = note.detail.as_deref().unwrap_or_default();
    match note.state {
        GateState::Open => format!("{playbook}@{version} has passed its gate with {model} (effort {effort})"),
        GateState::Behind => {
            format!("{playbook}@{version} has not passed its gate with {model} (effort {effort}): {detail}")
        }
        GateState::Closed => format!(
            "{playbook}@{version} has not passed its gate with {model} (effort {effort}), and its events wait: {detail}"
        ),
    }
}

fn set_gauge(note: &GateNote) {
    for state in GateState::ALL {
        let labels = [("playbook", note.wanted.playbook.clone()), ("state", state.as_str().to_owned())];
        metrics::gauge!("leadline_playbook_gate", &labels).set(if *state == note.state { 1.0 } else { 0.0 });
    }
}
