//! Old data goes, a day at a time and in small batches; a person's data goes when asked for, and counts stay.

use lab::FleetPlan;

use fixtures::{BUYER, WITHIN, ask, contact, ended_as, fleet, key, note_event, object, pipeline, send_accepted, sql};

/// Three events of forty days ago, one of five, one of now; the old days have partitions of their own.
const AGED: &str = "
    create table inference_raw_20260101 partition of inference_raw
        for values from ('2026-01-01 00:00:00+00') to ('2026-01-02 00:00:00+00');
    create table event_history_20260101 partition of event_history
        for values from ('2026-01-01 00:00:00+00') to ('2026-01-02 00:00:00+00');
    alter table event disable trigger user;
    update event set finished_at = '2026-01-01 12:00:00+00', first_claimed_at = '2026-01-01 12:00:00+00'
        where object_id in (1, 2, 3);
    update inference_raw r set created_at = '2026-01-01 12:00:00+00'
        from inference i where i.id = r.inference_id and i.object_id in (1, 2, 3);
    update inference set created_at = '2026-01-01 12:00:00+00' where object_id in (1, 2, 3);
    alter table event_history disable trigger user;
    update event_history h set at = '2026-01-01 12:00:00+00'
        from event e where e.id = h.event_id and e.object_id in (1, 2, 3);
    alter table event_history enable trigger user;
    alter table event enable trigger user;";

#[tokio::test]
async fn what_is_older_than_the_settings_keep_goes_and_what_is_parked_stays() {
    let plan = pipeline()
        .with("retention.raw_days", "30")
        .with("retention.events_days", "60")
        .with("retention.interval_seconds", "1")
        .with("retention.batch", "1");
    // Aged before anybody looks.
    let mut fleet = fleet(&plan.with("reconcile.interval_seconds", "3600")).await;
    for id in 1..=5 {
        contact(&fleet, id, &[BUYER]).await;
    }
    let declines = simulator::Fault::new(simulator::Target::Openai, simulator::FaultKind::Refusal).times(1);
    fleet.simulator.fault(&declines).await.expect("set");
    send_accepted(&fleet, &[note_event(3, 1)]).await;
    ended_as(&fleet, &note_event(3, 1), "parked", Some("refused")).await;
    for id in [1, 2, 4, 5] {
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        ended_as(&fleet, &note_event(id, 1), "written", None).await;
    }
    let partitions: i64 =
        ask(&fleet, "select count(*) from pg_inherits where inhparent = 'inference_raw'::regclass").await;
    assert!(partitions >= 9, "today, seven days ahead, and the default: {partitions}");
    for program in ["leadline-inference", "leadline-writer"] {
        fleet.stop(program).await.expect("stopped");
    }
    sql(&fleet, AGED).await;
    fleet.add("leadline-writer").await.expect("started");
    let gone = async {
        while ask::<i64>(&fleet, "select count(*) from event where object_id in (1, 2)").await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        while ask::<bool>(&fleet, "select to_regclass('event_history_20260101') is not null").await {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(WITHIN, gone).await.unwrap_or_else(|_| panic!("still there\n{}", fleet.logs()));
    assert!(!ask::<bool>(&fleet, "select to_regclass('inference_raw_20260101') is not null").await);
    let left: String = ask(
        &fleet,
        "select string_agg(object_id || ' ' || state, ', ' order by object_id)
                      from event where state in ('parked', 'written')",
    )
    .await;
    assert_eq!(left, "3 parked, 4 written, 5 written");
    let raw: i64 = ask(&fleet, "select count(*) from inference_text").await;
    assert_eq!(raw, 2, "the parked one's prompt was old, too");
    let orphans: i64 = ask(
        &fleet,
        "select (select count(*) from write_command c where not exists (select from event e where e.id = c.event_id))
              + (select count(*) from inference i where not exists (select from event e where e.id = i.event_id))",
    )
    .await;
    assert_eq!(orphans, 0);
    // An event whose prompt is gone still has its story.
    let story = fleet.leadline(&["event", &key(&note_event(3, 1)), "--prompts"]).await.expect("runs");
    assert!(story.status.success());
}

#[tokio::test]
async fn a_persons_data_is_erased_and_the_counts_stay() {
    let fleet = fleet(&pipeline()).await;
    contact(&fleet, 1, &["<p>Zebulon has $50k ready for Q1 and is very excited to start.</p>"]).await;
    contact(&fleet, 2, &[BUYER]).await;
    // A ticket whose context has the contact in it, without being about it.
    let ticket = [("subject", "Outage"), ("content", "We are furious, this is the third outage.")];
    object(&fleet, "ticket", 7, &ticket, &[("contact", 1)]).await;
    let events = [note_event(1, 1), note_event(2, 1), fixtures::happened("ticket", 7, "creation", None, 2)];
    send_accepted(&fleet, &events).await;
    for event in &events {
        ended_as(&fleet, event, "written", None).await;
    }
    let everything = "select (select string_agg(e::text, ' ') from event e)
                          || (select string_agg(i::text, ' ') from inference i)
                          || (select coalesce(string_agg(r::text, ' '), '') from inference_raw r)
                          || (select string_agg(c::text, ' ') from write_command c)
                          || (select string_agg(w::text, ' ') from write w)
                          || (select string_agg(a::text, ' ') from action a)";
    assert!(ask::<String>(&fleet, everything).await.contains("Zebulon"));
    let counts = "select count(*) || ' ' || count(distinct event_id) || ' ' || sum(prompt_tokens) from inference";
    let before: String = ask(&fleet, counts).await;
    let cost: i64 = ask(&fleet, "select sum(cost_micro_dollars)::bigint from cost_by_playbook_and_day").await;

    let dry = fleet.leadline(&["erase", "contact/1"]).await.expect("runs");
    assert!(String::from_utf8_lossy(&dry.stdout).contains("would erase"));
    assert!(ask::<String>(&fleet, everything).await.contains("Zebulon"));
    let done = fleet.leadline(&["erase", "contact/1", "--yes"]).await.expect("runs");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && said.contains(" events, 2 inferences, 3 write commands"), "{said}");

    let left: String = ask(&fleet, everything).await;
    for trace in ["Zebulon", "contact/1\\n", "0-1:1:"] {
        assert!(!left.contains(trace), "{trace} in {left}");
    }
    assert!(left.contains("contact/2"), "no other record is touched");
    let ids: i64 = ask(
        &fleet,
        "select count(*) from (select object_type, object_id from event union all select object_type, object_id from
         inference union all select object_type, object_id from write_command union all select object_type, object_id
         from write) as rows where object_type = '0-1' and object_id = 1",
    )
    .await;
    assert_eq!(ids, 0);
    assert_eq!(ask::<String>(&fleet, counts).await, before);
    let cost_after: i64 = ask(&fleet, "select sum(cost_micro_dollars)::bigint from cost_by_playbook_and_day").await;
    assert_eq!(cost_after, cost);
    let states: i64 = ask(&fleet, "select count(*) from event where state = 'written'").await;
    assert_eq!(states, 3, "how many there were is no secret");
}

#[tokio::test]
async fn what_is_unfinished_cannot_be_erased() {
    let fleet = fleet(&FleetPlan { writers: 0, ..pipeline() }).await;
    contact(&fleet, 1, &[BUYER]).await;
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    let decided = |state| state == domain::EventState::Decided;
    fleet.until_event(&key(&note_event(1, 1)), decided, WITHIN).await.expect("decided");
    let refused = fleet.leadline(&["erase", "contact/1", "--yes"]).await.expect("runs");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("1 events about contact/1 are unfinished"));
}
