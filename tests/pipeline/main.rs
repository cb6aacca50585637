//! The way from a webhook to HubSpot, with everything in one process: receivers, inference workers, writers and the simulator
//! are tasks of the test, RabbitMQ and Postgres are real. Each module is named after what it shows.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

mod answers;
mod backfill;
mod bursts;
mod cases;
mod corrections;
mod crm_objects;
mod drift;
mod evaluation;
mod failures;
mod formed_slowly;
mod gates;
mod injection;
mod long_texts;
mod loops;
mod masking;
mod merges;
mod model_circuits;
mod money;
mod odd_answers;
mod once;
mod openapi;
mod operator;
mod order;
mod paid_answers;
mod parked;
mod playbook_command;
mod poolers;
mod privacy;
mod rate_limits;
mod reconcile;
mod responses;
mod retention;
mod review;
mod strangers;
mod undo;
mod use_cases;
mod versions;
mod waiting;
