//! Names of closed sets as arguments.

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// Parses the name of a member of a closed set. The error for another name lists all names and a similar one.
pub fn one_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(|member| name(*member)))
        .try_map(move |text| all.iter().copied().find(|member| name(*member) == text).context("unknown name"))
}
