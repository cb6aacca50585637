//! Reading the folder of playbooks.

use std::path::Path;

use domain::{Playbook, playbook::Finding};

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

/// Every playbook of `folder`, by file name.
///
/// # Errors
/// All that is wrong with any of them: one wrong playbook refuses them all, at start, where somebody looks.
pub fn load(folder: &Path) -> Result<Vec<Playbook>, PlaybooksError> {
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
    let (mut playbooks, mut findings): (Vec<Playbook>, Vec<Finding>) = (Vec::new(), Vec::new());
    for path in files {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|error| PlaybooksError::Unreadable(file.clone(), error))?;
        match Playbook::parse(&file, &text) {
            Ok(playbook) if playbooks.iter().any(|known| known.name == playbook.name) => {
                let message = format!("a playbook named `{}` is there already", playbook.name);
                findings.push(Finding { file, line: 1, message });
            }
            Ok(playbook) => playbooks.push(playbook),
            Err(wrong) => findings.extend(wrong.0),
        }
    }
    if findings.is_empty() { Ok(playbooks) } else { Err(PlaybooksError::Wrong(findings)) }
}
