//! Loading the playbooks of a folder.

use std::path::{Path, PathBuf};

use crate::{
    file::{PlaybookFinding, PlaybookFindings},
    playbook::Playbook,
};

/// Why playbooks cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder or a file cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(String, std::io::Error),
    /// The folder contains no `.toml` file.
    #[error("{0} contains no playbook (*.toml)")]
    NoPlaybooks(String),
    /// Files are not valid; each finding names its file and line.
    #[error(transparent)]
    Invalid(#[from] PlaybookFindings),
}

/// All playbooks of `folder`, sorted by file name. No playbook may write the properties in `protected`.
///
/// # Errors
/// All findings of all files. One playbook that is not valid rejects all of them, so that the operator sees it when the
/// service starts.
pub fn load(folder: &Path, protected: &[String]) -> Result<Vec<Playbook>, LoadError> {
    let shown = folder.display().to_string();
    let unreadable = |error| LoadError::Unreadable(shown.clone(), error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(LoadError::NoPlaybooks(shown));
    }
    files.sort();
    load_files(&files, protected)
}

/// The playbooks in `files`, each checked for itself and against the others.
///
/// # Errors
/// All findings of all files.
pub fn load_files(files: &[PathBuf], protected: &[String]) -> Result<Vec<Playbook>, LoadError> {
    let (mut playbooks, mut findings): (Vec<(String, Playbook)>, Vec<PlaybookFinding>) = (Vec::new(), Vec::new());
    for path in files {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| LoadError::Unreadable(file.clone(), error))?;
        match Playbook::parse(&file, &text, protected) {
            Ok(playbook) if playbooks.iter().any(|(_, known)| known.name == playbook.name) => {
                let message = format!("another file has a playbook named `{}`, too", playbook.name);
                findings.push(PlaybookFinding { file, line: 1, message });
            }
            Ok(playbook) => playbooks.push((file, playbook)),
            Err(wrong) => findings.extend(wrong.0),
        }
    }
    let together: Vec<_> = playbooks.iter().map(|(file, playbook)| (file.as_str(), playbook)).collect();
    findings.extend(ignored_triggers(&together));
    if findings.is_empty() {
        Ok(playbooks.into_iter().map(|(_, playbook)| playbook).collect())
    } else {
        Err(LoadError::Invalid(PlaybookFindings(findings)))
    }
}

/// The playbook in `text`, a file as it once was, as if it were in the folder beside `others`. `file` is its name in findings.
///
/// # Errors
/// All findings, as [`load`] has them.
pub fn load_text<'a>(
    file: &str,
    text: &str,
    protected: &[String],
    others: impl IntoIterator<Item = &'a Playbook>,
) -> Result<Playbook, PlaybookFindings> {
    let playbook = Playbook::parse(file, text, protected)?;
    let mut together = vec![(file, &playbook)];
    together.extend(others.into_iter().map(|other| (other.name.as_str(), other)));
    let findings = ignored_triggers(&together);
    if findings.is_empty() { Ok(playbook) } else { Err(PlaybookFindings(findings)) }
}

/// Findings about triggers that can never start a playbook: the loop guard ignores every change of a property that any
/// playbook writes.
fn ignored_triggers(playbooks: &[(&str, &Playbook)]) -> Vec<PlaybookFinding> {
    let mut findings = Vec::new();
    for (file, playbook) in playbooks {
        for (_, writer) in playbooks.iter().filter(|(_, other)| other.name != playbook.name) {
            let written = writer.written_properties();
            for trigger in &playbook.selection.triggers {
                let of_writer = |name: &&String| written.contains(&(trigger.object_type.clone(), name.as_str()));
                for name in trigger.properties.iter().filter(of_writer) {
                    let message = format!(
                        "a change of {}.{name} starts nothing, because the playbook `{}` writes it",
                        trigger.object_type, writer.name
                    );
                    findings.push(PlaybookFinding { file: (*file).to_owned(), line: 1, message });
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{LoadError, load, load_files, load_text};

    fn shipped(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/playbooks").join(name)
    }

    /// Loads two playbooks: the shipped `churn-risk`, and `text` from a file of its own.
    fn load_beside_churn_risk(name: &str, text: &str) -> Result<usize, LoadError> {
        let file = std::env::temp_dir().join(format!("leadline-{name}-{}.toml", std::process::id()));
        std::fs::write(&file, text).expect("written");
        let loaded = load_files(&[shipped("churn-risk.toml"), file.clone()], &[]);
        std::fs::remove_file(file).expect("removed");
        loaded.map(|playbooks| playbooks.len())
    }

    #[test]
    fn the_shipped_folder_loads_sorted_by_file_name() {
        let playbooks = load(&shipped(""), &["dealstage".to_owned()]).expect("valid");
        let names: Vec<_> = playbooks.iter().map(|playbook| playbook.name.as_str()).collect();
        assert_eq!(names, ["call-summary", "churn-risk", "lead-qualification"]);
    }

    #[test]
    fn a_folder_without_playbooks_is_an_error() {
        assert!(matches!(load(&shipped("cases"), &[]), Err(LoadError::NoPlaybooks(_))));
        assert!(matches!(load(&shipped("absent"), &[]), Err(LoadError::Unreadable(..))));
    }

    #[test]
    fn two_playbooks_of_one_name_and_triggers_that_never_match_are_rejected() {
        let text = std::fs::read_to_string(shipped("lead-qualification.toml")).expect("read");
        assert_eq!(load_beside_churn_risk("valid", &text).expect("valid"), 2);

        let same_name = text.replace("name = \"lead-qualification\"", "name = \"churn-risk\"");
        let error = load_beside_churn_risk("same-name", &same_name).expect_err("one name twice").to_string();
        assert!(error.contains("another file has a playbook named `churn-risk`"), "{error}");

        let ignored = text.replace("[\"notes_last_updated\"]", "[\"ai_sentiment_score\"]");
        let error = load_beside_churn_risk("ignored", &ignored).expect_err("it would never start").to_string();
        assert!(error.contains("contact.ai_sentiment_score starts nothing"), "{error}");
    }

    #[test]
    fn the_text_of_an_earlier_version_is_checked_as_a_file_in_the_folder_is() {
        let others = load(&shipped(""), &[]).expect("valid");
        let others = || others.iter().filter(|other| other.name != "lead-qualification");
        let text = std::fs::read_to_string(shipped("lead-qualification.toml")).expect("read");
        let load = |text: &str, protected: &[String]| load_text("leads@1", text, protected, others());
        assert_eq!(load(&text, &[]).expect("valid").name, "lead-qualification");
        let ignored = text.replace("[\"notes_last_updated\"]", "[\"ai_sentiment_score\"]");
        let error = load(&ignored, &[]).expect_err("it would never start").to_string();
        assert!(error.contains("leads@1:1: a change of contact.ai_sentiment_score starts nothing"), "{error}");
        load(&text, &["lead_score".to_owned()]).expect_err("protected since");
    }
}
