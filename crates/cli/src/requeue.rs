//! `leadline event requeue`: publishes the message of an event, or of its write commands, again.

use std::{path::Path, process::ExitCode};

use anyhow::bail;
use broker::{Route, Stage};
use domain::{EventKey, EventState};

use crate::{operator::Operator, print::say};

pub async fn run(file: Option<&Path>, key_or_id: &str) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let Some(event) = operator.ledger.event_to_requeue(key_or_id).await? else {
        bail!("the ledger has no event `{key_or_id}`");
    };
    let (publisher, state) = (&operator.publisher, event.state);
    match state {
        EventState::Claimed if event.is_leased => {
            bail!("a worker holds the event; should the worker die, another takes over when its lease ends")
        }
        EventState::Parked | EventState::Claimed | EventState::Waiting => {
            if state == EventState::Parked {
                operator.ledger.replay_event(&event.key).await?;
            }
            let stage = Stage::of_event(&EventKey::from_text(event.key.as_str()));
            publisher.publish(Route::Queue(stage), &maintenance::payload_message(&event.payload)?).await?;
            operator.ledger.record_requeue(&[event.id], &[]).await?;
            say!("published the event again: {} (it was {state})", event.key);
        }
        EventState::Decided => {
            let ids: Vec<_> = event.commands.iter().map(|command| command.0).collect();
            for command in &event.commands {
                publisher.publish(Route::Queue(Stage::Writes), &maintenance::command_message(*command)).await?;
            }
            operator.ledger.record_requeue(&[], &ids).await?;
            say!("published {} write commands of the event again: {}", ids.len(), event.key);
        }
        EventState::Proposed => {
            bail!("what the event led to waits for approval; `leadline review list --record …` shows it")
        }
        EventState::Written | EventState::Skipped | EventState::Superseded | EventState::Dropped => {
            bail!("the event has ended ({state}); `leadline playbook run` runs a playbook for its record again")
        }
    }
    Ok(ExitCode::SUCCESS)
}
