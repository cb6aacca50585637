//! Whether people see the text of an element: what its attributes and its `style` say, and what holds around it.
//!
//! Style sheets and scripts are not evaluated: what they hide is read.

use super::{
    colors::{Color, Rgb},
    declared::Style,
    tag::Tag,
};

/// Sizes below this many pixels are not readable. Mail programs hide the preview of a mail in text of one pixel.
const MIN_READABLE_PX: f64 = 2.0;

/// The size of text that nothing is said about, in pixels.
const ORDINARY_PX: f64 = 16.0;

/// How the text within an element looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Look {
    /// Nothing within can be seen, whatever it says.
    is_gone: bool,
    is_invisible: bool,
    is_transparent: bool,
    size_px: f64,
    /// `None`: not known.
    color: Option<Rgb>,
    /// `None`: not known.
    background: Option<Rgb>,
}

impl Default for Look {
    /// Black or nearly so, on a white page.
    fn default() -> Self {
        Self {
            is_gone: false,
            is_invisible: false,
            is_transparent: false,
            size_px: ORDINARY_PX,
            color: None,
            background: Some(Rgb::WHITE),
        }
    }
}

impl Look {
    /// Whether the text is not seen for any reason.
    pub(super) fn is_hidden(&self) -> bool {
        let has_contrast = !matches!((self.color, self.background), (Some(text), Some(page)) if text.is_near(page));
        self.is_gone || self.is_invisible || self.is_transparent || self.size_px < MIN_READABLE_PX || !has_contrast
    }

    /// How text looks within an element that says this.
    pub(super) fn within(mut self, own: OwnLook) -> Self {
        self.is_gone |= own.is_gone;
        self.is_invisible = own.is_invisible.unwrap_or(self.is_invisible);
        self.size_px = match own.size {
            Some(Size::Pixels(size)) => size,
            Some(Size::Times(factor)) => self.size_px * factor,
            None => self.size_px,
        };
        match own.color {
            None | Some(Color::Inherited) => {}
            Some(Color::Transparent) => self.is_transparent = true,
            Some(Color::Rgb(rgb) | Color::Translucent(rgb)) => (self.color, self.is_transparent) = (Some(rgb), false),
            Some(Color::Unknown) => (self.color, self.is_transparent) = (None, false),
        }
        match own.background {
            None | Some(Color::Inherited | Color::Transparent) => {}
            Some(Color::Rgb(rgb)) => self.background = Some(rgb),
            Some(Color::Unknown | Color::Translucent(_)) => self.background = None,
        }
        self
    }

    /// A style sheet has given the page a background.
    pub(super) fn forget_background(&mut self) {
        self.background = None;
    }
}

/// The size of a font.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Size {
    Pixels(f64),
    /// Of the size around.
    Times(f64),
}

/// What an element itself says about its look; `None`: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct OwnLook {
    is_gone: bool,
    is_invisible: Option<bool>,
    size: Option<Size>,
    color: Option<Color>,
    background: Option<Color>,
}

impl OwnLook {
    /// What the attributes of a tag say. Those other than `style` count less than it.
    pub(super) fn of(tag: &Tag) -> Self {
        let style = tag.get(b"style").map(Style::parse).unwrap_or_default();
        let is_closed = tag.name == b"dialog" && tag.get(b"open").is_none();
        let is_off = is_closed || tag.get(b"hidden").is_some() || tag.get(b"popover").is_some();
        let color_attribute: &[u8] = if tag.name == b"body" { b"text" } else { b"color" };
        let has_color = matches!(tag.name.as_slice(), b"body" | b"font");
        let color = tag.get(color_attribute).filter(|_| has_color).map(Color::of_attribute);
        let image = tag.get(b"background").map(|_| Color::Unknown);
        let background = image.or_else(|| tag.get(b"bgcolor").map(Color::of_attribute));
        Self {
            is_gone: style.is_not_displayed().unwrap_or(is_off) || style.is_out_of_sight(),
            is_invisible: style.is_invisible(),
            size: style.size(),
            color: style.color().or(color),
            background: style.background().or(background),
        }
    }

    /// Not displayed at all.
    pub(super) fn gone() -> Self {
        Self { is_gone: true, ..Self::default() }
    }

    /// Whether the element says anything that can hide its text.
    pub(super) fn can_hide(&self) -> bool {
        *self != Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tag::Tag, Look, OwnLook};

    fn of(style: &str) -> OwnLook {
        OwnLook::of(&Tag::with("span", &[("style", style)]))
    }

    fn hides(style: &str) -> bool {
        Look::default().within(of(style)).is_hidden()
    }

