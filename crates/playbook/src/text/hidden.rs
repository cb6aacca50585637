//! What a `style` attribute says about whether people see an element's text.
//!
//! Style sheets, inherited backgrounds and scripts are not evaluated: what they hide is read.

/// Sizes below this many pixels are not readable. Mail programs hide the preview of a mail in text of one pixel.
const MIN_READABLE_PX: f64 = 2.0;

/// An element that is moved or indented by more than this many units lies outside the page.
const FAR_AWAY: f64 = 500.0;

/// Why an element's text is not seen. The first reason holds for everything within the element, the others end where an
/// inner element says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hidden(u8);

impl Hidden {
    const NOT_DISPLAYED: u8 = 1;
    const INVISIBLE: u8 = 2;
    const TINY: u8 = 4;
    const WITHOUT_CONTRAST: u8 = 8;

    /// Not displayed at all.
    pub(super) fn entirely() -> Self {
        Self(Self::NOT_DISPLAYED)
    }

    /// Whether the text is not seen for any reason.
    pub(super) fn is_hidden(self) -> bool {
        self.0 != 0
    }

    /// What holds within an element with this `style`; `has_attribute`: it has the attribute `hidden`.
    pub(super) fn within(self, style: Option<&str>, has_attribute: bool) -> Self {
        let style = style.map(Style::parse).unwrap_or_default();
        let mut hidden = self;
        if style.display.as_ref().map_or(has_attribute, |display| display.is_none) || style.is_cut_off() {
            hidden.0 |= Self::NOT_DISPLAYED;
        }
        for (flag, is_hidden) in [
            (Self::INVISIBLE, style.is_visible.map(|is_visible| !is_visible)),
            (Self::TINY, style.is_tiny),
            (Self::WITHOUT_CONTRAST, style.is_without_contrast()),
        ] {
            match is_hidden {
                Some(true) => hidden.0 |= flag,
                Some(false) => hidden.0 &= !flag,
                None => {}
            }
        }
        hidden
    }
}

/// The declarations of a `style` attribute that can hide text; of several of one kind the last counts.
#[derive(Debug, Default)]
struct Style {
    display: Option<Display>,
    is_visible: Option<bool>,
    is_tiny: Option<bool>,
    /// A width or height of nothing, and what lies outside the box is not shown.
    is_empty_box: bool,
    is_clipped: bool,
    /// Transparent, or far outside the page.
    is_away: bool,
    /// Of the text and of its background.
    colors: [Option<String>; 2],
}

#[derive(Debug)]
struct Display {
    is_none: bool,
    is_important: bool,
}

impl Style {
    fn parse(style: &str) -> Self {
        let mut parsed = Self::default();
        for declaration in unescaped(style).split(';') {
            if let Some((name, value)) = declaration.split_once(':') {
                let (value, is_important) = match value.split_once('!') {
                    Some((value, mark)) => (value, mark.trim() == "important"),
                    None => (value, false),
                };
                parsed.declare(name.trim(), value.trim(), is_important);
            }
        }
        parsed
    }

    fn declare(&mut self, name: &str, value: &str, is_important: bool) {
        let length = || Length::parse(value);
        match name {
            "display" if is_important || !self.display.as_ref().is_some_and(|earlier| earlier.is_important) => {
                self.display = Some(Display { is_none: value == "none", is_important });
            }
            "visibility" => {
                self.is_visible = match value {
                    "hidden" | "collapse" => Some(false),
                    "inherit" | "unset" => None,
                    _ => Some(true),
                }
            }
            "font-size" => self.is_tiny = Length::is_tiny(value).or(self.is_tiny),
            // The size of the shorthand is the first length in it.
            "font" => {
                let size =
                    value.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit() || c == '.'));
                let size = size.map(|size| size.split('/').next().unwrap_or_default());
                self.is_tiny = size.and_then(Length::is_tiny).or(self.is_tiny);
            }
            "opacity" => {
                let least = |unit: &str| if unit == "%" { 10.0 } else { 0.1 };
                self.is_away |= length().is_some_and(|Length { number, unit }| number < least(unit));
            }
            "width" | "height" | "max-width" | "max-height" => {
                self.is_empty_box |=
                    length().is_some_and(|length| length.number <= 0.0 || length.unit == "px" && length.number <= 1.0);
            }
            "overflow" | "overflow-x" | "overflow-y" => self.is_clipped |= matches!(value, "hidden" | "clip"),
            "text-indent" | "left" | "right" | "top" | "bottom" | "margin-left" | "margin-top" => {
                self.is_away |= length().is_some_and(|length| length.number < -FAR_AWAY);
            }
            "transform" => self.is_away |= value.replace(' ', "").contains("scale(0"),
            "color" => self.colors[0] = Some(value.to_owned()),
            "background" | "background-color" => self.colors[1] = Some(value.to_owned()),
            _ => {}
        }
    }

    fn is_cut_off(&self) -> bool {
        self.is_away || self.is_empty_box && self.is_clipped
    }

    /// Whether the text has the colour of its background, as far as one element says it; `None` if it names no colour.
    fn is_without_contrast(&self) -> Option<bool> {
        let color = self.colors[0].as_deref()?;
        Some(color == "transparent" || self.colors[1].as_deref() == Some(color))
    }
}

