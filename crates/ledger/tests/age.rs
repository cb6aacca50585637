//! An event's age does not count the time in which a circuit breaker was open.

use std::time::Duration;

use domain::{CommandState, EventState, Reason};
use ledger::CommandClaim;

use crate::fixtures::{TestLedger, decision, event, result};

/// The age that the next claim of a waiting event says, in whole seconds.
async fn age(test: &TestLedger) -> u64 {
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    assert!(test.commit(&decision(&claimed, EventState::Waiting, Some(Reason::RateLimited))).await);
    claimed.age.as_secs()
}

#[tokio::test]
async fn time_in_which_the_fleet_paused_does_not_count_and_none_counts_twice() {
    let test = TestLedger::new().await;
    assert_eq!(age(&test).await, 0);
    test.run("update event set age_since = now() - interval '1000 seconds'").await;
    assert!(age(&test).await >= 1_000);
    // In one transaction, so that all times are of one moment. One before, one that reaches into it, two that overlap, one that is not over.
    test.run(
        "update event set age_since = now() - interval '1000 seconds';
         insert into outage (dependency, opened_at, closed_at) values
             ('hubspot', now() - interval '3000 seconds', now() - interval '2000 seconds'),
             ('openai', now() - interval '1500 seconds', now() - interval '900 seconds'),
             ('hubspot', now() - interval '800 seconds', now() - interval '500 seconds'),
             ('openai', now() - interval '700 seconds', now() - interval '400 seconds'),
             ('hubspot', now() - interval '50 seconds', null)",
    )
    .await;
    assert_eq!(age(&test).await, 1_000 - 100 - 400 - 50);
}

/// A model may be away for longer than an event may become old.
#[tokio::test]
async fn the_time_in_which_an_event_waited_for_a_paused_model_does_not_count() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let age_after = async |reason| {
        let claimed = test.claimed(&event, "a").await;
        assert!(test.commit(&decision(&claimed, EventState::Waiting, Some(reason))).await);
        test.run("update event set age_since = now() - interval '1000 seconds', state_since = now() - interval '600 seconds'")
            .await;
        let claimed = test.claimed(&event, "a").await;
        assert!(test.commit(&decision(&claimed, EventState::Waiting, Some(Reason::RateLimited))).await);
        claimed.age.as_secs()
    };
    assert!((400..500).contains(&age_after(Reason::ModelPaused).await));
    assert!((400..500).contains(&age_after(Reason::GateClosed).await), "nor that before a closed gate");
    assert!((1_000..1_100).contains(&age_after(Reason::RateLimited).await));
}

#[tokio::test]
async fn a_circuit_breaker_that_opens_and_closes_leaves_its_outages() {
    let test = TestLedger::new().await;
    let outages = "select string_agg(dependency || (closed_at is null)::text, ' ' order by opened_at) from outage";
    test.run("insert into circuit_breaker (dependency, state, worker) values ('hubspot', 'open', 'a')").await;
    assert_eq!(test.value::<String>(outages).await, "hubspottrue");
    for (state, expected) in [
        ("open", "hubspottrue"),
        ("half_open", "hubspotfalse"),
        ("open", "hubspotfalse hubspottrue"),
        ("half_open", "hubspotfalse hubspotfalse"),
        ("closed", "hubspotfalse hubspotfalse"),
    ] {
        test.run(&format!("update circuit_breaker set state = '{state}'")).await;
        assert_eq!(test.value::<String>(outages).await, expected, "{state}");
    }
}

#[tokio::test]
async fn a_write_command_is_as_old_as_its_event_until_an_operator_replays_it() {
    let test = TestLedger::new().await;
    let command = test.decided(&event(1, 1)).await;
    let attempt = test.claimed_command(&command, "writer").await;
    assert!(test.finish(&result(&command, attempt, CommandState::Waiting, Some(Reason::RateLimited)), "writer").await);
    test.run("update event set age_since = now() - interval '1000 seconds'").await;
    let CommandClaim::Granted { age, attempt, .. } = test.claim_command_with_age(&command, "writer").await else {
        panic!("not granted")
    };
    assert_eq!(age.as_secs(), 1_000);
    assert!(test.finish(&result(&command, attempt, CommandState::Parked, Some(Reason::RateLimited)), "writer").await);
    assert!(test.ledger.replay_command(command.id).await.expect("asked"));
    let CommandClaim::Granted { age, .. } = test.claim_command_with_age(&command, "writer").await else {
        panic!("not granted")
    };
    assert!(age < Duration::from_secs(100), "{age:?}");
}

#[tokio::test]
async fn a_write_command_whose_writers_die_is_parked_and_ends_its_event() {
    let test = TestLedger::new().await;
    let event = event(1, 1);
    let command = test.decided(&event).await;
    let park = async || {
        test.ledger.park_command(command.id, Reason::AttemptsExhausted, "every writer died").await.expect("asked")
    };
    assert!(!park().await, "no writer had it");
    test.claimed_command(&command, "writer").await;
    assert!(!park().await, "a writer has it");
    test.end_command_leases().await;
    assert!(park().await && !park().await);
    assert_eq!(test.state(&event).await, (EventState::Parked, Some(Reason::AttemptsExhausted)));
}
