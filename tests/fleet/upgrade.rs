//! Every service of a fleet is replaced, one after the other, while webhooks come in: nothing is lost, and nothing is done twice.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lab::{Fleet, FleetPlan, SimulatorClient, WebhookClient};
use serde_json::json;

use fixtures::{BUYER, WITHIN, ask, fleet, note_event, questions, quick, tasks, times_set, until};

use crate::leads::{effects, lead};

/// How long a service may take to stop, as in deploy/kubernetes.
const GRACE: Duration = Duration::from_secs(45);

/// Webhooks about new contacts to the receivers in turn. One that is not answered 200 is delivered again, to the next receiver, as a load
/// balancer does.
struct Load {
    simulator: SimulatorClient,
    receivers: Vec<String>,
    http: WebhookClient,
    stop: Arc<AtomicBool>,
}

/// How many webhooks were delivered, and how often one had to be delivered again.
struct Delivered {
    webhooks: i64,
    again: usize,
}

impl Load {
    async fn run(self) -> Delivered {
        let mut delivered = Delivered { webhooks: 0, again: 0 };
        let mut next = self.receivers.iter().cycle();
        while !self.stop.load(Ordering::Relaxed) {
            let id = delivered.webhooks + 1;
            lead(&self.simulator, id, BUYER).await;
            let body = json!([note_event(id, 1)]).to_string().into_bytes();
            for receiver in next.by_ref() {
                if self.http.post(receiver, body.clone(), 0).await == Some(200) {
                    break;
                }
                delivered.again += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            delivered.webhooks = id;
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        delivered
    }
}

async fn replace(fleet: &mut Fleet, program: &str) {
    for index in fleet.indices(program) {
        let process = &mut fleet.members[index].process;
        let has_ended = tokio::task::block_in_place(|| process.stop(GRACE));
        assert!(has_ended, "{program} did not end within {GRACE:?}\n{}", fleet.logs());
        fleet.restart(index).expect("the new one starts");
        fleet.until_ready().await.expect("the new one is ready");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_is_replaced_under_load_loses_nothing_and_does_nothing_twice() {
    // A lease is 300 seconds: what a stopping worker left behind would not be done in time.
    let plan = FleetPlan { receivers: 2, inferences: 2, writers: 2, with_echoes: false, ..quick() };
    let plan = plan.with("receiver.linger_seconds", "1").with("reconcile.interval_seconds", "3600");
    let mut fleet = fleet(&plan).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = Load {
        simulator: fleet.simulator.clone(),
        receivers: fleet.receivers(),
        http: WebhookClient::new(Duration::from_secs(10)).expect("a client"),
        stop: stop.clone(),
    };
    let load = tokio::spawn(load.run());
    let written = "select count(*) from event where state = 'written'";
    until("the fleet is at work", async || ask::<i64>(&fleet, written).await >= 10).await;

    // Inference workers first (docs/operations.md).
    for program in ["leadline-inference", "leadline-receiver", "leadline-writer"] {
        replace(&mut fleet, program).await;
    }
    stop.store(true, Ordering::Relaxed);
    let Delivered { webhooks, again } = load.await.expect("no panic");
    fleet.until_idle(WITHIN).await.expect("all is done");
    println!("{webhooks} webhooks while all was replaced, {again} of them delivered again");

    assert_eq!(ask::<i64>(&fleet, written).await, webhooks, "{}", fleet.logs());
    assert_eq!(ask::<i64>(&fleet, "select count(*) from event").await, webhooks);
    assert_eq!(i64::try_from(questions(&fleet).await), Ok(webhooks), "no answer was paid twice");
    let (calls, _) = effects(&fleet).await;
    for id in 1..=webhooks {
        assert_eq!(times_set(&fleet, id, "lead_score").await, 1, "contact {id}\n{}", fleet.logs());
        assert_eq!(calls.get(&format!("Call Lead{id}: score 85")), Some(&1), "contact {id}\n{}", fleet.logs());
    }
    assert_eq!(i64::try_from(tasks(&fleet).await.len()), Ok(webhooks));
    let messages = fleet.simulator.messages().await.expect("asked");
    let keys: BTreeSet<_> = messages.iter().map(|message| &message.key).collect();
    assert_eq!((messages.len(), i64::try_from(keys.len())), (keys.len(), Ok(webhooks)));
    assert_eq!(ask::<i64>(&fleet, "select count(*) from parked").await, 0);
}
