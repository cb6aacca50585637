//! What is read of HubSpot, from the simulator alone: many reads share a call, and facts about the portal hold nothing up.
#![allow(clippy::expect_used, reason = "these are tests; their fixtures too")]

mod batched_reads;
mod fixtures;
mod portal_facts;
