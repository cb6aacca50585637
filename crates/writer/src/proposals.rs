//! Proposes: what is reviewed, or in shadow, is not written. The ledger gets what would have been.

use std::collections::HashMap;

use broker::Disposition;
use domain::{
    CommandState, Reason, WriteCommandId,
    review::WriteMode,
    write_command::{Action, ActionSpec, ExpectedValue},
};
use ledger::{EndedAction, LatestWrites, Proposal, ProposedWrite};
use playbook::{ProposedChange, approving_rule};

use crate::{
    actions::{Outlook, count},
    batch::BatchExecutor,
    corrections::corrections_by_people,
    current_values::CurrentValues,
    deals::STAGE,
    failure::ActionError,
    outcome::CommandOutcome,
    plan::{CommandPart, RecordUpdate, TakenCommand},
};

/// What a command would do, as far as anything is left of it.
#[derive(Default)]
struct Held<'a> {
    writes: Vec<ProposedWrite>,
    actions: Vec<&'a Action>,
    /// Actions that are not proposed, because they end without it.
    ended: Vec<EndedAction>,
}

impl BatchExecutor {
    /// Compares, for approved commands that move a deal, its stage with the one that the reviewer saw. Parts whose deal somebody has
    /// moved since ask again. Returns the commands whose deal cannot be looked at.
    pub(crate) async fn compare_stages(
        &self,
        updates: &mut [RecordUpdate],
        latest: &LatestWrites,
    ) -> HashMap<WriteCommandId, ActionError> {
        let mut failed = HashMap::new();
        for part in updates.iter_mut().flat_map(|update| &mut update.parts) {
            let approved = part.taken.command.terms.approved.as_ref();
            let Some(seen) = approved.and_then(|approved| approved.deal_stage.as_ref()) else { continue };
            match self.is_moved_on(&part.taken, seen, latest).await {
                Ok(is_moved_on) => part.asks_again = is_moved_on,
                Err(error) => {
                    // Nothing of it is written before its deal was looked at.
                    part.changes.clear();
                    failed.insert(part.taken.command.id, error);
                }
            }
        }
        failed
    }

    async fn is_moved_on(
        &self,
        taken: &TakenCommand,
        seen: &ExpectedValue,
        latest: &LatestWrites,
    ) -> Result<bool, ActionError> {
        let scope = (latest, self.rules.app_id);
        let moves = taken.command.actions.iter().filter(|action| matches!(action.spec, ActionSpec::MoveDeal(_)));
        for action in moves {
            if let Outlook::Move { before, .. } = self.actions.outlook(taken, action, scope).await? {
                return Ok(before != seen.value);
            }
        }
        Ok(false)
    }

    /// The outcome of a command of which nothing is written: a proposal, or, in shadow, the end. What an attempt after an earlier
    /// approval has written and done is recorded with it, and not proposed again.
    pub(crate) async fn propose(
        &self,
        part: &CommandPart,
        current: &CurrentValues,
        latest: &LatestWrites,
    ) -> CommandOutcome {
        let held = match self.held(part, current, latest).await {
            Ok(held) => held,
            Err(error) => return self.failures.failed(&part.taken, &error),
        };
        let is_shadow = part.taken.command.terms.mode == WriteMode::Shadow;
        let is_empty = held.writes.is_empty() && held.actions.is_empty();
        let rule = if is_shadow || is_empty || part.asks_again { None } else { rule_for(part, &held) };
        let (state, reason) = match &rule {
            _ if is_shadow => (CommandState::Skipped, Some(Reason::Shadow)),
            _ if is_empty => {
                let by_policy = part.skipped_writes.first().map(|skipped| skipped.reason);
                (
                    CommandState::Skipped,
                    by_policy.or(held.ended.iter().find_map(|ended| ended.reason)).or(Some(Reason::UnchangedValue)),
                )
            }
            Some(_) => (CommandState::Waiting, Some(Reason::Approved)),
            None => (CommandState::Proposed, part.asks_again.then_some(Reason::ValueChanged)),
        };
        let disposition = if rule.is_some() { Disposition::defer(Reason::Approved) } else { Disposition::Done };
        let mut outcome = CommandOutcome::new(&part.taken, state, disposition);
        outcome.with_actions = None;
        outcome.is_approved = rule.is_some();
        outcome.row.reason = reason;
        outcome.row.written.clone_from(&part.unrecorded);
        outcome.row.skipped_writes.clone_from(&part.skipped_writes);
        outcome.row.corrections = corrections_by_people(part, current, latest, self.app());
        let expires_after = self.rules.proposals_expire_after;
        let proposal = Proposal { writes: held.writes, approved_by: rule, expires_after };
        outcome.row.proposal = (!is_empty).then_some(proposal);
        outcome.row.ended_actions = held.ended;
        outcome
    }

    /// What is left of a command: the values that differ from those of the record, and the actions that would be carried out.
    async fn held<'a>(
        &self,
        part: &'a CommandPart,
        current: &CurrentValues,
        latest: &LatestWrites,
    ) -> Result<Held<'a>, ActionError> {
        let command = &part.taken.command;
        let values = current.get(&command.record);
        let mut held = Held::default();
        for change in &part.changes {
            let now = values.and_then(|values| values.get(&change.property));
            if !now.is_some_and(|now| now.equals(&change.value)) {
                let before = now.and_then(|now| now.value.clone());
                let (property, proposed) = (change.property.clone(), change.value.clone());
                held.writes.push(ProposedWrite { property, before, proposed });
            }
        }
        let scope = (latest, self.rules.app_id);
        for action in &command.actions {
            match self.actions.outlook(&part.taken, action, scope).await? {
                Outlook::Over => continue,
                Outlook::Ends(ended) => {
                    count(action, ended.state);
                    held.ended.push(ended);
                    continue;
                }
                Outlook::Move { before, after } if held.writes.iter().all(|write| write.property != STAGE) => {
                    held.writes.push(ProposedWrite { property: STAGE.to_owned(), before, proposed: after });
                }
                Outlook::Move { .. } | Outlook::Due => {}
            }
            held.actions.push(action);
        }
        Ok(held)
    }
}

/// The name of the rule that approves what is left of a command.
fn rule_for(part: &CommandPart, held: &Held<'_>) -> Option<String> {
    let mut changes = Vec::new();
    for ProposedWrite { property, before, proposed } in &held.writes {
        changes.push(ProposedChange { property, before: before.as_deref(), after: proposed });
    }
    let actions: Vec<_> = held.actions.iter().map(|action| action.name.as_str()).collect();
    match approving_rule(&part.taken.command.terms.review, &changes, &actions) {
        Ok(rule) => rule.map(|rule| rule.name.clone()),
        Err(error) => {
            let command = part.taken.command.id;
            tracing::warn!(%command, %error, "a rule of the playbook cannot be evaluated; a person decides");
            None
        }
    }
}
