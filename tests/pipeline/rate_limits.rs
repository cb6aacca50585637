//! The fleet never takes more than its share of a limit, summed over all replicas; and says so when it waits for it.

use std::time::Duration;

use lab::FleetPlan;
use simulator::{Fault, FaultKind, Target};

use fixtures::{
    BUYER, PlaybookFolder, WITHIN, ask, contact, ended_as, fleet, key, note_event, pipeline, send_accepted, until,
};

/// Two workers and a writer at a portal that allows few calls: slower, and not a single 429.
#[tokio::test]
async fn a_fleet_at_the_limit_is_never_refused() {
    let arguments = ["--calls-per-10s", "25"].map(ToOwned::to_owned).to_vec();
    let plan = FleetPlan { inferences: 2, simulator_arguments: arguments, ..pipeline() };
    let fleet = fleet(&plan).await;
    let ids: Vec<i64> = (1..=15).collect();
    for id in &ids {
        contact(&fleet, *id, &[BUYER]).await;
    }
    for id in &ids {
        send_accepted(&fleet, &[note_event(*id, 1)]).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    for id in ids {
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
    let calls = fleet.simulator.calls(0).await.expect("asked");
    let calls: Vec<_> = calls.iter().filter(|call| call.path.starts_with("/crm/")).collect();
    assert!(calls.iter().all(|call| call.status != 429), "no call was refused");
    let within = |from: i64| calls.iter().filter(|call| (from..from + 10_000).contains(&call.at_ms)).count();
    let most = calls.iter().map(|call| within(call.at_ms)).max().expect("some");
    // Nothing waits until half of it is used.
    assert!((10..=20).contains(&most), "80 % of 25 at most: {most} of {} calls", calls.len());
    // 63 when no batch waits to fill up, 36 to 39 when they do.
    assert!(calls.len() <= 50, "calls fill up at the limit: {} for 15 events", calls.len());
    let said = String::from_utf8(fleet.leadline(&["status"]).await.expect("runs").stdout).expect("UTF-8");
    assert!(said.contains("hubspot/9876543/10s"), "{said}");
}

/// The association endpoints have a lower limit than all calls together, and no answer says which.
#[tokio::test]
async fn the_lower_limit_of_the_association_endpoints_is_kept() {
    let arguments = ["--association-calls-per-10s", "5"].map(ToOwned::to_owned).to_vec();
    let plan = FleetPlan { simulator_arguments: arguments, ..pipeline() };
    let plan = plan.with("rate_limit.hubspot_association_calls_per_10s", "5").with("rate_limit.hubspot_share", "1.0");
    // Batches do not wait near the limit, so that it is reached.
    let plan = plan.with("rate_limit.batch_linger_at_limit_ms", "0");
    let fleet = fleet(&plan.with("rate_limit.hubspot_calls_per_10s", "190")).await;
    let ids: Vec<i64> = (1..=8).collect();
    for id in &ids {
        contact(&fleet, *id, &[BUYER]).await;
        // One after the other, so that no two of them share a call.
        send_accepted(&fleet, &[note_event(*id, 1)]).await;
        ended_as(&fleet, &note_event(*id, 1), "written", None).await;
    }
    let calls = fleet.simulator.calls(0).await.expect("asked");
    let reads: Vec<_> = calls.iter().filter(|call| call.path.contains("/associations/")).collect();
    assert_eq!(reads.len(), 8, "one for each contact, and none was refused and repeated");
    assert!(calls.iter().all(|call| call.status != 429), "no call was refused");
}

/// A gateway's headers and waits: what is no sane number says nothing, and nobody holds the fleet for a day.
#[tokio::test]
async fn what_no_limit_can_be_stops_nothing_and_no_answer_holds_the_fleet_for_long() {
    let fleet = fleet(&pipeline().with("rate_limit.max_hold_seconds", "1")).await;
    let rejected = |seconds| FaultKind::Status { code: 429, retry_after: Some(seconds) };
    let faults = [
        (Target::Openai, FaultKind::OddLimits),
        (Target::Hubspot, FaultKind::OddLimits),
        (Target::Openai, rejected(u64::MAX)),
        (Target::Hubspot, rejected(u64::MAX)),
        (Target::Openai, rejected(86_400)),
        (Target::Hubspot, rejected(86_400)),
    ];
    for (id, (target, kind)) in (1..).zip(faults) {
        contact(&fleet, id, &[BUYER]).await;
        fleet.simulator.fault(&Fault::new(target, kind).times(1)).await.expect("set");
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
    // Another one, after each of them.
    contact(&fleet, 7, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(7, 1)]).await;
    ended_as(&fleet, &note_event(7, 1), "written", None).await;
}

/// A playbook with money for a few questions: the rest waits for tomorrow, and the operator is told.
#[tokio::test]
async fn a_playbook_that_has_spent_its_money_pauses_and_says_so() {
    let shipped = include_str!("../../deploy/playbooks/lead-qualification.toml");
    // A question of these costs about 7,800 µ$ at most, and about 2,500 in the end.
    let capped =
        shipped.replace("max_output_tokens = 600", "max_output_tokens = 600\nmax_micro_dollars_per_day = 12_000");
    assert_ne!(capped, shipped);
    let folder = PlaybookFolder::new("money", &[&capped]);
    // No time-out ends a question on a busy machine.
    let plan = pipeline().with("inference.playbooks", folder.path());
    let fleet = fleet(&plan.with("openai.model", "gpt-4o")).await;
    let ids: Vec<i64> = (1..=12).collect();
    for id in &ids {
        contact(&fleet, *id, &[BUYER]).await;
    }
    for id in &ids {
        send_accepted(&fleet, &[note_event(*id, 1)]).await;
        let decided = |state: domain::EventState| state.is_final() || state == domain::EventState::Waiting;
        fleet.until_event(&key(&note_event(*id, 1)), decided, WITHIN).await.expect("looked at");
    }
    // One statement, because an event that waits is claimed again now and then, and then it is in neither state for a moment.
    let settled = "select count(*) = 12 and count(*) filter (where state = 'written') >= 2
                        and count(*) filter (where state = 'waiting' and reason = 'playbook_paused') >= 2
                   from event where state = 'written' or (state = 'waiting' and reason = 'playbook_paused')";
    until("all are written or wait, at least two of each", async || ask(&fleet, settled).await).await;
    let spent: i64 = ask(&fleet, "select sum(cost_micro_dollars)::bigint from inference").await;
    assert!(spent <= 12_000, "{spent} µ$ of 12000");
    let said = String::from_utf8(fleet.leadline(&["status"]).await.expect("runs").stdout).expect("UTF-8");
    assert!(said.contains("playbook_paused") && said.contains("openai/money/lead-qualification/day"), "{said}");
}