/// A number with its unit.
struct Length<'a> {
    number: f64,
    unit: &'a str,
}

impl<'a> Length<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        let is_numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+');
        let end = value.find(|c| !is_numeric(c)).unwrap_or(value.len());
        let number: f64 = value[..end].parse().ok()?;
        Some(Self { number, unit: value[end..].trim() })
    }

    /// Whether this size of a font cannot be read; `None` if it depends on the size around it.
    fn is_tiny(value: &'a str) -> Option<bool> {
        let Some(Length { number, unit }) = Self::parse(value) else {
            return if matches!(value, "smaller" | "larger" | "inherit" | "unset") { None } else { Some(false) };
        };
        let pixels = match unit {
            "em" | "ex" | "ch" => return (number < 0.1).then_some(true),
            "%" => return (number < 10.0).then_some(true),
            "pt" => number * 4.0 / 3.0,
            "mm" | "q" => number * 3.8,
            "rem" | "cm" | "in" | "pc" | "vw" | "vh" => number * 16.0,
            _ => number,
        };
        Some(pixels < MIN_READABLE_PX)
    }
}

/// The declarations in lower case, without comments, and with the characters that escapes stand for (`\6e` is `n`).
fn unescaped(style: &str) -> String {
    let mut plain = String::with_capacity(style.len());
    let mut rest = style;
    while let Some(at) = rest.find(['\\', '/']) {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
        } else if let Some(escape) = rest.strip_prefix('\\') {
            let digits = escape.bytes().take(6).take_while(u8::is_ascii_hexdigit).count();
            if digits == 0 {
                rest = escape;
                let width = rest.chars().next().map_or(0, char::len_utf8);
                plain.push_str(&rest[..width]);
                rest = &rest[width..];
            } else {
                plain.extend(u32::from_str_radix(&escape[..digits], 16).ok().and_then(char::from_u32));
                rest = &escape[digits..];
                rest = rest.strip_prefix([' ', '\t', '\n']).unwrap_or(rest);
            }
        } else {
            plain.push('/');
            rest = &rest[1..];
        }
    }
    plain.push_str(rest);
    plain.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::Hidden;

    fn hides(style: &str) -> bool {
        Hidden::default().within(Some(style), false).is_hidden()
    }

    #[test]
    fn styles_that_hide_text_are_recognised_however_they_are_written() {
        for style in [
            "display:none",
            "color:red; DISPLAY : None !important; font-size:12px",
            "disp\\6c ay:n\\6fne",
            "display:/* shown */none",
            "display:none !important; display:block",
            "visibility:hidden",
            "font-size:0",
            "font-size:0.0em",
            "font-size:1px",
            "font:0/0 a",
            "opacity:0",
            "max-height:0;overflow:hidden",
            "position:absolute;width:1px;height:1px;overflow:hidden",
            "text-indent:-9999px",
            "position:absolute;left:-10000px",
            "transform:scale(0)",
            "color:transparent",
            "background:#fff;color:#fff",
        ] {
            assert!(hides(style), "{style}");
        }
        assert!(Hidden::default().within(None, true).is_hidden());
    }

    #[test]
    fn styles_that_people_see_through_hide_nothing() {
        for style in [
            "",
            "color:#333;font-size:13px;font-family:\"none\"",
            "display:none;display:block",
            "font-size:120%",
            "font-size:larger",
            "font:bold 12px/1.5 Arial",
            "height:0",
            "overflow:hidden;height:40px",
            "margin-left:-4px",
            "opacity:.8",
            "background:white;color:black",
            "width:100%;max-width:600px",
        ] {
            assert!(!hides(style), "{style}");
        }
    }

    /// Builders of newsletters set the size of cells to nothing and give it back to the text within.
    #[test]
    fn an_inner_element_can_be_seen_again_unless_the_outer_one_is_not_displayed() {
        let within = |outer: &str, inner: &str| {
            Hidden::default().within(Some(outer), false).within(Some(inner), false).is_hidden()
        };
        assert!(!within("font-size:0", "font-size:13px") && !within("visibility:hidden", "visibility:visible"));
        assert!(within("font-size:0", "font-size:2em") && within("font-size:0", "color:red"));
        assert!(within("display:none", "display:block") && within("opacity:0", "opacity:1"));
        assert!(!within("background:#fff;color:#fff", "color:black"));
    }
}
