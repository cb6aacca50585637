//! The fleet never takes more than its share of a limit, summed over all replicas. Time is the test's.

use std::time::Duration;

use ledger::{AcquireRequest, Grant, ObservedQuota, RateLimitTerms, Refund, Window};

use crate::{clock::TestClock, fixtures::TestLedger};

const NAME: &str = "test/calls";

const SECOND: Duration = Duration::from_secs(1);

async fn define(test: &TestLedger, window: Window, quota: i64, share: f64) {
    let terms = RateLimitTerms { name: NAME.to_owned(), window, quota, share };
    test.ledger.define_rate_limits(&[terms]).await.expect("defined");
}

/// What one call asks for, beside the limit's name.
struct Needs {
    need: i64,
    want: i64,
    usable_share: f64,
    observed: Option<ObservedQuota>,
    pause: Option<Duration>,
    refunds: Vec<Refund>,
}

/// One unit is needed.
const ONE: Needs = Needs { need: 1, want: 1, usable_share: 1.0, observed: None, pause: None, refunds: vec![] };

async fn acquire(test: &TestLedger, needs: Needs) -> Grant {
    let request = AcquireRequest {
        names: &[NAME.to_owned()],
        need: &[needs.need],
        want: &[needs.want],
        usable_share: needs.usable_share,
        observed: &[needs.observed],
        pause: needs.pause,
        refunds: &needs.refunds,
    };
    test.ledger.acquire_quota(&request).await.expect("asked")
}

fn observed(quota: i64, remaining: i64) -> ObservedQuota {
    ObservedQuota { quota, remaining, age: Duration::ZERO }
}

/// What the limit counts as used.
async fn used(test: &TestLedger) -> i64 {
    test.value("select sum(amount)::bigint from rate_limit, unnest(used) as amount").await
}

/// All that can be acquired within `span`, by one caller that calls again after the wait that the answer names.
async fn acquire_all(test: &TestLedger, clock: &TestClock<'_>, usable_share: f64, span: Duration) -> i64 {
    let (mut sum, mut at) = (0, Duration::ZERO);
    while at < span {
        clock.set(at).await;
        let grant = acquire(test, Needs { want: 1_000, usable_share, ..ONE }).await;
        sum += grant.granted[0];
        at += grant.wait.max(Duration::from_millis(15));
    }
    sum
}

/// Something between 0 and 1, another one for each replica and time.
fn fraction(replica: u32, at: Duration) -> f64 {
    let mixed = (at.subsec_micros() ^ (replica << 11)).wrapping_mul(2_654_435_761);
    f64::from(mixed >> 16) / 65_536.0
}

#[tokio::test]
async fn eight_greedy_replicas_never_take_more_than_the_quota_in_any_window_and_waste_little_of_it() {
    const WINDOW: Duration = Duration::from_secs(4);
    const SPAN: Duration = Duration::from_secs(8);
    let test = TestLedger::new().await;
    let clock = TestClock::new(&test).await;
    define(&test, Window::Rolling(WINDOW), 120, 1.0).await;
    let mut next: [Duration; 8] = std::array::from_fn(|number| Duration::from_micros(number as u64 * 731));
    let mut used: [Vec<Duration>; 8] = Default::default();
    loop {
        let (number, at) = next.iter().copied().enumerate().min_by_key(|(_, at)| *at).expect("eight");
        if at >= SPAN {
            break;
        }
        clock.set(at).await;
        let grant = acquire(&test, Needs { want: 5, ..ONE }).await;
        // Half of the replicas use a grant at once, the others at the last moment at which it is valid: the worst for a
        // window.
        let use_at = if number.is_multiple_of(2) { at + grant.valid[0] } else { at };
        used[number].extend((0..grant.granted[0]).map(|_| use_at));
        let replica = u32::try_from(number).expect("eight");
        let pause = grant.wait.max(Duration::from_millis(25));
        next[number] = at + pause.mul_f64(1.0 + fraction(replica, at) * 0.5);
    }
    let least = used.iter().map(Vec::len).min().expect("eight");
    let mut all: Vec<_> = used.concat();
    all.sort();
    let most = all.iter().map(|from| all.iter().filter(|at| *at >= from && **at < *from + WINDOW).count()).max();
    assert!(most.expect("some") <= 120, "{most:?} within a window of 120");
    // A full window at once, then what leaves it: 120 + 4 s × 30/s.
    assert!(all.len() >= 218, "{} of 240 were used", all.len());
    assert!(least * 3 >= all.len() / 8, "every replica gets some: {least} of {}", all.len());
}

