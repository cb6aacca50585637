//! How the commands print: the one place that writes to the standard outputs.
//!
//! Everything passes through [`visible`], because it may contain text from people: a terminal would carry out what control
//! characters say. Tables are plain columns; lists are also JSON ([`Format`]); a reader that goes away ends nothing but the output.

mod cell;
mod page;
mod progress;
mod table;
mod terminal;
mod visible;

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
    process::ExitCode,
    sync::OnceLock,
};

use serde::Serialize;

pub use self::{
    cell::{Cell, Tone, rate_json},
    page::Page,
    progress::Progress,
    table::{Column, Stream, Table, column},
    visible::{is_visible, visible},
};
use self::{terminal::Terminal, visible::visible_json};

/// How a command prints what it lists.
#[derive(clap::Args, Debug, Clone, Copy, Default)]
pub struct Format {
    /// Print JSON: times as instants in UTC, money in micro-dollars, durations in seconds.
    #[arg(long)]
    pub json: bool,
    /// Print times as instants in UTC instead of as ages.
    #[arg(long)]
    pub utc: bool,
}

/// Why the standard output takes no more.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

/// Writes to the standard output. What comes after a failure is left out: a command goes on with what it does.
fn put(text: &str) {
    if is_closed() {
        return;
    }
    let written = progress::out_of_the_way(|| {
        let mut output = io::stdout().lock();
        output.write_all(text.as_bytes()).and_then(|()| output.flush())
    });
    if let Err(error) = written {
        let _ = UNWRITTEN.set(error);
    }
}

/// Whether the reader of the standard output has gone.
pub fn is_closed() -> bool {
    UNWRITTEN.get().is_some()
}

/// The exit code of a command that ends with `code`. A reader that has seen enough (`| head`) is no failure, a full disk is one.
pub fn conclude(code: ExitCode) -> ExitCode {
    match UNWRITTEN.get() {
        Some(failed) if failed.kind() != ErrorKind::BrokenPipe => {
            error(format_args!("the output could not be written: {failed}"));
            ExitCode::FAILURE
        }
        _ => code,
    }
}

/// Prints one line. A line break in it is shown as an escape, so that no value looks like a line of its own.
pub fn line(line: impl Display) {
    put(&(visible(&line.to_string()) + "\n"));
}

/// Prints one line that begins with a label of this program's, which terminals show in the colour of its tone.
pub fn labelled(label: &str, tone: Tone, rest: impl Display) {
    put(&format!("{}{}\n", Terminal::of_stdout().paint(label, tone), visible(&rest.to_string())));
}

/// Prints several lines.
pub fn text(text: &str) {
    text.lines().for_each(line);
}

/// Prints a text of this program, which holds nothing from elsewhere, as it is.
pub fn own_text(text: &str) {
    put(text);
}

/// The text with two spaces before each line.
pub fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Prints an empty line.
pub fn blank() {
    put("\n");
}

/// Prints several lines on the standard error output.
pub fn error(text: impl Display) {
    let shown: String = text.to_string().lines().map(|line| visible(line) + "\n").collect();
    // There is no other place to say that it cannot be said.
    progress::out_of_the_way(|| drop(io::stderr().write_all(shown.as_bytes())));
}

/// Prints one line, like `println!`.
macro_rules! say {
    ($($argument:tt)*) => { $crate::print::line(format_args!($($argument)*)) };
}
pub(crate) use say;

/// Prints a table as the format says, or in words that it has no row.
pub fn list(table: &Table, format: Format, none: &str) -> serde_json::Result<()> {
    if format.json {
        return json(&table.json());
    }
    if table.is_empty() {
        line(none);
    } else {
        self::table(table, format);
    }
    Ok(())
}

/// Prints a table as text.
pub fn table(table: &Table, format: Format) {
    put(&table.text(format, Terminal::of_stdout()));
}

/// Prints a table under its title, or `none` when it has no row.
pub fn section(title: &str, table: &Table, format: Format) {
    blank();
    if table.is_empty() {
        line(format_args!("{title}: none"));
    } else {
        line(title);
        self::table(table, format);
    }
}

/// Prints a value as JSON.
///
/// # Errors
/// The value cannot be serialized.
pub fn json(value: &impl Serialize) -> serde_json::Result<()> {
    put(&(visible_json(&serde_json::to_string_pretty(value)?) + "\n"));
    Ok(())
}
