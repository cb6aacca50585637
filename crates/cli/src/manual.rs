//! `leadline completions` and `leadline man`: what shells and `man` know of the commands, made from the same definitions.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::{Arguments, print};

/// Prints the completions for a shell.
pub fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "leadline", &mut script);
    print::own_text(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// Writes a page for each command into a folder, which is made if it is not there.
pub fn man(folder: &Path) -> anyhow::Result<ExitCode> {
    let cannot_write = || format!("cannot write {}", folder.display());
    std::fs::create_dir_all(folder).with_context(cannot_write)?;
    clap_mangen::generate_to(command(), folder).with_context(cannot_write)?;
    let pages = std::fs::read_dir(folder).with_context(cannot_write)?.count();
    print::say!("{pages} pages are in {}; `man -l {}/leadline.1` shows the first", folder.display(), folder.display());
    Ok(ExitCode::SUCCESS)
}

fn command() -> Command {
    Arguments::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definitions_of_all_commands_hold_together() {
        super::command().debug_assert();
    }
}