#[tokio::test]
async fn what_is_refunded_is_free_again_and_what_is_lost_is_not() {
    let test = TestLedger::new().await;
    let clock = TestClock::new(&test).await;
    define(&test, Window::Rolling(60 * SECOND), 100, 1.0).await;
    let grant = acquire(&test, Needs { want: 10, ..ONE }).await;
    assert_eq!(grant.granted, [10]);
    let refund = Refund { limit: 0, slice: grant.slices[0], amount: 4 };
    let nothing = acquire(&test, Needs { need: 0, want: 0, refunds: vec![refund], ..ONE }).await;
    assert_eq!(nothing.granted, [0]);
    assert_eq!(used(&test).await, 6);
    // Six of the grant were lost with their process: they count until the window is over.
    let rest = acquire_all(&test, &clock, 1.0, 3 * SECOND).await;
    assert!((80..=94).contains(&rest), "{rest}");
}

#[tokio::test]
async fn other_clients_shrink_the_share_at_once_and_it_grows_back_slowly() {
    let test = TestLedger::new().await;
    let clock = TestClock::new(&test).await;
    define(&test, Window::Rolling(10 * SECOND), 100, 0.8).await;
    let grant = acquire(&test, Needs { observed: Some(observed(190, 189)), ..ONE }).await;
    assert_eq!(grant.allowed, [152], "the quota is learnt from an answer: 80 % of 190");
    // Of 190, 120 are used up, and one of them was acquired here.
    let grant = acquire(&test, Needs { observed: Some(observed(190, 70)), ..ONE }).await;
    assert_eq!(grant.allowed, [190 - 119 - 2], "the others' 119 and a hundredth and one of headroom are left to them");
    let grant = acquire(&test, Needs { observed: Some(observed(190, 187)), ..ONE }).await;
    assert_eq!(grant.allowed, [69], "not at once");
    clock.set(3 * SECOND).await;
    let grant = acquire(&test, Needs { observed: Some(observed(190, 187)), ..ONE }).await;
    assert_eq!(grant.allowed, [69 + 5], "a hundredth of the quota a second: 1.9 · 3");
    clock.set(90 * SECOND).await;
    let grant = acquire(&test, Needs { observed: Some(observed(190, 190)), ..ONE }).await;
    assert_eq!(grant.allowed, [152], "and no further than its share");
}

#[tokio::test]
async fn an_answer_to_a_call_of_the_window_before_says_nothing() {
    let test = TestLedger::new().await;
    let _clock = TestClock::new(&test).await;
    define(&test, Window::Rolling(10 * SECOND), 100, 0.8).await;
    let late = Some(ObservedQuota { quota: 100, remaining: 0, age: 9 * SECOND + SECOND / 2 });
    assert_eq!(acquire(&test, Needs { observed: late, ..ONE }).await.allowed, [80]);
}

