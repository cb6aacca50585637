//! Contacts whose names are their numbers, so that a test sees what was done for which.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lab::{Fleet, SimulatorClient};
use simulator::admin::{Edit, NewContact};
use testbed::Role;
use time::OffsetDateTime;

use fixtures::{BUYER, ask, tasks, until};

/// A contact whose name is its number, with a note.
pub async fn lead(simulator: &SimulatorClient, id: i64, note: &str) {
    let properties = [("firstname".to_owned(), format!("Lead{id}")), ("company".to_owned(), "Marsh".to_owned())];
    let new = NewContact { id, properties: properties.into(), notes: vec![note.to_owned()], merged_ids: vec![] };
    simulator.put_contact(&new).await.expect("a contact");
}

/// A person logs something on a contact: HubSpot knows when, and sends a webhook.
pub async fn log(simulator: &SimulatorClient, id: i64) {
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    let edit = Edit {
        properties: [("notes_last_updated".to_owned(), now.to_string())].into(),
        source: "CRM_UI".to_owned(),
        source_id: "userId:42".to_owned(),
        announce: true,
    };
    simulator.edit("contact", id, &edit).await.expect("edited");
}

/// New contacts on which something is logged.
pub async fn leads(fleet: &Fleet, ids: impl IntoIterator<Item = i64>) {
    for id in ids {
        lead(&fleet.simulator, id, BUYER).await;
        log(&fleet.simulator, id).await;
    }
}

/// How many tasks there are by subject, and how many messages by lead.
pub async fn effects(fleet: &Fleet) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
    let (mut calls, mut messages) = (BTreeMap::new(), BTreeMap::new());
    for task in tasks(fleet).await {
        *calls.entry(task.properties["hs_task_subject"].clone()).or_default() += 1;
    }
    for message in fleet.simulator.messages().await.expect("asked") {
        let text = message.body["text"].as_str().expect("a text");
        let name = text.split('*').nth(1).expect("a name");
        *messages.entry(name.to_owned()).or_default() += 1;
    }
    (calls, messages)
}

/// Runs the operator's command and returns what it prints.
pub async fn leadline(fleet: &Fleet, role: Role, arguments: &[&str]) -> String {
    let output = fleet.leadline_as(role, arguments).await.expect("runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

/// Kills every member that runs a program.
pub fn kill(fleet: &mut Fleet, program: &str) {
    for index in fleet.indices(program) {
        fleet.members[index].process.kill();
    }
}

/// Starts every member again that ran a program.
pub fn restart(fleet: &mut Fleet, program: &str) {
    for index in fleet.indices(program) {
        fleet.restart(index).expect("restarted");
    }
}

/// Publishes again what has lost its message until everything is finished.
pub async fn until_finished(fleet: &Fleet) {
    let unfinished = "select (select count(*) from event where finished_at is null)
                           + (select count(*) from write_command where finished_at is null)";
    until("all is finished", async || {
        leadline(fleet, Role::Operator, &["reconcile", "--after", "1", "--yes"]).await;
        fleet.until_idle(Duration::from_secs(2)).await.is_ok() && ask::<i64>(fleet, unfinished).await == 0
    })
    .await;
}

/// Logs something on a new contact every now and then.
pub struct Load {
    stop: Arc<AtomicBool>,
    first: i64,
    task: tokio::task::JoinHandle<i64>,
}

impl Load {
    /// Begins with the contact `first`.
    pub fn start(fleet: &Fleet, first: i64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (simulator, stopped) = (fleet.simulator.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut next = first;
            while !stopped.load(Ordering::Relaxed) {
                lead(&simulator, next, BUYER).await;
                log(&simulator, next).await;
                next += 1;
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            next
        });
        Self { stop, first, task }
    }

    /// Stops it and returns the contacts.
    pub async fn stop(self) -> Range<i64> {
        self.stop.store(true, Ordering::Relaxed);
        self.first..self.task.await.expect("no panic")
    }
}
