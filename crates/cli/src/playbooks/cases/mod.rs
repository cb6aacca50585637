//! The cases of a playbook: what it reads, and what a good answer is.

mod case;
mod expectation;

pub use case::{EvalCase, ExpectationCheck, load};