#[tokio::test]
async fn a_rejection_pauses_every_caller() {
    let test = TestLedger::new().await;
    let clock = TestClock::new(&test).await;
    define(&test, Window::Rolling(10 * SECOND), 100, 0.8).await;
    let grant = acquire(&test, Needs { need: 0, want: 0, pause: Some(2 * SECOND), ..ONE }).await;
    assert_eq!(grant.granted, [0]);
    let grant = acquire(&test, ONE).await;
    assert_eq!(grant.granted, [0]);
    assert!(grant.wait > SECOND && grant.wait <= 2 * SECOND, "{:?}", grant.wait);
    assert_eq!(test.value::<i64>("select rejections from rate_limit").await, 1);
    assert!(test.value::<bool>("select held_until is not null from rate_limit").await);
    clock.set(2 * SECOND + SECOND / 10).await;
    assert_eq!(acquire(&test, ONE).await.granted, [1]);
}

#[tokio::test]
async fn a_backfill_leaves_a_reserve_to_what_happens_now() {
    let test = TestLedger::new().await;
    let clock = TestClock::new(&test).await;
    define(&test, Window::Rolling(60 * SECOND), 100, 0.8).await;
    let backfill = acquire_all(&test, &clock, 0.5, 20 * SECOND).await;
    assert!((30..=40).contains(&backfill), "half of 80: {backfill}");
    assert!(acquire(&test, ONE).await.granted[0] > 0, "there is some for live events");
}

#[tokio::test]
async fn a_caller_learns_which_part_of_a_limit_all_have_used_within_the_window() {
    let test = TestLedger::new().await;
    let clock = TestClock::new(&test).await;
    define(&test, Window::Rolling(10 * SECOND), 100, 0.8).await;
    assert_eq!(acquire(&test, Needs { need: 20, want: 20, ..ONE }).await.used_share, [0.0], "before this call");
    clock.set(SECOND).await;
    let grant = acquire(&test, Needs { need: 12, want: 12, ..ONE }).await;
    assert_eq!((grant.granted, grant.used_share), (vec![12], vec![0.25]), "20 of 80");
    let used = acquire(&test, Needs { need: 0, want: 0, ..ONE }).await.used_share;
    assert_eq!(used, [0.4], "also where nothing is acquired");
    clock.set(10 * SECOND + SECOND / 2).await;
    assert_eq!(acquire(&test, ONE).await.used_share, [0.15], "the first twenty are over");
    acquire(&test, Needs { observed: Some(observed(100, 27)), ..ONE }).await;
    assert_eq!(acquire(&test, ONE).await.used_share, [14.0 / 38.0], "14, and others leave 38");
    test.run("update rate_limit set allowed = 0").await;
    assert_eq!(acquire(&test, ONE).await.used_share, [1.0], "of nothing all is used");
}

#[tokio::test]
async fn a_request_for_more_than_the_whole_limit_gets_the_whole_limit() {
    let test = TestLedger::new().await;
    let _clock = TestClock::new(&test).await;
    define(&test, Window::Rolling(60 * SECOND), 100, 0.8).await;
    assert_eq!(acquire(&test, Needs { need: 500, want: 500, ..ONE }).await.granted, [80]);
}

#[tokio::test]
async fn a_limit_that_was_used_up_is_granted_evenly_for_a_window() {
    let test = TestLedger::new().await;
    let clock = TestClock::new(&test).await;
    define(&test, Window::Rolling(10 * SECOND), 1_000, 1.0).await;
    let first = acquire_all(&test, &clock, 1.0, 4 * SECOND).await;
    assert_eq!(first, 1_000, "a burst passes within moments");
    assert!(test.value::<bool>("select paced_until is not null from rate_limit").await);
    // The burst has left the window. In each tenth of it, a fifth more than a tenth is granted, and no more.
    test.run("update rate_limit set paced_until = paced_until + interval '20 seconds'").await;
    let mut granted = 0;
    for step in 0..20 {
        clock.set(25 * SECOND + SECOND * step / 25).await;
        granted += acquire(&test, Needs { want: 1_000, ..ONE }).await.granted[0];
    }
    assert!((100..=120).contains(&granted), "within most of a tenth of the window: {granted}");
}

