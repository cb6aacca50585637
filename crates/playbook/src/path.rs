//! How a record is reached from the one that a playbook is about.

use std::fmt;

use domain::ids::ObjectType;

/// Kinds of records, each associated to the one before: `ticket > contact > deal`. The first is the playbook's own record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordPath(Vec<ObjectType>);

/// Steps from the record: each costs a call, and records three steps away belong to somebody else's story.
const MAX_STEPS: usize = 2;

impl RecordPath {
    /// The way to the record itself.
    pub fn of(kind: ObjectType) -> Self {
        Self(vec![kind])
    }

    /// Reads `ticket > contact`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let kinds: Vec<ObjectType> = text.split('>').map(|kind| ObjectType::from(kind.trim())).collect();
        if kinds.len() > MAX_STEPS + 1 {
            return Err(format!("`{text}` has more than {MAX_STEPS} steps"));
        }
        for kind in &kinds {
            match kind {
                ObjectType::Other(name) if !name.starts_with("2-") => {
                    return Err(format!("`{name}` is no object type that Leadline knows"));
                }
                engagement if engagement.is_engagement() && kinds.len() > 1 && *engagement != kinds[0] => {
                    return Err(format!("a path leads to records; `{engagement}` is read with `engagements`"));
                }
                _ => {}
            }
        }
        Ok(Self(kinds))
    }

    /// The playbook's own record's kind.
    pub fn start(&self) -> &ObjectType {
        &self.0[0]
    }

    /// The kind of the records it leads to.
    pub fn end(&self) -> &ObjectType {
        &self.0[self.0.len() - 1]
    }

    /// The way to the record before the last; `None` for the record itself.
    pub fn parent(&self) -> Option<Self> {
        (self.0.len() > 1).then(|| Self(self.0[..self.0.len() - 1].to_vec()))
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
    use super::RecordPath;

    #[test]
    fn paths_are_read_and_refused() {
        let path = RecordPath::parse("tickets > contact>0-3").expect("right");
        assert_eq!(path.to_string(), "ticket > contact > deal");
        assert_eq!(path.parent().map(|path| path.to_string()).as_deref(), Some("ticket > contact"));
        for (wrong, why) in [
            ("ticket > faxes", "no object type"),
            ("ticket > contact > deal > company", "more than 2 steps"),
            ("ticket > note", "engagements"),
        ] {
            let error = RecordPath::parse(wrong).expect_err(wrong);
            assert!(error.contains(why), "{error}");
        }
    }
}
