//! A clock that a test sets, in place of Postgres' own.
//!
//! Functions of the schema that are written in PL/pgSQL find `clock_timestamp()` by the search path of the session. Here a
//! function of the same name stands before Postgres' own and returns what the test has set, so that a window of a rate
//! limit passes without waiting, the same on every machine. Views, column defaults and `now()` keep the real time.

use std::time::Duration;

use crate::fixtures::TestLedger;

const TEST_CLOCK: &str = "
    create schema test_clock;
    create sequence test_clock.microseconds;
    select setval('test_clock.microseconds', (extract(epoch from now()) * 1000000)::bigint);
    create function test_clock.clock_timestamp() returns timestamptz language sql volatile as $$
        select pg_catalog.to_timestamp(last_value / 1000000.0) from test_clock.microseconds
    $$;
    do $$ begin
        execute format('alter database %I set search_path = test_clock, pg_catalog, public', current_database());
    end $$;";

/// The clock of one test's database.
pub struct TestClock<'a> {
    test: &'a TestLedger,
    start_us: i64,
}

impl<'a> TestClock<'a> {
    /// Puts the clock in place; the ledger must not have been used before, because sessions take the search path when they
    /// begin. It starts at the real time and stands still.
    pub async fn new(test: &'a TestLedger) -> Self {
        test.run(TEST_CLOCK).await;
        let start_us = test.value("select last_value from test_clock.microseconds").await;
        Self { test, start_us }
    }

    /// Sets the time to so long after the start.
    pub async fn set(&self, since_start: Duration) {
        let now_us = self.start_us + i64::try_from(since_start.as_micros()).expect("a short test");
        self.test.run(&format!("select setval('test_clock.microseconds', {now_us})")).await;
    }
}