#[tokio::test]
async fn several_limits_are_acquired_together_or_not_at_all() {
    let test = TestLedger::new().await;
    let _clock = TestClock::new(&test).await;
    let terms = |name: &str, quota| RateLimitTerms {
        name: name.to_owned(),
        window: Window::Rolling(60 * SECOND),
        quota,
        share: 1.0,
    };
    test.ledger.define_rate_limits(&[terms("requests", 100), terms("tokens", 1_000)]).await.expect("defined");
    let names = ["tokens".to_owned(), "requests".to_owned()];
    let acquire = async |need: [i64; 2], pause: Option<Duration>| {
        let request = AcquireRequest {
            names: &names,
            need: &need,
            want: &need,
            usable_share: 1.0,
            observed: &[None, None],
            pause,
            refunds: &[],
        };
        test.ledger.acquire_quota(&request).await.expect("asked")
    };
    assert_eq!(acquire([200, 1], None).await.granted, [200, 1]);
    acquire([0, 0], Some(SECOND)).await;
    assert_eq!(acquire([200, 1], None).await.granted, [0, 0], "the tokens are paused, so no request is taken either");
    let used: String = test.value("select string_agg(name || ' ' || (select sum(amount) from unnest(used) as amount), ', ' order by name) from rate_limit").await;
    assert_eq!(used, "requests 1, tokens 200");
}

#[tokio::test]
async fn a_used_up_day_lets_one_call_through_now_and_then_and_goes_on_when_the_day_is_new() {
    let test = TestLedger::new().await;
    let clock = TestClock::new(&test).await;
    // Not within six minutes of midnight, when the day of the window ends as well.
    let noon: i64 = test.value("select 43200 - (extract(epoch from now())::bigint % 86400)").await;
    let noon = Duration::from_secs(noon.rem_euclid(86_400).unsigned_abs());
    clock.set(noon).await;
    define(&test, Window::Day, 1_000, 0.9).await;
    assert_eq!(acquire(&test, Needs { want: 5, observed: Some(observed(1_000, 500)), ..ONE }).await.granted, [5]);
    // A tenth of the day's calls is left to other clients.
    let grant = acquire(&test, Needs { observed: Some(observed(1_000, 100)), ..ONE }).await;
    assert_eq!(grant.granted, [0]);
    assert!(grant.wait > 60 * SECOND, "{:?}", grant.wait);
    clock.set(noon + 301 * SECOND).await;
    assert_eq!(acquire(&test, ONE).await.granted, [1], "one call finds out whether the other side's day is new");
    assert_eq!(acquire(&test, ONE).await.granted, [0]);
    // It is.
    assert_eq!(acquire(&test, Needs { observed: Some(observed(1_000, 1_000)), ..ONE }).await.granted, [1]);
}

#[tokio::test]
async fn a_quota_that_was_learnt_outweighs_the_configured_one_and_a_new_share_counts() {
    let test = TestLedger::new().await;
    let _clock = TestClock::new(&test).await;
    let window = Window::Rolling(10 * SECOND);
    define(&test, window, 100, 0.8).await;
    define(&test, window, 110, 0.8).await;
    assert_eq!(acquire(&test, ONE).await.allowed, [88], "no answer has named another quota yet");
    acquire(&test, Needs { observed: Some(observed(190, 189)), ..ONE }).await;
    define(&test, window, 110, 0.5).await;
    let entry = test.ledger.rate_limits().await.expect("asked").remove(0);
    assert_eq!((entry.quota, entry.allowed), (190, 95));
    let unknown = AcquireRequest {
        names: &["unknown".to_owned()],
        need: &[1],
        want: &[1],
        usable_share: 1.0,
        observed: &[None],
        pause: None,
        refunds: &[],
    };
    test.ledger.acquire_quota(&unknown).await.expect_err("it was never defined");
}

