//! A text with a URL, or with those of the nodes of a cluster.

use anyhow::Result;

/// The same text with every URL changed. Those of the testbed hold no commas.
pub(crate) fn each(urls: &str, change: impl Fn(&str) -> Result<String>) -> Result<String> {
    Ok(urls.split(',').map(change).collect::<Result<Vec<_>>>()?.join(","))
}
