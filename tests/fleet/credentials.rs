//! One wrong key stops the replica that has it, and nothing else.

use domain::Fingerprint;
use lab::{Fleet, FleetPlan};

use crate::outages::{ready, state, until, watchful};
use fixtures::{BUYER, WITHIN, ask, contact, ended_as, fleet, note_event, send_accepted};

/// The simulator's portal, whose id is the salt.
const PORTAL: &str = "9876543";

/// A failure that counted would park its event.
fn strict() -> FleetPlan {
    FleetPlan { inferences: 1, ..watchful() }.with("broker.max_attempts", "1")
}

/// Events about new contacts, until the last member that runs `program` has met its wrong credential. Returns how many.
async fn events_until_unready(fleet: &Fleet, program: &str) -> i64 {
    for id in 1..=500 {
        contact(fleet, id, &[BUYER]).await;
        send_accepted(fleet, &[note_event(id, 1)]).await;
        if ready(fleet, program).await.last().is_some_and(|(status, _)| *status == 503) {
            return id;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("no event came to the worker with the wrong credential\n{}", fleet.logs());
}

/// More events while it is unready; all of all are written, and no attempt is used up.
async fn all_are_written(fleet: &Fleet, sent: i64) {
    let last = sent + 20;
    for id in sent + 1..=last {
        contact(fleet, id, &[BUYER]).await;
        send_accepted(fleet, &[note_event(id, 1)]).await;
    }
    for id in 1..=last {
        ended_as(fleet, &note_event(id, 1), "written", None).await;
    }
}

/// The fleet did not pause: neither is the dependency away, nor do events stay young because of one wrong credential.
async fn fleet_goes_on(fleet: &Fleet) {
    assert_eq!(ask::<i64>(fleet, "select count(*) from outage where credential = ''").await, 0);
    // The circuit may open after the last event: the next one shows that the others go on.
    contact(fleet, 1_000, &[BUYER]).await;
    send_accepted(fleet, &[note_event(1_000, 1)]).await;
    let counting = "select count(*) from outage where closed_at is null";
    until("no outage counts", WITHIN, async || ask::<i64>(fleet, counting).await == 0).await;
}

/// What the last member that runs `program` says while all others are ready.
async fn last_is_unready(fleet: &Fleet, program: &str) -> String {
    let mut answers = ready(fleet, program).await;
    let (status, said) = answers.pop().expect("it runs");
    assert_eq!(status, 503, "{said}");
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    said
}

/// A fleet with one more member that runs `program`, with a wrong secret: the others write all, and it says which setting is wrong.
async fn beside_one_with(program: &str, setting: &str, wrong: &str) -> (Fleet, String) {
    let mut fleet = fleet(&strict()).await;
    fleet.add_with_settings(program, &[(setting, wrong)]).await.expect("started");
    fleet.until_ready().await.expect("nothing is known of its secret");
    let sent = events_until_unready(&fleet, program).await;
    all_are_written(&fleet, sent).await;
    let said = last_is_unready(&fleet, program).await;
    let expected = format!("{setting} with the fingerprint {}", Fingerprint::of(PORTAL, [wrong, "", ""]));
    assert!(said.contains(&expected), "{said}");
    (fleet, said)
}

#[tokio::test]
async fn one_worker_with_a_wrong_key_leaves_its_events_to_the_others_and_says_so() {
    let (fleet, said) = beside_one_with("leadline-inference", "openai.api_key", "sk-wrong").await;
    let fingerprint = Fingerprint::of(PORTAL, ["sk-wrong", "", ""]);
    assert!(said.contains("openai: circuit open") && said.contains("openai_unauthorized"), "{said}");
    fleet_goes_on(&fleet).await;
    let status = fleet.leadline(&["status"]).await.expect("runs");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains(&format!("openai (credential {fingerprint})")), "{status}");
    assert!(!(said + &status + &fleet.logs()).contains("sk-wrong"), "the key itself is nowhere");
}

#[tokio::test]
async fn one_writer_with_a_wrong_token_leaves_its_commands_to_the_others_and_says_so() {
    let (fleet, said) = beside_one_with("leadline-writer", "hubspot.token", "pat-wrong").await;
    assert!(said.contains("hubspot: circuit open"), "{said}");
    assert!(ready(&fleet, "leadline-inference").await.iter().all(|(status, _)| *status == 200));
    fleet_goes_on(&fleet).await;
}

/// Two workers confirm to each other that their key is wrong. Whose key is good goes on.
#[tokio::test]
async fn half_rotated_keys_go_on_with_the_good_half() {
    let mut fleet = fleet(&strict()).await;
    for _ in 0..2 {
        fleet.add_with_settings("leadline-inference", &[("openai.api_key", "sk-old")]).await.expect("started");
    }
    fleet.until_ready().await.expect("nothing is known of their key");
    let sent = events_until_unready(&fleet, "leadline-inference").await;
    until("both are paused", WITHIN, async || {
        let statuses: Vec<_> =
            ready(&fleet, "leadline-inference").await.into_iter().map(|(status, _)| status).collect();
        state(&fleet, "openai").await == "open" && statuses == [200, 503, 503]
    })
    .await;
    all_are_written(&fleet, sent).await;
    let fingerprint = Fingerprint::of(PORTAL, ["sk-old", "", ""]);
    let said = ready(&fleet, "leadline-inference").await.pop().expect("it runs").1;
    let expected = format!("(openai.api_key with the fingerprint {fingerprint})");
    assert!(said.contains("openai: circuit open, openai_unauthorized") && said.contains(&expected), "{said}");
}

/// Nothing has to be reset: the circuit is that of the old key.
#[tokio::test]
async fn a_fleet_whose_keys_are_all_wrong_pauses_and_goes_on_when_it_is_restarted_with_a_good_one() {
    let mut fleet = fleet(&FleetPlan { inferences: 2, ..strict() }.with("openai.api_key", "sk-old")).await;
    let ids: Vec<i64> = (1..=10).collect();
    for id in &ids {
        contact(&fleet, *id, &[BUYER]).await;
    }
    send_accepted(&fleet, &ids.iter().map(|id| note_event(*id, 1)).collect::<Vec<_>>()).await;
    until("all pause", WITHIN, async || {
        let answers = ready(&fleet, "leadline-inference").await;
        state(&fleet, "openai").await == "open" && answers.iter().all(|(status, _)| *status == 503)
    })
    .await;
    fleet.members.retain(|member| member.process.name() != "leadline-inference");
    fleet.add_with_settings("leadline-inference", &[("openai.api_key", "sk-simulator")]).await.expect("started");
    for id in &ids {
        ended_as(&fleet, &note_event(*id, 1), "written", None).await;
    }
}