#[tokio::test]
async fn money_is_shown_apart_from_calls() {
    let test = TestLedger::new().await;
    let terms = |name: &str, window, quota| RateLimitTerms { name: name.to_owned(), window, quota, share: 1.0 };
    let limits = [
        terms("hubspot/9876543/10s", Window::Rolling(10 * SECOND), 190),
        terms("hubspot/9876543/day", Window::Day, 250_000),
        terms("openai/money/day", Window::Day, 50_000_000),
        terms("openai/money/lead-qualification/day", Window::Day, 12_000),
    ];
    test.ledger.define_rate_limits(&limits).await.expect("defined");
    let request = AcquireRequest {
        names: &["openai/money/lead-qualification/day".to_owned()],
        need: &[7_800],
        want: &[7_800],
        usable_share: 1.0,
        observed: &[None],
        pause: None,
        refunds: &[],
    };
    assert_eq!(test.ledger.acquire_quota(&request).await.expect("asked").granted, [7_800]);
    assert_eq!(test.ledger.acquire_quota(&request).await.expect("asked").granted, [0], "4,200 are left");
    let calls: Vec<_> = test.ledger.rate_limits().await.expect("asked").into_iter().map(|entry| entry.name).collect();
    assert_eq!(calls, ["hubspot/9876543/10s", "hubspot/9876543/day"]);
    let money = test.ledger.spend_limits().await.expect("asked");
    let money: Vec<_> = money
        .iter()
        .map(|entry| (entry.playbook.as_deref(), entry.micro_dollars_per_day, entry.micro_dollars_spent))
        .collect();
    assert_eq!(money, [(None, 50_000_000, 0), (Some("lead-qualification"), 12_000, 7_800)]);
}

#[tokio::test]
async fn who_is_refused_writes_nothing() {
    let test = TestLedger::new().await;
    let clock = TestClock::new(&test).await;
    define(&test, Window::Rolling(10 * SECOND), 10, 1.0).await;
    assert_eq!(acquire(&test, Needs { need: 10, want: 10, ..ONE }).await.granted, [10]);
    clock.set(SECOND).await;
    // What is refused for the first time starts the pace; what is refused later changes nothing.
    assert_eq!(acquire(&test, ONE).await.granted, [0]);
    // A lock of a row, too, is a new `xmax`, which has to be flushed.
    let row = "select concat(ctid, ' ', xmin, ' ', xmax) from rate_limit";
    let before: String = test.value(row).await;
    clock.set(2 * SECOND).await;
    assert_eq!(acquire(&test, ONE).await.granted, [0]);
    assert_eq!(test.value::<String>(row).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_acquires_at_the_same_moment_gets_an_amount_of_their_own() {
    let test = TestLedger::new().await;
    define(&test, Window::Rolling(3_600 * SECOND), 100_000, 1.0).await;
    let callers: Vec<_> = (0..40)
        .map(|_| {
            let test = test.clone();
            tokio::spawn(async move { acquire(&test, Needs { need: 7, want: 7, ..ONE }).await.granted[0] })
        })
        .collect();
    let mut granted = 0;
    for caller in callers {
        granted += caller.await.expect("asked");
    }
    assert_eq!(granted, 280);
    assert_eq!(used(&test).await, granted);
}

#[tokio::test]
async fn who_changes_a_limit_waits_for_those_who_acquire_of_it() {
    let test = TestLedger::new().await;
    define(&test, Window::Rolling(10 * SECOND), 100, 1.0).await;
    let mut acquiring = test.database.begin().await.expect("begun");
    sqlx::query("select lock_rate_limits(array[$1])").bind(NAME).execute(&mut *acquiring).await.expect("locked");
    let changing = tokio::spawn({
        let test = test.clone();
        async move { define(&test, Window::Rolling(10 * SECOND), 100, 0.5).await }
    });
    let waits = test.waits_for_lock(&changing).await;
    assert!(waits && !changing.is_finished(), "it was changed between what a caller reads and what it stores");
    acquiring.commit().await.expect("committed");
    changing.await.expect("changed");
    assert_eq!(test.value::<i64>("select allowed from rate_limit").await, 50);
}
