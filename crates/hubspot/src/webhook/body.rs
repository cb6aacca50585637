//! A webhook's body as it arrives. Only what the fleet needs of it stays in memory: long strings are cut while they arrive.

use memchr::{memchr, memchr2};

use super::{MAX_EVENTS, WebhookBodyError, WebhookElement, elements};

/// The longest property value that HubSpot stores, in characters (its guide to properties).
const MAX_VALUE_CHARACTERS: usize = 65_536;

/// The most bytes of a character in JSON: `\u00e4`, or four in UTF-8.
const MAX_CHARACTER_BYTES: usize = 6;

/// The most bytes that an event has beside its value. HubSpot's events have a few hundred.
const MAX_OTHER_BYTES: usize = 4_096;

/// How much of a body is taken, and how much of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyBounds {
    /// The most bytes that may arrive.
    pub max_bytes: usize,
    /// The most bytes that are kept, without what is cut.
    pub max_kept_bytes: usize,
    /// The most bytes of one string that are kept, as JSON writes it. A longer one ends with [`CUT`].
    pub max_string_bytes: usize,
}

impl BodyBounds {
    /// The largest body that HubSpot can send: a hundred events with the longest value, in the longest form.
    pub const LARGEST: usize = MAX_EVENTS * (MAX_VALUE_CHARACTERS * MAX_CHARACTER_BYTES + MAX_OTHER_BYTES);
}

impl Default for BodyBounds {
    fn default() -> Self {
        Self { max_bytes: Self::LARGEST, max_kept_bytes: 1_048_576, max_string_bytes: 4_096 }
    }
}

/// How a string ends that was cut.
pub const CUT: char = '…';

/// What stands for a character that no text can hold: U+0000, which Postgres refuses, and half of a surrogate pair.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// A webhook's body, of which a part or all has arrived.
#[derive(Debug)]
pub struct WebhookBody {
    bounds: BodyBounds,
    arrived: usize,
    kept: Vec<u8>,
    place: Place,
}

/// Where in the JSON text the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Inside(OpenString),
}

/// A string whose end has not arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OpenString {
    /// Where it begins in what is kept, after its quotation mark.
    start: usize,
    /// Whether the last byte was a backslash that begins an escape.
    after_backslash: bool,
    has_escape: bool,
    is_cut: bool,
}

impl WebhookBody {
    /// A body of which nothing has arrived.
    pub fn new(bounds: BodyBounds) -> Self {
        Self { bounds, arrived: 0, kept: Vec::new(), place: Place::Outside }
    }

    /// How many bytes are kept.
    pub fn kept_bytes(&self) -> usize {
        self.kept.len()
    }

