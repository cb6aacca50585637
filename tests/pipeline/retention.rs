//! Old data goes, a day at a time and in small batches.

use fixtures::{BUYER, WITHIN, ask, contact, ended_as, fleet, key, note_event, pipeline, send_accepted, sql};

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
