//! What may reach a terminal: text from people has characters that a terminal would carry out.

/// The text with every character that a terminal would act on, or that would reorder or hide others, as its escape.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_visible(character) {
            shown.push(character);
        } else {
            // `\n`, `\t` and `\r` for these, `\u{1b}` for others.
            shown.extend(character.escape_default());
        }
    }
    shown
}

/// The same JSON without characters that a terminal would act on: they stand in strings alone, where JSON has escapes for them.
pub fn visible_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        if character == '\n' || is_visible(character) {
            shown.push(character);
        } else {
            character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| shown.push_str(&format!("\\u{unit:04x}")));
        }
    }
    shown
}

/// Whether a character can be printed as it is.
pub fn is_visible(character: char) -> bool {
    match character {
        // Joiners, and what makes an emoji of a sign: words and emoji consist of them.
        '\u{200c}' | '\u{200d}' | '\u{fe0f}' => true,
        // Line and paragraph separators.
        '\u{2028}' | '\u{2029}' => false,
        // Escape sequences begin with control characters, and line breaks are among them.
        _ => !character.is_control() && !playbook::is_invisible(character),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_visible, visible, visible_json};

    #[test]
    fn what_a_terminal_would_act_on_is_shown_as_an_escape() {
        for (text, shown) in [
            ("Jo\u{1b}]0;pwned\u{7}", "Jo\\u{1b}]0;pwned\\u{7}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("a\r\nstate     written", "a\\r\\nstate     written"),
            ("a\tb\u{8}\u{7f}\0", "a\\tb\\u{8}\\u{7f}\\u{0}"),
            ("\u{202e}gpj.exe\u{2066}", "\\u{202e}gpj.exe\\u{2066}"),
            ("\u{e0041}\u{200b}\u{2028}", "\\u{e0041}\\u{200b}\\u{2028}"),
            ("a\u{ad}\u{34f}\u{115f}\u{1160}\u{3164}\u{ffa0}", "a\\u{ad}\\u{34f}\\u{115f}\\u{1160}\\u{3164}\\u{ffa0}"),
            ("\u{180b}\u{180f}\u{206a}\u{fe00}\u{fe0e}", "\\u{180b}\\u{180f}\\u{206a}\\u{fe00}\\u{fe0e}"),
            ("\u{e0080}\u{e0100}\u{e0fff}", "\\u{e0080}\\u{e0100}\\u{e0fff}"),
            ("❤\u{fe0f} می\u{200c}خواهم", "❤\u{fe0f} می\u{200c}خواهم"),
            ("größer, 5 €, 日本, 👩\u{200d}💻, \\n, שלום", "größer, 5 €, 日本, 👩\u{200d}💻, \\n, שלום"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn json_has_no_control_characters_and_means_the_same() {
        let text = "größer \u{1b}[2J\u{202e}\u{e0041}\u{9b}\n🚀";
        let json = visible_json(&serde_json::to_string_pretty(&[text]).expect("JSON"));
        assert!(json.chars().all(|character| character == '\n' || is_visible(character)), "{json:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).expect("JSON"), [text]);
    }
}