    #[test]
    fn styles_that_hide_text_are_recognised_however_they_are_written() {
        for style in [
            "display:none",
            "color:red; DISPLAY : None !important; font-size:12px",
            "disp\\6c ay:n\\6fne",
            "display:/* shown */none",
            "display:none !important; display:block",
            "opacity:0!important;opacity:1",
            "display:none;background:url(;display:block)",
            "content:';';display:none",
            "visibility:hidden",
            "content-visibility:hidden",
            "font-size:0",
            "font-size:0.0em",
            "font-size:1px",
            "font-size:1e-3px",
            "font:0/0 a",
            "font:1px serif",
            "opacity:0",
            "opacity:1%",
            "filter:opacity(0)",
            "max-height:0;overflow:hidden",
            "height:0;overflow:auto",
            "height:0px;overflow:scroll",
            "width:0;overflow:hidden visible",
            "line-height:0;overflow:hidden",
            "position:absolute;width:1px;height:1px;overflow:hidden",
            "text-indent:-9999px",
            "position:absolute;left:-10000px",
            "position:absolute;left:-100vw",
            "position:fixed;top:-100%",
            "position:absolute;left:9999px",
            "margin-top:-99em",
            "transform:scale(0)",
            "transform:scaleX(0)",
            "transform:rotate(1deg) scale(1, 0.01)",
            "transform:matrix(0,0,0,0,0,0)",
            "transform:translateX(-9999px)",
            "transform:translate(0, -100vh)",
            "scale:0",
            "translate:-9999px",
            "clip-path:inset(100%)",
            "clip-path:inset(50%)",
            "clip-path:inset(0 100% 0 0)",
            "clip-path:circle(0)",
            "position:absolute;clip:rect(0,0,0,0)",
            "position:absolute;clip:rect(1px, 1px, 1px, 1px)",
            "color:transparent",
            "color:rgba(0,0,0,0)",
            "color:#0000",
            "-webkit-text-fill-color:transparent",
            "background:#fff;color:#fff",
            "color:#fff",
            "color:rgb(254 254 254)",
            "color:rgba(255,255,255,.9)",
            "background:black;color:#000",
        ] {
            assert!(hides(style), "{style}");
        }
        for tag in [
            Tag::with("p", &[("hidden", "")]),
            Tag::with("dialog", &[]),
            Tag::with("div", &[("popover", "")]),
            Tag::with("font", &[("color", "white")]),
            Tag::with("body", &[("bgcolor", "#000000"), ("text", "black")]),
        ] {
            assert!(Look::default().within(OwnLook::of(&tag)).is_hidden(), "{tag:?}");
        }
    }

    #[test]
    fn a_declaration_that_a_browser_does_not_understand_shows_nothing_again() {
        for (hidden, ignored) in [
            ("display:none", "display:x"),
            ("display:none", "display:none block"),
            ("display:none", "display:bl\\6fck\\31"),
            ("visibility:hidden", "visibility:x"),
            ("font-size:0", "font-size:x"),
            ("font-size:0", "font-size:12"),
            ("font-size:0", "font-size:12x"),
            ("font-size:0", "font-size:\\31 2px"),
            ("font-size:0", "font-size:-12px"),
            ("font-size:0", "font:12px"),
            ("color:transparent", "color:x"),
            ("color:#fff", "color:#12"),
            ("opacity:0", "opacity:x"),
            ("transform:scale(0)", "transform:x"),
            ("transform:scale(0)", "transform:scale(1) x"),
            ("clip-path:inset(100%)", "clip-path:x"),
            ("position:absolute;left:-9999px", "left:x"),
            ("height:0;overflow:hidden", "overflow:x"),
            ("overflow:hidden;height:0", "height:x"),
        ] {
            assert!(hides(&format!("{hidden};{ignored}")), "{hidden};{ignored}");
        }
        for shown in [
            "display:none;display:block",
            "visibility:hidden;visibility:visible",
            "font-size:0;font-size:12px",
            "font-size:0;font-size:medium",
            "font-size:0;font:12px serif",
            "color:transparent;color:#123",
            "color:#fff;color:rebeccapurple",
            "opacity:0;opacity:1",
            "transform:scale(0);transform:none",
            "left:-9999px;left:auto",
            "height:0;overflow:hidden;overflow:visible",
            "overflow:hidden;height:0;height:auto",
        ] {
            assert!(!hides(shown), "{shown}");
        }
    }

    #[test]
    fn styles_that_people_see_through_hide_nothing() {
        for style in [
            "",
            "color:#333;font-size:13px;font-family:\"none\"",
            "font-size:120%",
            "font-size:larger",
            "font:bold 12px/1.5 Arial",
            "font:700 12px Arial, sans-serif",
            "height:0",
            "height:0;overflow:visible",
            "overflow:hidden;height:40px",
            "margin-left:-4px",
            "margin-left:-50%",
            "opacity:.8",
            "background:white;color:black",
            "background:#336699;color:#fff",
            "background:url(x.png) no-repeat;color:#fff",
            "color:windowtext",
            "color:inherit",
            "width:100%;max-width:600px",
            "transform:scale(0.98)",
            "transform:scaleX(-1)",
            "transform:translate(-50%, -50%)",
            "transform:rotate(0deg)",
            "clip-path:inset(0)",
            "clip-path:circle(50%)",
            "clip:auto",
            "no/**/ne:x;display:no/**/ne",
        ] {
            assert!(!hides(style), "{style}");
        }
    }

    /// Builders of newsletters set the size of cells to nothing and give it back to the text within.
    #[test]
    fn an_inner_element_can_be_seen_again_unless_the_outer_one_is_not_displayed() {
        let within = |outer: &str, inner: &str| Look::default().within(of(outer)).within(of(inner)).is_hidden();
        assert!(!within("font-size:0", "font-size:13px") && !within("visibility:hidden", "visibility:visible"));
        assert!(within("font-size:0", "font-size:2em") && within("font-size:0", "color:red"));
        assert!(within("font-size:10%", "font-size:60%") && !within("font-size:50%", "font-size:90%"));
        assert!(within("display:none", "display:block") && within("opacity:0", "opacity:1"));
        assert!(!within("background:#fff;color:#fff", "color:black"));
        assert!(!within("color:#fff", "background:#000") && !within("background:#000", "color:#fff"));
        assert!(within("background:#fff", "color:#fff") && within("color:#000", "background:#000"));
        assert!(within("background:#000", "background:transparent;color:#000"));
    }
}
