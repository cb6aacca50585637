//! Characters that Postgres cannot store, taken out of JSON before it is read.

/// The escape of U+FFFD, which stands for a character that cannot be shown. As long as the escapes that it replaces.
const REPLACEMENT: &[u8; 6] = b"\\ufffd";

/// Replaces, in the text of a JSON document, escapes that are legal there and that neither `text` nor `jsonb` of Postgres can
/// hold: U+0000, and halves of a surrogate pair without the other one, which also serde refuses. Models write both.
pub fn replace_unstorable_escapes(json: &mut [u8]) {
    let mut at = 0;
    while let Some(found) = json.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\\')) {
        at += found;
        match escaped_unit(json, at) {
            // A pair.
            Some(0xD800..=0xDBFF) if matches!(escaped_unit(json, at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
            Some(0 | 0xD800..=0xDFFF) => {
                json[at..at + 6].copy_from_slice(REPLACEMENT);
                at += 6;
            }
            Some(_) => at += 6,
            // Another escape; of `\\` the second backslash begins none.
            None => at += 2,
        }
    }
}

/// The same for a text that was read from JSON and is JSON itself, as a model's answer is.
pub fn without_unstorable_escapes(json: String) -> String {
    let mut bytes = json.into_bytes();
    replace_unstorable_escapes(&mut bytes);
    // One escape in ASCII was replaced by another, so that the bytes are text as before.
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The UTF-16 code unit of an escape `\uXXXX` that begins at `at`.
fn escaped_unit(json: &[u8], at: usize) -> Option<u32> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::without_unstorable_escapes;

    fn clean(json: &str) -> String {
        without_unstorable_escapes(json.to_owned())
    }

    #[test]
    fn nul_and_half_surrogates_are_replaced() {
        assert_eq!(clean(r#"{"a":"x\u0000y"}"#), r#"{"a":"x\ufffdy"}"#);
        assert_eq!(clean(r#"["\ud83d","\uD83Dx","\ude00","\ud83d\ud83d\ude00"]"#), {
            r#"["\ufffd","\ufffdx","\ufffd","\ufffd\ud83d\ude00"]"#
        });
        assert_eq!(clean(r#""\ud83d\n""#), r#""\ufffd\n""#);
    }

    #[test]
    fn everything_else_stays() {
        for json in [
            r#"{"emoji":"\ud83d\ude00 and \u00e9","literal":"\\u0000 \\\\ud83d","quote":"\""}"#,
            r#""a backslash at the end \"#,
            r#""\u12"#,
            r#""\uzzzz""#,
            "Grüße 😀",
            "",
        ] {
            assert_eq!(clean(json), json);
        }
        assert_eq!(clean(r#""\\\u0000""#), r#""\\\ufffd""#, "a backslash, and then U+0000");
    }

    #[test]
    fn what_is_left_is_json_that_serde_reads() {
        for unit in 0..=0xFFFF_u32 {
            let json = clean(&format!(r#"["\u{unit:04x}","\u{unit:04X}\udc00"]"#));
            let read: Vec<String> = serde_json::from_str(&json).expect("JSON");
            assert!(!read.concat().contains('\0'), "{json}");
        }
    }
}
