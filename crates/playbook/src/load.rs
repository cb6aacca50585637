//! Reading the folder of playbooks.

use std::path::{Path, PathBuf};

use crate::{Finding, Playbook};

/// Everything that is wrong with a folder of playbooks.
#[derive(Debug, thiserror::Error)]
pub enum PlaybooksError {
    /// The folder or a file cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(String, std::io::Error),
    /// The folder holds no `.toml` file.
    #[error("{0} holds no playbook (*.toml)")]
    None(String),
    /// Files that are wrong, each finding with file and line.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Finding>),
}

/// Every playbook of `folder`, by file name. No playbook may write the properties in `protected`.
///
/// # Errors
/// All that is wrong with any of them: one wrong playbook refuses them all, at start, where somebody looks.
pub fn load(folder: &Path, protected: &[String]) -> Result<Vec<Playbook>, PlaybooksError> {
    let shown = folder.display().to_string();
    let unreadable = |error| PlaybooksError::Unreadable(shown.clone(), error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(PlaybooksError::None(shown));
    }
    files.sort();
    load_files(&files, protected)
}

/// The playbooks in `files`, checked each on its own and against each other.
///
/// # Errors
/// All that is wrong with any of them.
pub fn load_files(files: &[PathBuf], protected: &[String]) -> Result<Vec<Playbook>, PlaybooksError> {
    let (mut playbooks, mut findings): (Vec<(String, Playbook)>, Vec<Finding>) = (Vec::new(), Vec::new());
    for path in files {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| PlaybooksError::Unreadable(file.clone(), error))?;
        match Playbook::parse(&file, &text, protected) {
            Ok(playbook) if playbooks.iter().any(|(_, known)| known.name == playbook.name) => {
                let message = format!("a playbook named `{}` is there already", playbook.name);
                findings.push(Finding { file, line: 1, message });
            }
            Ok(playbook) => playbooks.push((file, playbook)),
            Err(wrong) => findings.extend(wrong.0),
        }
    }
    findings.extend(never_started(&playbooks));
    if findings.is_empty() {
        Ok(playbooks.into_iter().map(|(_, playbook)| playbook).collect())
    } else {
        Err(PlaybooksError::Wrong(findings))
    }
}

/// A change of a property that a playbook writes starts nothing (the loop guard): another playbook that waits for it
/// would wait for ever.
fn never_started(playbooks: &[(String, Playbook)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, playbook) in playbooks {
        for (_, writer) in playbooks.iter().filter(|(_, other)| other.name != playbook.name) {
            let written = writer.written_properties();
            for trigger in &playbook.triggers {
                let of_writer = |name: &&String| written.contains(&(trigger.object_type.clone(), name.as_str()));
                for name in trigger.properties.iter().filter(of_writer) {
                    let message = format!(
                        "a change of {}.{name} starts nothing, because the playbook `{}` writes it",
                        trigger.object_type, writer.name
                    );
                    findings.push(Finding { file: file.clone(), line: 1, message });
                }
            }
        }
    }
    findings
}