    /// Takes the next bytes. They need not end where a string or a character ends.
    ///
    /// # Errors
    /// More bytes arrived, or would be kept, than allowed.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), WebhookBodyError> {
        self.arrived = self.arrived.saturating_add(bytes.len());
        if self.arrived > self.bounds.max_bytes {
            return Err(WebhookBodyError::TooLong(self.bounds.max_bytes));
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.place {
                Place::Outside => self.outside(rest),
                Place::Inside(string) => self.inside(string, rest),
            };
            if self.kept.len() > self.bounds.max_kept_bytes {
                return Err(WebhookBodyError::TooMuchKept(self.bounds.max_kept_bytes));
            }
        }
        Ok(())
    }

    /// The elements of the array, once all of it has arrived.
    ///
    /// # Errors
    /// The body is not an array of 1–100 elements. An invalid element is part of the result, so that the valid ones beside
    /// it are still processed.
    pub fn elements(&self) -> Result<Vec<WebhookElement>, WebhookBodyError> {
        elements(&self.kept)
    }

    /// Keeps everything up to the next string. Returns what follows.
    fn outside<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = memchr(b'"', bytes).map_or(bytes.len(), |quote| quote + 1);
        // At most one byte more than allowed, so that the memory is bounded whatever the size of the chunks.
        let room = (self.bounds.max_kept_bytes + 1).saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&bytes[..end.min(room)]);
        if end > 0 && bytes[end - 1] == b'"' {
            let start = self.kept.len();
            self.place = Place::Inside(OpenString { start, after_backslash: false, has_escape: false, is_cut: false });
        }
        &bytes[end..]
    }

    /// Keeps the beginning of a string. Returns what follows the bytes that were looked at.
    fn inside<'a>(&mut self, mut string: OpenString, bytes: &'a [u8]) -> &'a [u8] {
        if string.after_backslash {
            string.after_backslash = false;
            self.keep(&mut string, &bytes[..1]);
            self.place = Place::Inside(string);
            return &bytes[1..];
        }
        let end = memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
        self.keep(&mut string, &bytes[..end]);
        match bytes.get(end) {
            None => self.place = Place::Inside(string),
            Some(b'\\') => {
                self.keep(&mut string, b"\\");
                string.after_backslash = true;
                string.has_escape = true;
                self.place = Place::Inside(string);
            }
            Some(_) => {
                self.close(string);
                self.place = Place::Outside;
            }
        }
        bytes.get(end + 1..).unwrap_or_default()
    }

    fn keep(&mut self, string: &mut OpenString, bytes: &[u8]) {
        let room = self.bounds.max_string_bytes.saturating_sub(self.kept.len() - string.start);
        string.is_cut |= bytes.len() > room;
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Ends a string: what cannot be stored is replaced, and a cut one ends between two characters.
    fn close(&mut self, string: OpenString) {
        if string.is_cut || string.has_escape {
            let text = self.kept.split_off(string.start);
            push_storable(&mut self.kept, &text, string.is_cut);
        }
        if string.is_cut {
            push_character(&mut self.kept, CUT);
        }
        self.kept.push(b'"');
    }
}

