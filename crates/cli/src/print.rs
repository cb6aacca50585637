//! How the commands print. Everything that they print passes through [`visible`], because it may contain text from people:
//! a terminal would carry out what control characters say.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the one place that prints")]

use std::{
    fmt::{self, Display},
    io::{self, IsTerminal, Write},
};

use serde::Serialize;

/// A table whose cells cannot control the terminal.
pub struct Table(comfy_table::Table);

/// An empty table with this header.
pub fn table(header: &[&str]) -> Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY).set_header(header.iter().copied());
    Table(table)
}

impl Table {
    /// Adds a row.
    pub fn add_row<Cell: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.0.add_row(cells.into_iter().map(|cell| visible(cell.as_ref())));
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Prints it.
    pub fn print(&self) {
        println!("{self}");
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Prints a table under its title, or `none` when it has no row.
pub fn section(title: &str, table: &Table) {
    blank();
    if table.is_empty() {
        line(format_args!("{title}: none"));
    } else {
        line(title);
        table.print();
    }
}

/// Prints one line. A line break in it is shown as an escape, so that no value looks like a line of its own.
pub fn line(line: impl Display) {
    println!("{}", visible(&line.to_string()));
}

/// Prints several lines.
pub fn text(text: &str) {
    text.lines().for_each(line);
}

/// The text with two spaces before each line.
pub fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Prints an empty line.
pub fn blank() {
    println!();
}

/// Prints several lines on the standard error output.
pub fn error(text: impl Display) {
    text.to_string().lines().for_each(|line| eprintln!("{}", visible(line)));
}

/// Prints one line, like `println!`.
macro_rules! say {
    ($($argument:tt)*) => { $crate::print::line(format_args!($($argument)*)) };
}
pub(crate) use say;

/// Prints a value as JSON.
///
/// # Errors
/// The value cannot be serialized.
pub fn json(value: &impl Serialize) -> serde_json::Result<()> {
    println!("{}", visible_json(&serde_json::to_string_pretty(value)?));
    Ok(())
}

/// The same JSON without characters that a terminal would act on: they stand in strings alone, where JSON has escapes for them.
fn visible_json(json: &str) -> String {
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

/// One line on the standard error output that says how far something is, over and over; nothing where no terminal shows it.
pub struct Progress {
    is_shown: bool,
}

/// Back to the line's beginning, and the rest of the line away.
const CLEAR_LINE: &str = "\r\u{1b}[K";

impl Progress {
    /// A line that shows nothing yet.
    pub fn start() -> Self {
        Self { is_shown: io::stderr().is_terminal() }
    }

    /// Shows this instead of what was shown before.
    pub fn show(&mut self, line: &str) {
        if self.is_shown {
            eprint!("{CLEAR_LINE}{}", visible(line));
            let _ = io::stderr().flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            eprint!("{CLEAR_LINE}");
        }
    }
}

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
    use super::{table, visible, visible_json};

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
        assert!(json.chars().all(|character| character == '\n' || super::is_visible(character)), "{json:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).expect("JSON"), [text]);
    }

    #[test]
    fn a_cell_is_one_line_and_has_no_control_characters() {
        let mut table = table(&["property", "after"]);
        table.add_row(["firstname", "\u{1b}[2J\nlastname   Smith"]);
        let printed = table.to_string();
        assert!(printed.contains("\\u{1b}[2J\\nlastname"), "{printed}");
        assert!(printed.chars().all(|character| character == '\n' || !character.is_control()), "{printed:?}");
    }
}
