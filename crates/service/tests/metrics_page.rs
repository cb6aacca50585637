//! docs/metrics.md lists the metrics of the code: every one, and no other.
#![allow(clippy::expect_used, reason = "this is a test; its helpers too")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The crates that read metrics of the fleet and have none of their own.
const READERS: [&str; 3] = ["lab", "testbed", "xtask"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").path()).collect()
}

/// The text of every source file under `folder`.
fn sources(folder: &Path) -> Vec<String> {
    let texts = entries(folder).into_iter().flat_map(|path| match path.extension() {
        _ if path.is_dir() => sources(&path),
        Some(extension) if extension == "rs" => vec![fs::read_to_string(&path).expect("readable")],
        _ => vec![],
    });
    texts.collect()
}

/// The names that begin with `leadline_` and stand right after a `mark`: a quotation mark in code, a backtick on the page.
fn metrics(text: &str, mark: char) -> impl Iterator<Item = String> {
    text.split(mark).filter(|piece| piece.starts_with("leadline_")).map(|piece| {
        let is_of_name = |character: &char| character.is_ascii_lowercase() || *character == '_';
        piece.chars().take_while(is_of_name).collect()
    })
}

#[test]
fn the_page_lists_the_metrics_of_the_code() {
    let page = fs::read_to_string(workspace().join("docs/metrics.md")).expect("the page");
    let documented: BTreeSet<_> = metrics(&page, '`').collect();
    let crates = entries(&workspace().join("crates"));
    let measured = crates.iter().filter(|folder| !READERS.iter().any(|reader| folder.ends_with(reader)));
    let texts = measured.flat_map(|folder| sources(&folder.join("src")));
    let recorded: BTreeSet<_> = texts.flat_map(|text| metrics(&text, '"').collect::<Vec<_>>()).collect();
    let (missing, unknown): (Vec<_>, Vec<_>) =
        (recorded.difference(&documented).collect(), documented.difference(&recorded).collect());
    assert!(missing.is_empty() && unknown.is_empty(), "not on the page: {missing:?}; not in the code: {unknown:?}");
}
