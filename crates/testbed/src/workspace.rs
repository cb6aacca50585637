//! Where the workspace and its binaries are, found at run time.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The workspace's root: the nearest folder with a `Cargo.toml` that has a `[workspace]` table, looked for upwards from
/// the current directory, then from the running program. A program that was moved or copied finds it all the same.
pub fn root() -> Result<PathBuf> {
    let starts = [env::current_dir(), env::current_exe()];
    let root = starts.iter().flatten().find_map(|start| start.ancestors().find(|folder| is_root(folder)));
    root.map(Path::to_owned).context("no Cargo.toml with a [workspace] table above the current directory")
}

fn is_root(folder: &Path) -> bool {
    std::fs::read_to_string(folder.join("Cargo.toml"))
        .is_ok_and(|manifest| manifest.lines().any(|line| line.trim() == "[workspace]"))
}

/// The folder with the services' binaries: that of the running program, or its parent for a test.
pub fn binaries() -> Result<PathBuf> {
    let program = env::current_exe().context("cannot find the running program's path")?;
    let folder = program.ancestors().skip(1).find(|folder| folder.join("leadline-receiver").exists());
    folder.map(Path::to_owned).context("the services are not built; run `cargo build --workspace`")
}
