//! Paths along associations, from the record that a playbook is about to other records.

use std::fmt;

use domain::ids::{ObjectType, UnknownObjectType};

/// Types of records, each associated with the one before: `ticket > contact > deal`. The first is the type of the record
/// that the playbook is about; a path is never empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordPath(Vec<ObjectType>);

/// The maximum number of associations along a path. Each costs a call to HubSpot, and records further away rarely say
/// anything about the first one.
const MAX_STEPS: usize = 2;

/// Why a text is no valid path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordPathError {
    /// The path leads too far.
    #[error("path `{0}` has more than {MAX_STEPS} steps")]
    TooLong(String),
    /// A part of the path names no object type.
    #[error(transparent)]
    UnknownObjectType(#[from] UnknownObjectType),
    /// The path leads to an engagement. Only its first part may be one.
    #[error("a path leads to records; read `{0}` with `engagements`")]
    Engagement(ObjectType),
}

impl RecordPath {
    /// The path to the record itself.
    pub fn of(kind: ObjectType) -> Self {
        Self(vec![kind])
    }

    /// Parses a path such as `ticket > contact`.
    ///
    /// # Errors
    /// See [`RecordPathError`].
    pub fn parse(text: &str) -> Result<Self, RecordPathError> {
        let kinds =
            text.split('>').map(|kind| ObjectType::parse_supported(kind.trim())).collect::<Result<Vec<_>, _>>()?;
        if kinds.len() > MAX_STEPS + 1 {
            return Err(RecordPathError::TooLong(text.to_owned()));
        }
        match kinds.iter().skip(1).find(|kind| kind.is_engagement() && **kind != kinds[0]) {
            Some(engagement) => Err(RecordPathError::Engagement(engagement.clone())),
            None => Ok(Self(kinds)),
        }
    }

    /// The type of the record that the playbook is about.
    pub fn start(&self) -> &ObjectType {
        &self.0[0]
    }

    /// The type of the records at the end of the path.
    pub fn end(&self) -> &ObjectType {
        &self.0[self.steps()]
    }

    /// The number of associations along the path; 0 for the record itself.
    pub fn steps(&self) -> usize {
        self.0.len() - 1
    }

    /// The path without its last step; `None` for the record itself.
    pub fn parent(&self) -> Option<Self> {
        (self.steps() > 0).then(|| Self(self.0[..self.steps()].to_vec()))
    }
}

impl fmt::Display for RecordPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.0.iter().map(ObjectType::name).collect();
        f.write_str(&kinds.join(" > "))
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::{ObjectType, UnknownObjectType};

    use super::{RecordPath, RecordPathError};

    #[test]
    fn a_path_is_parsed_or_rejected_with_its_error() {
        let path = RecordPath::parse("tickets > contact>0-3").expect("a valid path");
        assert_eq!(path.to_string(), "ticket > contact > deal");
        assert_eq!(path.parent().map(|path| path.to_string()).as_deref(), Some("ticket > contact"));
        let error = |text: &str| RecordPath::parse(text).expect_err(text);
        assert_eq!(error("ticket > faxes"), RecordPathError::UnknownObjectType(UnknownObjectType("faxes".to_owned())));
        assert_eq!(
            error("ticket > contact > deal > company"),
            RecordPathError::TooLong("ticket > contact > deal > company".to_owned())
        );
        assert_eq!(error("ticket > note"), RecordPathError::Engagement(ObjectType::Note));
    }
}
