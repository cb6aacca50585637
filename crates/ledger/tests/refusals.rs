//! An absent ledger is told from one that refuses what a statement carries.

use domain::{EventState, Reason};
use ledger::LedgerError;
use retry::{Failure, RetryAction};

use crate::fixtures::{TestLedger, decision_with_commands, event, worker};

/// What the ledger says about an event whose answer makes a trigger raise an error with this SQLSTATE.
async fn refused_with(test: &TestLedger, code: &str) -> LedgerError {
    test.run(&format!(
        "create or replace function refuse() returns trigger language plpgsql as $$ begin
             raise exception 'no \"secret\" of mine' using errcode = '{code}';
         end $$;
         create or replace trigger refuse before insert on inference for each row execute function refuse()"
    ))
    .await;
    test.end_event_leases().await;
    let event = event(1, 1);
    let claimed = test.claimed(&event, "a").await;
    let decision = decision_with_commands(&event, &claimed, 1);
    let refused = test.ledger.commit_decisions(&[decision]).await.expect_err("refused");
    assert_eq!(test.state(&event).await, (EventState::Claimed, None), "nothing of it is stored");
    refused
}

#[tokio::test]
async fn what_postgres_says_about_data_parks_and_what_it_says_about_itself_waits() {
    let test = TestLedger::new().await;
    for (code, action, reason) in [
        ("22P05", RetryAction::Park, Reason::LedgerRefused),
        ("22008", RetryAction::Park, Reason::LedgerRefused),
        ("23514", RetryAction::Park, Reason::LedgerRefused),
        ("54000", RetryAction::Park, Reason::LedgerRefused),
        ("23503", RetryAction::RetryLater { after: None }, Reason::LedgerRefused),
        ("P0001", RetryAction::RetryLater { after: None }, Reason::LedgerRefused),
        ("25006", RetryAction::RateLimited { after: None }, Reason::LedgerUnavailable),
        ("40P01", RetryAction::RateLimited { after: None }, Reason::LedgerUnavailable),
        ("42P01", RetryAction::RateLimited { after: None }, Reason::LedgerUnavailable),
        ("53300", RetryAction::RateLimited { after: None }, Reason::LedgerUnavailable),
        ("57P01", RetryAction::RateLimited { after: None }, Reason::LedgerUnavailable),
    ] {
        let error = refused_with(&test, code).await;
        assert_eq!((error.retry_action(), error.reason()), (action, reason), "{code}");
        assert_eq!(error.is_away(), reason == Reason::LedgerUnavailable, "{code}");
    }
}

#[tokio::test]
async fn an_error_about_data_does_not_quote_it() {
    let test = TestLedger::new().await;
    let error = refused_with(&test, "22P02").await.to_string();
    assert!(error.contains("22P02") && !error.contains("secret"), "{error}");
}

#[tokio::test]
async fn a_time_that_postgres_does_not_have_is_refused() {
    let test = TestLedger::new().await;
    let mut event = event(1, 1);
    event.occurred_at = time::Date::MIN.midnight().assume_utc();
    let requests = [ledger::ClaimRequest { event: &event, message_copy_id: uuid::Uuid::nil(), trace_id: None }];
    let refused = test.ledger.claim(&requests, &worker("a"), crate::fixtures::LEASE).await.expect_err("refused");
    assert_eq!((refused.retry_action(), refused.reason()), (RetryAction::Park, Reason::LedgerRefused), "{refused}");
}
