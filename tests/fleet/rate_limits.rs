//! The fleet never takes more than its share of a limit, summed over all replicas; and says so when it waits for it.

use std::time::{Duration, Instant};

use lab::FleetPlan;
use ledger::{AcquireRequest, Grant, Ledger, ObservedQuota, RateLimitTerms, Refund, Window};

use crate::{
    fixtures::{BUYER, WITHIN, ask, contact, ended_as, fleet, key, note_event, quick, send_accepted},
    ledger_rules::ledger,
};

const NAME: &str = "test/calls";

async fn define(ledger: &Ledger, window: Window, quota: i64, share: f64) {
    let terms = RateLimitTerms { name: NAME.to_owned(), window, quota, share };
    ledger.define_rate_limits(&[terms]).await.expect("defined");
}

async fn borrow(
    ledger: &Ledger,
    need: i64,
    want: i64,
    lane: f64,
    heard: Option<ObservedQuota>,
    hold: Option<Duration>,
) -> Grant {
    let names = [NAME.to_owned()];
    let ask = AcquireRequest {
        names: &names,
        need: &[need],
        want: &[want],
        usable_share: lane,
        observed: &[heard],
        pause: hold,
        refunds: &[],
    };
    ledger.acquire_quota(&ask).await.expect("asked")
}

/// Something between 0 and 1, another one each time.
fn dice(number: u64, count: usize, at: Duration) -> f64 {
    let mixed = u64::from(at.subsec_nanos()) ^ (number << 7) ^ count as u64;
    f64::from(u32::try_from(mixed % 1_009).expect("small")) / 1_009.0
}

