//! Texts that a spreadsheet does not run when HubSpot's export of them is opened in one.

use std::borrow::Cow;

/// What begins a formula in Excel, LibreOffice and Google Sheets, also in its full-width form (OWASP, "CSV Injection").
const FORMULA: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// The text in a form that is never a formula. A list that begins with hyphens gets bullets instead; otherwise an apostrophe
/// comes first, which spreadsheets do not show. Numbers and telephone numbers stay as they are.
pub(crate) fn without_formula(text: &str) -> Cow<'_, str> {
    let begins = text.trim_start_matches(|character: char| character.is_whitespace() || is_ignored(character));
    let is_formula = begins.starts_with(FORMULA) && !is_number(begins);
    // Spreadsheets drop a tab or a line break at the beginning.
    if !is_formula && !text.starts_with(['\t', '\r']) {
        return Cow::Borrowed(text);
    }
    if text.starts_with("- ") {
        let line = |line: &str| line.strip_prefix("- ").map_or_else(|| line.to_owned(), |item| format!("• {item}"));
        return Cow::Owned(text.split('\n').map(line).collect::<Vec<_>>().join("\n"));
    }
    Cow::Owned(format!("'{text}"))
}

/// Characters that nobody sees, and some programs remove.
fn is_ignored(character: char) -> bool {
    character.is_control() || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// How many digits a telephone number has at least, with that of its country.
const MIN_TELEPHONE_DIGITS: usize = 7;

/// Whether it is a number or a telephone number: it calls nothing. A number has no sign but its first. A telephone number may
/// have hyphens, at which a spreadsheet computes, to no other effect than that it is not shown.
fn is_number(text: &str) -> bool {
    let text = text.trim_end();
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let consists_of = |text: &str, signs: &str| text.chars().all(|c| c.is_ascii_digit() || signs.contains(c));
    if text.parse::<f64>().is_ok_and(f64::is_finite) {
        return true;
    }
    let is_number = text.strip_prefix(['+', '-']).is_some_and(|number| consists_of(number, " \u{a0}.,%"));
    let is_telephone = text.strip_prefix('+').is_some_and(|number| consists_of(number, " \u{a0}.,()/-"));
    is_number && digits > 0 || is_telephone && digits >= MIN_TELEPHONE_DIGITS
}

#[cfg(test)]
mod tests {
    use super::without_formula;

    #[test]
    fn a_formula_becomes_text() {
        for (text, written) in [
            ("=HYPERLINK(\"https://evil.example\",\"x\")", "'=HYPERLINK(\"https://evil.example\",\"x\")"),
            ("=1+1", "'=1+1"),
            ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
            ("-cmd|' /C calc'!A0", "'-cmd|' /C calc'!A0"),
            ("-1+1", "'-1+1"),
            ("-5-3", "'-5-3"),
            ("-5/3", "'-5/3"),
            ("-(5)", "'-(5)"),
            ("+1-2", "'+1-2"),
            ("@SUM(1,1)", "'@SUM(1,1)"),
            ("\u{ff1d}1+1", "'\u{ff1d}1+1"),
            ("\tx", "'\tx"),
            ("\r=1", "'\r=1"),
            ("  \u{feff}=1", "'  \u{feff}=1"),
            ("\n@x", "'\n@x"),
            ("-", "'-"),
            ("- cmd|' /C calc'!A0\n- b", "• cmd|' /C calc'!A0\n• b"),
        ] {
            assert_eq!(without_formula(text), written);
        }
    }

    #[test]
    fn numbers_and_texts_stay_as_they_are() {
        for text in [
            "-5",
            "+5",
            "-5.25",
            "-1e5",
            "+49 (0) 171 / 123-45",
            "+49-171-12345",
            "+1.5 %",
            "-5 %",
            "-1,000.50",
            "",
            " ",
            "a=b",
            "1-2",
            "'=1",
            "Ada",
            "\u{2013} 5",
        ] {
            assert_eq!(without_formula(text), text);
        }
    }
}
