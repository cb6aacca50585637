//! How long erasing a person takes in a large ledger. Measured by hand:
//! `cargo xtask test -p ledger --test ledger -- --ignored --nocapture --test-threads 1 is_measured`.

use std::time::{Duration, Instant};

use domain::inference::ErasureCause;

use crate::fixtures::{PORTAL, TestLedger, contact};

const PROMPTS: i64 = 1_000_000;

/// Days with a partition of their own.
const DAYS: i64 = 90;

/// Each prompt has an event with three states, a write command, a written property, and two notes that were read for it. The
/// prompt of number `n` is about contact `about`; one in ten thousand read a note of contact 1.
pub async fn filled(about: &str) -> TestLedger {
    let test = TestLedger::new().await;
    for table in ["inference_raw", "inference_record", "event_history"] {
        test.run(&format!(
            "do $$ declare day date; begin
                 for n in 1..{DAYS} loop
                     day := (now() at time zone 'UTC')::date - n;
                     execute format('create table {table}_%s partition of {table} for values from (%L) to (%L)',
                                    to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00', day + 1 || ' 00:00:00+00');
                 end loop; end $$"
        ))
        .await;
    }
    let began = Instant::now();
    test.run(&format!(
        "set session_replication_role = replica;
         create temporary table filled as
             select n, {about} as contact, gen_random_uuid() as event, gen_random_uuid() as inference, gen_random_uuid() as command,
                    now() - interval '{DAYS} days' * (({PROMPTS} - n)::float8 / {PROMPTS}) as at
             from generate_series(1, {PROMPTS}) n;
         insert into event (id, event_key, portal_id, subscription_type, object_type, object_id, property_name, occurred_at, payload,
                            state, worker, message_copy_id, first_claimed_at, state_since, finished_at)
             select event, 'key:' || n, {portal}, 'contact.propertyChange', '0-1', contact, 'notes_last_updated', at,
                    jsonb_build_object('objectId', contact, 'propertyValue', n), 'written', 'w', gen_random_uuid(), at, at, at
             from filled;
         insert into event_history (event_id, at, state, attempt, worker)
             select event, at, s::event_state, 1, 'w' from filled, unnest(array['claimed', 'decided', 'written']) s;
         insert into inference (id, event_id, portal_id, object_type, object_id, playbook, playbook_version, context_hash,
                                model_requested, model, outcome, fields, prompt_tokens, cached_tokens, completion_tokens,
                                latency_ms, attempt, created_at)
             select inference, event, {portal}, '0-1', contact, 'lead-qualification', 'abc123', md5(n::text), 'm', 'm', 'valid',
                    jsonb_build_object('lead_score', n), 900, 0, 90, 700, 1, at from filled;
         insert into inference_raw (inference_id, created_at, prompt, answer)
             select inference, at, jsonb_build_array(repeat(md5(n::text), 12)), md5(n::text) from filled;
         insert into inference_record (inference_id, created_at, portal_id, object_type, object_id, is_own)
             select inference, at, {portal}, '0-46', contact * 100 + k * 7 % 50, true from filled, generate_series(1, 2) k
             union all
             select inference, at, {portal}, '0-46', 107, false from filled where n % 10000 = 0;
         insert into write_command (id, event_id, inference_id, event_key, occurred_at, portal_id, object_type, object_id, properties,
                                    state, finished_at)
             select command, event, inference, 'key:' || n, at, {portal}, '0-1', contact, '[]', 'written', at from filled;
         insert into write (write_command_id, property, portal_id, object_type, object_id, occurred_at, event_key, before, after,
                            written_at)
             select command, 'lead_score', {portal}, '0-1', contact, at, 'key:' || n, (n - 1)::text, n::text, at from filled;
         set session_replication_role = default;
         drop table filled;
         analyze",
        portal = PORTAL.0
    ))
    .await;
    eprintln!("{PROMPTS} prompts in the ledger after {:?}", began.elapsed());
    test
}

async fn erase(test: &TestLedger) -> Duration {
    test.ledger.request_erasure(&contact(1), ErasureCause::Operator).await.expect("requested");
    let began = Instant::now();
    let size = test.ledger.erasure_size(&contact(1)).await.expect("asked");
    eprintln!("{size} rows about the contact, counted in {:?}", began.elapsed());
    let (mut longest, mut last, mut said) = (Duration::ZERO, Instant::now(), 0);
    let tell = |erased: &ledger::Erased| {
        longest = longest.max(last.elapsed());
        last = Instant::now();
        if erased.rows() > said + size / 10 {
            said = erased.rows();
            eprintln!("  {said} rows after {:?}", began.elapsed());
        }
    };
    let (erased, _) = test.ledger.erase_telling(&contact(1), tell).await.expect("erased");
    let took = began.elapsed();
    eprintln!("{erased:?}\nerased in {took:?}; the longest transaction took {longest:?}");
    took
}

#[tokio::test]
#[ignore = "fills a ledger for minutes"]
async fn erasing_one_of_many_persons_is_measured() {
    // Twenty prompts about each contact.
    let test = filled("1 + n % 50000").await;
    erase(&test).await;
}

#[tokio::test]
#[ignore = "fills a ledger for minutes"]
async fn erasing_the_person_whom_every_prompt_is_about_is_measured() {
    let test = filled("1").await;
    erase(&test).await;
}