/// All that is to be had within a moment.
async fn borrow_all(ledger: &Ledger, lane: f64) -> i64 {
    let (mut sum, started) = (0, Instant::now());
    while started.elapsed() < Duration::from_secs(3) {
        let loan = borrow(ledger, 1, 1_000, lane, None, None).await;
        sum += loan.granted[0];
        if loan.granted[0] == 0 {
            tokio::time::sleep(loan.wait.min(Duration::from_millis(100))).await;
        }
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_greedy_replicas_never_take_more_than_the_quota_in_any_window_and_waste_little_of_it() {
    let (ledger, _space) = ledger().await;
    // Each call is used at the last moment at which its lot is worth anything, or at once: the worst for a window.
    define(&ledger, Window::Rolling(Duration::from_secs(4)), 120, 1.0).await;
    let started = Instant::now();
    let replica = |number: u64| {
        let ledger = ledger.clone();
        async move {
            let mut used: Vec<Duration> = Vec::new();
            while started.elapsed() < Duration::from_secs(11) {
                let asked = started.elapsed();
                let loan = borrow(&ledger, 1, 5, 1.0, None, None).await;
                // Nobody can use what has not come yet.
                let came = started.elapsed();
                let at = if number.is_multiple_of(2) { came.max(asked + loan.valid[0]) } else { came };
                used.extend((0..loan.granted[0]).map(|_| at));
                let pause = loan.wait.max(Duration::from_millis(15));
                tokio::time::sleep(pause.mul_f64(1.0 + dice(number, used.len(), asked) * 0.5)).await;
            }
            used
        }
    };
    let tasks: Vec<_> = (0..8).map(|number| tokio::spawn(replica(number))).collect();
    let mut used = Vec::new();
    let mut shares = Vec::new();
    for task in tasks {
        let part = task.await.expect("no panic");
        shares.push(part.len());
        used.extend(part);
    }
    used.sort();
    let window = Duration::from_secs(4);
    let most = used.iter().map(|from| used.iter().filter(|at| *at >= from && **at < *from + window).count()).max();
    assert!(most.expect("some") <= 120, "{most:?} within a window of 120");
    // A full window at once, then what leaves it: 120 + 7 s × 30/s.
    assert!(used.len() >= 300, "{} of 330 were used", used.len());
    let least = *shares.iter().min().expect("eight");
    assert!(least * 3 >= used.len() / 8, "nobody goes hungry: {shares:?}");
}

#[tokio::test]
async fn who_stops_early_gives_back_and_a_dead_one_only_leaves_its_lot_unused() {
    let (ledger, _space) = ledger().await;
    define(&ledger, Window::Rolling(Duration::from_secs(60)), 100, 1.0).await;
    let loan = borrow(&ledger, 1, 10, 1.0, None, None).await;
    assert_eq!(loan.granted, [10]);
    let names = [NAME.to_owned()];
    let back = [Refund { limit: 0, slice: loan.slices[0], amount: 4 }];
    let ask = AcquireRequest {
        names: &names,
        need: &[0],
        want: &[0],
        usable_share: 1.0,
        observed: &[None],
        pause: None,
        refunds: &back,
    };
    ledger.acquire_quota(&ask).await.expect("asked");
    assert_eq!(ledger.rate_limits().await.expect("asked")[0].used, 6);
    // Nothing is ever lent beyond the rest, whoever has what was lent before.
    assert!(borrow_all(&ledger, 1.0).await <= 94);
}

#[tokio::test]
async fn others_shrink_the_share_at_once_and_it_grows_back_slowly() {
    let (ledger, _space) = ledger().await;
    define(&ledger, Window::Rolling(Duration::from_secs(10)), 100, 0.8).await;
    let heard = |quota, remaining| Some(ObservedQuota { quota, remaining, age: Duration::ZERO });
    let loan = borrow(&ledger, 1, 1, 1.0, heard(190, 189), None).await;
    assert_eq!(loan.allowed, [152], "the quota is learnt from an answer: 80 % of 190");
    // Of 190, 120 are gone, and one of them is ours.
    let loan = borrow(&ledger, 1, 1, 1.0, heard(190, 70), None).await;
    assert_eq!(loan.allowed, [190 - 119 - 2], "the others' 119 and a little headroom are theirs");
    let loan = borrow(&ledger, 1, 1, 1.0, heard(190, 187), None).await;
    assert!(loan.allowed[0] < 74, "not at once: {:?}", loan.allowed);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let grown = borrow(&ledger, 1, 1, 1.0, heard(190, 187), None).await.allowed[0];
    assert!((72..88).contains(&grown), "about two a second: {grown}");
}

#[tokio::test]
async fn a_refusal_holds_everybody() {
    let (ledger, _space) = ledger().await;
    define(&ledger, Window::Rolling(Duration::from_secs(10)), 100, 0.8).await;
    let loan = borrow(&ledger, 0, 0, 1.0, None, Some(Duration::from_secs(2))).await;
    assert_eq!(loan.granted, [0]);
    let loan = borrow(&ledger, 1, 1, 1.0, None, None).await;
    assert_eq!(loan.granted, [0]);
    assert!(loan.wait > Duration::from_secs(1), "{:?}", loan.wait);
    let entry = ledger.rate_limits().await.expect("asked").remove(0);
    assert!(entry.rejections == 1 && entry.held_until.is_some(), "{entry:?}");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(borrow(&ledger, 1, 1, 1.0, None, None).await.granted, [1]);
}

#[tokio::test]
async fn a_backfill_leaves_a_reserve_to_what_happens_now() {
    let (ledger, _space) = ledger().await;
    define(&ledger, Window::Rolling(Duration::from_secs(60)), 100, 0.8).await;
    let backfill = borrow_all(&ledger, 0.5).await;
    assert!((30..=40).contains(&backfill), "half of 80: {backfill}");
    assert!(borrow(&ledger, 1, 1, 1.0, None, None).await.granted[0] > 0, "there is some for live events");
}

#[tokio::test]
async fn a_used_up_day_lets_one_call_through_now_and_then_and_goes_on_when_the_day_is_new() {
    let (ledger, _space) = ledger().await;
    define(&ledger, Window::Day, 1_000, 0.9).await;
    let heard = |remaining| Some(ObservedQuota { quota: 1_000, remaining, age: Duration::ZERO });
    assert_eq!(borrow(&ledger, 1, 5, 1.0, heard(500), None).await.granted, [5]);
    // A tenth of the day's calls is a floor that is left to others.
    let loan = borrow(&ledger, 1, 1, 1.0, heard(100), None).await;
    assert_eq!(loan.granted, [0]);
    assert!(loan.wait > Duration::from_secs(60));
    // The other side's midnight.
    assert_eq!(borrow(&ledger, 1, 1, 1.0, heard(1_000), None).await.granted, [1]);
}

/// Two workers and a writer at a portal that allows few calls: slower, and not a single 429.
#[tokio::test]
async fn a_fleet_at_the_limit_is_never_refused() {
    let arguments = ["--calls-per-10s", "25"].map(ToOwned::to_owned).to_vec();
    let plan = FleetPlan { inferences: 2, simulator_arguments: arguments, ..quick() }
        .with("inference.lease_seconds", "60")
        .with("writer.lease_seconds", "60");
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
    assert!(calls.iter().all(|call| call.status != 429), "nobody was refused");
    let within = |from: i64| calls.iter().filter(|call| (from..from + 10_000).contains(&call.at_ms)).count();
    let most = calls.iter().map(|call| within(call.at_ms)).max().expect("some");
    assert!((12..=20).contains(&most), "80 % of 25 at most: {most} of {} calls", calls.len());
    // 63 when no batch waits to fill up, 36 to 39 when they do.
    assert!(calls.len() <= 50, "calls fill up at the limit: {} for 15 events", calls.len());
    let said = String::from_utf8(fleet.leadline(&["status"]).await.expect("runs").stdout).expect("UTF-8");
    assert!(said.contains("hubspot/9876543/10s"), "{said}");
}

/// A playbook with money for a few questions: the rest waits for tomorrow, and the operator is told.
#[tokio::test]
async fn a_playbook_that_has_spent_its_money_pauses_and_says_so() {
    let folder = std::env::temp_dir().join(format!("leadline-money-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let shipped = include_str!("../../deploy/playbooks/lead-qualification.toml");
    // A question of these costs about 7,800 µ$ at most, and about 2,500 in the end.
    let capped =
        shipped.replace("max_output_tokens = 600", "max_output_tokens = 600\nmax_micro_dollars_per_day = 12_000");
    assert_ne!(capped, shipped);
    std::fs::write(folder.join("lead-qualification.toml"), capped).expect("written");
    let fleet = fleet(&quick().with("inference.playbooks", folder.to_str().expect("UTF-8"))).await;
    let ids: Vec<i64> = (1..=12).collect();
    for id in &ids {
        contact(&fleet, *id, &[BUYER]).await;
    }
    for id in &ids {
        send_accepted(&fleet, &[note_event(*id, 1)]).await;
        let until = |state: domain::EventState| state.is_final() || state == domain::EventState::Waiting;
        fleet.until_event(&key(&note_event(*id, 1)), until, WITHIN).await.expect("looked at");
    }
    let written: i64 = ask(&fleet, "select count(*) from event where state = 'written'").await;
    let waiting: i64 =
        ask(&fleet, "select count(*) from event where state = 'waiting' and reason = 'playbook_paused'").await;
    let spent: i64 = ask(&fleet, "select sum(cost_micro_dollars)::bigint from inference").await;
    assert!(written >= 2 && waiting >= 2 && written + waiting == 12, "{written} written, {waiting} wait");
    assert!(spent <= 12_000, "{spent} µ$ of 12000");
    let said = String::from_utf8(fleet.leadline(&["status"]).await.expect("runs").stdout).expect("UTF-8");
    assert!(said.contains("playbook_paused") && said.contains("openai/money/lead-qualification/day"), "{said}");
    std::fs::remove_dir_all(folder).expect("removed");
}
