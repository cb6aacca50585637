//! What only a fleet of processes can show: crashes, signals, several replicas, a broker in trouble, memory and threads, logs
//! and metrics. Everything else is in `tests/pipeline`. Each module is named after what it shows.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

mod actions;
mod backfill;
mod backup;
mod broker_trouble;
mod check_config;
mod concurrency;
mod crash_points;
mod credentials;
mod dashboard;
mod door;
mod failover;
mod leads;
mod long_texts;
mod model_circuits;
mod observability;
mod once;
mod operator;
mod outages;
mod reconcile;
mod recovery;
mod secrets;
mod tls;
mod traces;
mod undo;
mod upgrade;