fn push_character(text: &mut Vec<u8>, character: char) {
    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Copies the inside of a JSON string, with [`REPLACEMENT`] for what cannot be stored. Of a cut one, what remains of a
/// character at the end is left out.
fn push_storable(target: &mut Vec<u8>, text: &[u8], is_cut: bool) {
    let mut rest = text;
    while let Some(first) = rest.first() {
        let length = match first {
            b'\\' if rest.get(1) == Some(&b'u') => 6,
            0xf0.. => 4,
            0xe0.. => 3,
            b'\\' | 0xc0.. => 2,
            _ => 1,
        };
        let (unit, after) = rest.split_at(length.min(rest.len()));
        if unit.len() < length && is_cut {
            return;
        }
        match utf16_unit(unit) {
            Some(0xd800..=0xdbff) => match utf16_unit(after.get(..6).unwrap_or_default()) {
                Some(0xdc00..=0xdfff) => {
                    target.extend_from_slice(&rest[..12]);
                    rest = &rest[12..];
                    continue;
                }
                // The other half may have been cut off.
                _ if is_cut && after.len() < 6 => return,
                _ => push_character(target, REPLACEMENT),
            },
            Some(0 | 0xdc00..=0xdfff) => push_character(target, REPLACEMENT),
            _ => target.extend_from_slice(unit),
        }
        rest = after;
    }
}

/// The number of an escape such as `\u00e4`.
fn utf16_unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.strip_prefix(b"\\u").filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What is kept of a string with this JSON text, which arrives in chunks of `chunk` bytes.
    fn kept(text: &str, max_string_bytes: usize, chunk: usize) -> String {
        let mut body = WebhookBody::new(BodyBounds { max_string_bytes, ..BodyBounds::default() });
        for part in format!("[\"{text}\"]").as_bytes().chunks(chunk) {
            body.push(part).expect("within the bounds");
        }
        let strings: Vec<String> = serde_json::from_slice(&body.kept).expect("JSON");
        strings.concat()
    }

    #[test]
    fn a_string_is_cut_between_two_characters_however_it_arrives() {
        for (text, expected) in [
            ("0123456789", "0123456789"),
            ("0123456789a", "0123456789…"),
            ("01234567äö", "01234567ä…"),
            ("012345678ä", "012345678…"),
            ("01234567€", "01234567…"),
            ("0123456😀", "0123456…"),
            (r"01234567\n\n", "01234567\n…"),
            (r"012345678\n", "012345678…"),
            (r"012345\u00e4", "012345…"),
            (r"0123\u00e4", "0123ä"),
            (r"0123\ud83d\ude00", "0123…"),
            (r"0\ud83d\ude00", "0…"),
            (r#"01234567\""#, "01234567\""),
            (r#"012345678\"9"#, "012345678…"),
            (r"01234567\\", r"01234567\"),
            (r"012345678\\", r"012345678…"),
        ] {
            for chunk in 1..=text.len() + 4 {
                assert_eq!(kept(text, 10, chunk), expected, "{text} in chunks of {chunk}");
            }
        }
    }

    #[test]
    fn what_cannot_be_stored_is_replaced_and_nothing_else() {
        for (text, expected) in [
            (r"a\u0000b", "a\u{fffd}b"),
            (r"\ud83d", "\u{fffd}"),
            (r"\ud83d!", "\u{fffd}!"),
            (r"\ud83d\ud83d\ude00", "\u{fffd}😀"),
            (r"\ude00\ud83d", "\u{fffd}\u{fffd}"),
            (r"\uD83D\uDE00", "😀"),
            (r"\\u0000", r"\u0000"),
            (r"\\\u0000", "\\\u{fffd}"),
            (r"\u0001\t", "\u{1}\t"),
        ] {
            for chunk in 1..=text.len() + 4 {
                assert_eq!(kept(text, 100, chunk), expected, "{text} in chunks of {chunk}");
            }
        }
    }

    #[test]
    fn a_hundred_of_the_longest_values_leave_less_than_half_a_megabyte() {
        for value in ["x", "ä", "😀", r"\u00e4"] {
            let event = format!(r#"{{"propertyValue":"{}"}}"#, value.repeat(MAX_VALUE_CHARACTERS));
            let events = format!("[{}]", vec![event.as_str(); MAX_EVENTS].join(","));
            assert!(events.len() <= BodyBounds::LARGEST, "{}", events.len());
            let mut body = WebhookBody::new(BodyBounds::default());
            for part in events.as_bytes().chunks(16_384) {
                body.push(part).expect("within the bounds");
                assert!(body.kept_bytes() < 500_000);
            }
            assert_eq!(body.elements().expect("an array").len(), MAX_EVENTS);
        }
    }

    #[test]
    fn neither_what_arrives_nor_what_is_kept_exceeds_its_bound() {
        let bounds = BodyBounds { max_bytes: 100, max_kept_bytes: 50, max_string_bytes: 10 };
        let mut body = WebhookBody::new(bounds);
        body.push(&[b' '; 50]).expect("as much as allowed");
        assert!(matches!(body.push(b" "), Err(WebhookBodyError::TooMuchKept(50))));
        let mut body = WebhookBody::new(bounds);
        assert!(matches!(body.push(&[b' '; 90]), Err(WebhookBodyError::TooMuchKept(50))));
        assert_eq!(body.kept_bytes(), 51, "no more than needed to notice");
        let mut body = WebhookBody::new(bounds);
        body.push(format!("\"{}", "x".repeat(99)).as_bytes()).expect("one long string");
        assert_eq!(body.kept_bytes(), 11);
        assert!(matches!(body.push(b"\""), Err(WebhookBodyError::TooLong(100))));
    }

    #[test]
    fn json_without_long_strings_is_kept_to_the_byte() {
        let text = json!([{"a": "b\n\"\\", "ä": [1, null, true, "😀"], "": {"c": "\u{1}"}}]).to_string();
        for chunk in 1..=text.len() {
            let mut body = WebhookBody::new(BodyBounds::default());
            text.as_bytes().chunks(chunk).for_each(|part| body.push(part).expect("within the bounds"));
            assert_eq!(body.kept, text.as_bytes());
        }
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }
}
