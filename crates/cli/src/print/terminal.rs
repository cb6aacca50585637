//! What the standard output leads to.

use std::io::{self, IsTerminal};

use super::Tone;

/// What there is to know about a terminal; nothing about a pipe or a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terminal {
    /// How many columns it has; `None` where lines may have any length.
    pub width: Option<usize>,
    /// Whether it is to show colours.
    pub has_colours: bool,
}

impl Terminal {
    /// The terminal of the standard output.
    pub fn of_stdout() -> Self {
        let output = io::stdout();
        if !output.is_terminal() {
            return Self::default();
        }
        let size = rustix::termios::tcgetwinsize(&output).ok();
        Self {
            // Some have no size: a serial line, a terminal without a window.
            width: size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0),
            has_colours: may_colour(),
        }
    }

    /// The text in the colour of its tone, where there are colours.
    pub fn paint(self, text: &str, tone: Tone) -> String {
        self.styled(
            text,
            match tone {
                Tone::Good => "32",
                Tone::Waiting => "33",
                Tone::Bad => "31",
                Tone::Faint => "2",
            },
        )
    }

    /// The text as a title, where there are colours.
    pub fn title(self, text: &str) -> String {
        self.styled(text, "1")
    }

    fn styled(self, text: &str, code: &str) -> String {
        if self.has_colours && !text.trim().is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Whether the environment allows colours: https://no-color.org, and a terminal that can.
pub fn may_colour() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
