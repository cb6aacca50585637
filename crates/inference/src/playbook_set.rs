//! The playbooks that the fleet runs, and which of them an event can start.

use domain::{AppId, Event, PlaybookModel, PortalId, hash::sha256_hex_of_list};
use openai::models::Model;
use playbook::{Playbook, TemplateError};

use crate::{gate::GatedPlaybook, loop_guard::LoopGuard};

/// A playbook with the facts about its models.
pub struct ConfiguredPlaybook {
    /// The playbook.
    pub playbook: Playbook,
    /// Context window, longest answer and price of the model that the playbook asks.
    pub model: Model,
    /// The same of the models that answer while those before are away.
    pub fallbacks: Vec<Model>,
    /// What its gate lets this worker run; `None` of a playbook without one.
    pub gate: Option<GatedPlaybook>,
}

impl ConfiguredPlaybook {
    /// Its models, in the order in which they are asked.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        std::iter::once(&self.model).chain(&self.fallbacks)
    }

    /// The circuit of one of its models.
    pub fn circuit(&self, model: &Model) -> PlaybookModel {
        let Playbook { name, version, .. } = &self.playbook;
        PlaybookModel { playbook: name.clone(), version: version.clone(), model: model.name.clone() }
    }
}

/// Tells sets of playbooks apart: by their versions, and the models that they ask.
pub(crate) fn digest(playbooks: &[ConfiguredPlaybook]) -> String {
    let circuits: Vec<_> = playbooks.iter().flat_map(|one| one.models().map(|model| one.circuit(model))).collect();
    sha256_hex_of_list(
        circuits.iter().flat_map(|PlaybookModel { playbook, version, model }| [&**playbook, version, model]),
    )
}

/// Every playbook of a fleet, with the loop guard over all properties and engagements that they write.
pub struct PlaybookSet {
    playbooks: Vec<ConfiguredPlaybook>,
    loop_guard: LoopGuard,
    portal_id: PortalId,
}

impl PlaybookSet {
    /// The playbooks for one portal. `app_id` is the HubSpot app that the fleet writes as.
    pub fn new(playbooks: Vec<ConfiguredPlaybook>, portal_id: PortalId, app_id: AppId) -> Self {
        let loop_guard = LoopGuard::new(app_id, playbooks.iter().map(|configured| &configured.playbook));
        Self { playbooks, loop_guard, portal_id }
    }

    /// The loop guard over what these playbooks write.
    pub fn loop_guard(&self) -> &LoopGuard {
        &self.loop_guard
    }

    /// The portal whose records the playbooks read and write.
    pub fn portal_id(&self) -> PortalId {
        self.portal_id
    }

    /// The playbooks that `event` can start: a trigger fits as far as the event alone shows. Conditions on the record are
    /// evaluated later, when the context is read.
    ///
    /// # Errors
    /// A condition of a trigger cannot be evaluated.
    pub fn started_by(&self, event: &Event) -> Result<Vec<&ConfiguredPlaybook>, TemplateError> {
        let mut started = Vec::new();
        for configured in &self.playbooks {
            if configured.playbook.may_be_triggered_by(event)? {
                started.push(configured);
            }
        }
        Ok(started)
    }
}
