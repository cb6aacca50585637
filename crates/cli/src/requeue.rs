//! `leadline event requeue`: publishes an event again, whatever became of its message.

use std::{path::Path, process::ExitCode};

use anyhow::bail;
use broker::{Route, Stage};
use domain::EventState;

use crate::operator::Operator;

pub async fn run(file: Option<&Path>, key_or_id: &str) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(file).await?;
    let Some(event) = operator.ledger.event_to_requeue(key_or_id).await? else {
        bail!("the ledger has no event `{key_or_id}`");
    };
    let publisher = &operator.publisher;
    match event.state {
        EventState::Claimed if event.is_leased => {
            bail!("a worker has it; when that one dies, its lease ends by itself")
        }
        EventState::Parked | EventState::Claimed | EventState::Waiting => {
            if event.state == EventState::Parked {
                operator.ledger.replay_event(&event.key).await?;
            }
            publisher.publish(Route::Queue(Stage::Events), &maintenance::payload_message(&event.payload)?).await?;
            operator.ledger.record_requeue(&[event.id], &[]).await?;
            println!("published again: {} (it was {})", event.key, event.state);
        }
        EventState::Decided => {
            let ids: Vec<_> = event.commands.iter().map(|command| command.id.0).collect();
            for command in &event.commands {
                publisher.publish(Route::Queue(Stage::Writes), &maintenance::command_message(command)?).await?;
            }
            operator.ledger.record_requeue(&[], &ids).await?;
            println!("published again: {} write commands of {}", ids.len(), event.key);
        }
        ended => bail!("it has ended ({ended}); `leadline playbook run` asks a playbook about its record again"),
    }
    Ok(ExitCode::SUCCESS)
}
