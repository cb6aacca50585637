//! A process that dies exactly where it hurts most loses nothing and doubles nothing: one test for each line of the table
//! of crash points in docs/guarantees.md.

use std::time::Duration;

use domain::EventState;
use lab::{Fleet, FleetPlan};

use fixtures::{
    BUYER, PlaybookFolder, WITHIN, approved_as, ask, contact, end_event_leases, end_write_leases, ended_as, fleet,
    held, key, note_event, object, questions, quick, send, tasks, times_set, until_writer_sessions_end,
};

/// What may differ from a run in which no member dies.
struct Effect {
    /// How often the model was asked.
    questions: usize,
    /// How often HubSpot was told to set the score.
    writes: usize,
    /// How often the channel was told, at most.
    told: usize,
}

const AS_EVER: Effect = Effect { questions: 1, writes: 1, told: 1 };

// `writes`: the writer that takes the command over finds the values there, and does not send them again.

/// One event, from webhook to write, task and notification, in which the process that comes to `point` dies there.
async fn die_at(point: &str, expected: Effect) {
    let mut fleet = fleet(&quick().crashing_at(point)).await;
    contact(&fleet, 1, &[BUYER]).await;
    let event = note_event(1, 1);
    // As HubSpot does: again until the answer is 200.
    while send(&fleet, std::slice::from_ref(&event)).await.status != 200 {
        revive(&mut fleet).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The receiver has died before, while the webhook was sent.
    if !point.starts_with("receiver") {
        until_one_died(&mut fleet).await;
    }
    ended_as(&fleet, &event, "written", None).await;
    // Of a point that several stages pass, the next one dies now.
    let started = std::time::Instant::now();
    while fleet.until_idle(Duration::from_secs(2)).await.is_err() {
        assert!(started.elapsed() < WITHIN, "still work after the death at {point}\n{}", fleet.logs());
        revive(&mut fleet).await;
    }
    assert_eq!(questions(&fleet).await, expected.questions, "answers paid for, at {point}");
    assert_eq!(times_set(&fleet, 1, "lead_score").await, expected.writes, "writes, at {point}");
    assert_eq!(tasks(&fleet).await.len(), 1, "tasks, at {point}");
    let messages = fleet.simulator.messages().await.expect("asked");
    let mut keys: Vec<_> = messages.iter().filter_map(|message| message.key.clone()).collect();
    assert!((1..=expected.told).contains(&keys.len()), "notifications, at {point}: {keys:?}");
    keys.dedup();
    assert_eq!(keys.len(), 1, "under one key, at {point}");
    let before: i64 = ask(&fleet, "select count(*) from write where before is not null").await;
    assert_eq!(before, 0, "what was there before the first try is what an undo brings back, at {point}");
}

/// Starts every member again that has died, after ending its leases. Returns whether any had died.
pub async fn revive(fleet: &mut Fleet) -> bool {
    let dead: Vec<_> =
        (0..fleet.members.len()).filter(|index| fleet.members[*index].process.still_runs().is_err()).collect();
    for index in &dead {
        // There is one of each kind, so no other's lease ends.
        if fleet.indices("leadline-inference").contains(index) {
            end_event_leases(fleet).await;
        } else if fleet.indices("leadline-writer").contains(index) {
            until_writer_sessions_end(fleet).await;
            end_write_leases(fleet).await;
        }
        fleet.restart(*index).expect("restarted");
    }
    !dead.is_empty()
}

/// Waits until a member has died, and starts it again.
pub async fn until_one_died(fleet: &mut Fleet) {
    let started = std::time::Instant::now();
    while !revive(fleet).await {
        assert!(started.elapsed() < WITHIN, "no member died\n{}", fleet.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One event whose playbook is in review: the writer dies at `point` while it proposes, and what is approved then is written once.
async fn die_while_proposing(point: &str) {
    let leads = include_str!("../../deploy/playbooks/lead-qualification.toml");
    let folder = PlaybookFolder::new(point, &[&leads.replacen("records =", "mode = \"review\"\nrecords =", 1)]);
    let plan = quick().with("inference.playbooks", folder.path()).crashing_at(point);
    let mut fleet = fleet(&plan).await;
    contact(&fleet, 1, &[BUYER]).await;
    let event = note_event(1, 1);
    send(&fleet, std::slice::from_ref(&event)).await;
    until_one_died(&mut fleet).await;
    ended_as(&fleet, &event, "proposed", None).await;
    assert_eq!((times_set(&fleet, 1, "lead_score").await, tasks(&fleet).await.len()), (0, 0), "before it is approved");
    assert!(fleet.simulator.messages().await.expect("asked").is_empty());
    approved_as(&fleet, &event, "lead-qualification", ("written", None)).await;
    fleet.until_idle(WITHIN).await.expect("idle");
    assert_eq!((times_set(&fleet, 1, "lead_score").await, tasks(&fleet).await.len()), (1, 1), "at {point}");
    assert_eq!(fleet.simulator.messages().await.expect("asked").len(), 1, "at {point}");
    assert_eq!(ask::<i64>(&fleet, "select count(*) from review").await, 1);
}

#[tokio::test]
async fn writer_before_a_proposal_is_committed() {
    die_while_proposing("writer.after_write").await;
}

#[tokio::test]
async fn writer_between_the_commit_of_a_proposal_and_the_ack() {
    die_while_proposing("writer.after_commit").await;
}

#[tokio::test]
async fn receiver_before_publishing() {
    die_at("receiver.before_publish", AS_EVER).await;
}

#[tokio::test]
async fn receiver_between_the_confirm_and_the_200() {
    die_at("receiver.after_confirm", AS_EVER).await;
}

#[tokio::test]
async fn inference_after_the_claim() {
    die_at("inference.after_claim", AS_EVER).await;
}

/// The only place where money is paid twice.
#[tokio::test]
async fn inference_after_the_answer_and_before_the_commit() {
    die_at("inference.after_answer", Effect { questions: 2, ..AS_EVER }).await;
}

#[tokio::test]
async fn inference_between_the_commit_and_publishing() {
    die_at("inference.after_commit", AS_EVER).await;
}

#[tokio::test]
async fn inference_between_publishing_and_the_ack() {
    die_at("inference.after_publish", AS_EVER).await;
}

/// Whichever stage gets there first: what is done is not done again.
#[tokio::test]
async fn any_stage_just_before_the_ack() {
    die_at("consumer.before_ack", AS_EVER).await;
}

#[tokio::test]
async fn writer_after_taking_a_command() {
    die_at("writer.after_take", AS_EVER).await;
}

/// HubSpot has the values, the ledger does not know it: an update may be sent twice.
#[tokio::test]
async fn writer_between_the_write_and_the_commit() {
    die_at("writer.after_write", AS_EVER).await;
}

#[tokio::test]
async fn writer_after_beginning_an_action() {
    die_at("writer.after_begin", AS_EVER).await;
}

/// HubSpot has the task, the ledger does not know it: it is found by its marker.
#[tokio::test]
async fn writer_between_the_task_and_the_commit() {
    die_at("writer.after_action", AS_EVER).await;
}

/// The channel was told, the ledger does not know it: told again, under the same key.
#[tokio::test]
async fn writer_between_the_notification_and_the_commit() {
    die_at("writer.after_action:2", Effect { told: 2, ..AS_EVER }).await;
}

#[tokio::test]
async fn writer_between_the_commit_and_the_ack() {
    die_at("writer.after_commit", AS_EVER).await;
}

/// A context that is condensed in parts: those that were answered are not asked again.
#[tokio::test]
async fn inference_after_a_part_of_a_context() {
    let mut fleet = fleet(&quick().crashing_at("inference.after_part:3")).await;
    let text: String = (0..9_000).map(|n| format!("Line {n} of the call says nothing much. ")).collect();
    object(&fleet, "contact", 1, &[("firstname", "Ada")], &[]).await;
    let call = [("hs_call_body", text.as_str()), ("hs_timestamp", "2026-11-20T10:00:00Z")];
    object(&fleet, "call", 7, &call, &[("contact", 1)]).await;
    let event = fixtures::happened("call", 7, "creation", None, 1);
    fixtures::send_accepted(&fleet, std::slice::from_ref(&event)).await;
    until_one_died(&mut fleet).await;
    ended_as(&fleet, &event, "written", None).await;
    assert!(held(&fleet, "contact", 1, "ai_call_summary").await.is_some());
    let recorded: i64 = ask(&fleet, "select count(*) from inference where part is not null").await;
    let asked = i64::try_from(questions(&fleet).await).expect("few") - 1;
    assert!(asked - recorded <= 8, "at most what was under way was asked twice: {asked} for {recorded} parts");
}

/// Between the ledger's parking and the parking lot's: the message still gets there, once.
#[tokio::test]
async fn inference_between_parking_in_the_ledger_and_in_the_queue() {
    let mut fleet = fleet(&FleetPlan { writers: 0, ..quick() }.crashing_at("inference.after_commit")).await;
    contact(&fleet, 1, &[BUYER]).await;
    let declines = simulator::Fault::new(simulator::Target::Openai, simulator::FaultKind::Refusal);
    fleet.simulator.fault(&declines).await.expect("set");
    let event = note_event(1, 1);
    fixtures::send_accepted(&fleet, std::slice::from_ref(&event)).await;
    until_one_died(&mut fleet).await;
    fleet.until_event(&key(&event), |state| state == EventState::Parked, WITHIN).await.expect("parked");
    fleet.until_parked("leadline.events", 1, WITHIN).await.expect("in the parking lot");
    fleet.until_idle(WITHIN).await.expect("idle");
    fleet.until_parked("leadline.events", 1, WITHIN).await.expect("once");
}
