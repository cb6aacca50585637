//! A start tag with those of its attributes that matter here.

use std::hash::{DefaultHasher, Hash, Hasher};

/// The attributes that are kept.
const KEPT: [&[u8]; 13] = [
    b"background",
    b"bgcolor",
    b"color",
    b"encoding",
    b"face",
    b"hidden",
    b"open",
    b"popover",
    b"rel",
    b"size",
    b"style",
    b"text",
    b"type",
];

/// A start tag, as far as it has been read.
#[derive(Debug, Clone, Default)]
pub(super) struct Tag {
    pub(super) name: Vec<u8>,
    pub(super) is_self_closing: bool,
    attributes: Vec<(&'static [u8], String)>,
    /// Of all attributes, in any order.
    fingerprint: u64,
    /// The name and the value of the attribute that is being read.
    attribute: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tag {
    pub(super) fn named(name: &[u8]) -> Self {
        Self { name: name.to_vec(), ..Self::default() }
    }

    pub(super) fn begin_attribute(&mut self, name: &[u8]) {
        self.end_attribute();
        self.attribute = Some((name.to_vec(), Vec::new()));
    }

    pub(super) fn set_value(&mut self, value: &[u8]) {
        if let Some((_, read)) = &mut self.attribute {
            *read = value.to_vec();
        }
    }

    pub(super) fn end_attribute(&mut self) {
        let Some(attribute) = self.attribute.take() else { return };
        let mut hasher = DefaultHasher::new();
        attribute.hash(&mut hasher);
        self.fingerprint = self.fingerprint.wrapping_add(hasher.finish());
        let (name, value) = attribute;
        // Of two attributes with one name the first counts.
        if let Some(kept) = KEPT.into_iter().find(|kept| *kept == name.as_slice())
            && self.get(kept).is_none()
        {
            self.attributes.push((kept, String::from_utf8_lossy(&value).into_owned()));
        }
    }

    /// The value of an attribute that is kept.
    pub(super) fn get(&self, name: &[u8]) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Takes over the attributes of `other` that are not there.
    pub(super) fn complete_with(&mut self, other: Self) {
        for (name, value) in other.attributes {
            if self.get(name).is_none() {
                self.attributes.push((name, value));
            }
        }
    }

    /// The same for tags with the same attributes.
    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    #[cfg(test)]
    pub(super) fn with(name: &str, attributes: &[(&str, &str)]) -> Self {
        let mut tag = Self::named(name.as_bytes());
        for (name, value) in attributes {
            tag.begin_attribute(name.as_bytes());
            tag.set_value(value.as_bytes());
        }
        tag.end_attribute();
        tag
    }
}
