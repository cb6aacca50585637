//! The declarations of a `style` attribute that can hide text.
//!
//! A browser ignores a declaration that it does not understand. So does this: of several declarations of one property the
//! last one counts that is understood, and an important one more than all others.

use std::collections::BTreeMap;

use super::{
    colors::Color,
    hidden::Size,
    style::declarations,
    values::{Length, functions, number, words},
};

/// An element that is moved or indented by this many pixels lies outside the page.
const FAR_AWAY_PX: f64 = 500.0;

/// Further to the right or below, where a page may just be wide or long.
const FAR_BELOW_PX: f64 = 3_000.0;

/// An element that is scaled to less of its size is not seen.
const MIN_SCALE: f64 = 0.05;

const MIN_OPACITY: f64 = 0.1;

/// What a style says, as far as it can hide text; `None`: nothing.
#[derive(Debug, Default)]
pub(super) struct Style {
    is_not_displayed: Option<bool>,
    visibility: Option<Visibility>,
    size: Option<Size>,
    color: Option<Color>,
    /// What letters are filled with instead of the colour.
    fill: Option<Color>,
    background: Option<Color>,
    /// By property: whether it makes the box empty.
    empties: BTreeMap<&'static str, bool>,
    /// By direction: whether what lies outside of the box is not shown.
    clips: [bool; 2],
    /// By property: whether it takes the element out of sight.
    removes: BTreeMap<&'static str, bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visibility {
    Visible,
    Hidden,
    Inherited,
}

impl Style {
    pub(super) fn parse(style: &str) -> Self {
        let mut parsed = Self::default();
        let declarations = declarations(style);
        let (important, others): (Vec<_>, Vec<_>) = declarations.iter().partition(|declared| declared.is_important);
        for declared in others.into_iter().chain(important) {
            parsed.declare(&declared.name, &declared.value);
        }
        parsed
    }

    pub(super) fn is_not_displayed(&self) -> Option<bool> {
        self.is_not_displayed
    }

    pub(super) fn is_invisible(&self) -> Option<bool> {
        match self.visibility? {
            Visibility::Visible => Some(false),
            Visibility::Hidden => Some(true),
            Visibility::Inherited => None,
        }
    }

    pub(super) fn size(&self) -> Option<Size> {
        self.size
    }

    pub(super) fn color(&self) -> Option<Color> {
        self.fill.filter(|fill| *fill != Color::Inherited).or(self.color)
    }

    pub(super) fn background(&self) -> Option<Color> {
        self.background
    }

    /// Whether the element is cut off, seen through, or outside the page.
    pub(super) fn is_out_of_sight(&self) -> bool {
        let is_empty = self.empties.values().any(|is_empty| *is_empty);
        self.removes.values().any(|removes| *removes) || is_empty && self.clips.contains(&true)
    }

    fn declare(&mut self, name: &str, value: &str) {
        match name {
            "display" => self.is_not_displayed = is_not_displayed(value).or(self.is_not_displayed),
            "visibility" => self.visibility = visibility(value).or(self.visibility),
            "font-size" => self.size = font_size(value).or(self.size),
            "font" => self.size = size_in_font(value).or(self.size),
            "color" => self.color = Color::parse(value).or(self.color),
            "-webkit-text-fill-color" => self.fill = Color::parse(value).or(self.fill),
            "background" | "background-color" => self.background = background(value).or(self.background),
            "background-image" if value != "none" => self.background = Some(Color::Unknown),
            "overflow" | "overflow-x" | "overflow-y" => self.overflow(name, value),
            _ => {
                if let Some(name) = EMPTYING.into_iter().find(|known| *known == name) {
                    self.empties.extend(is_empty(value).map(|is_empty| (name, is_empty)));
                }
                if let Some((name, removes)) = REMOVING.into_iter().find(|(known, _)| *known == name) {
                    self.removes.extend(removes(value).map(|removes| (name, removes)));
                }
            }
        }
    }

    fn overflow(&mut self, name: &str, value: &str) {
        let values: Vec<_> = value.split(' ').collect();
        let clips = |value: &str| match value {
            "hidden" | "clip" | "auto" | "scroll" | "overlay" => Some(true),
            "visible" | "initial" | "inherit" | "unset" | "revert" => Some(false),
            _ => None,
        };
        match (name, values.as_slice()) {
            ("overflow-x", [value]) => self.clips[0] = clips(value).unwrap_or(self.clips[0]),
            ("overflow-y", [value]) => self.clips[1] = clips(value).unwrap_or(self.clips[1]),
            ("overflow", [first, .., last] | [first @ last]) if values.len() <= 2 => {
                if let (Some(first), Some(last)) = (clips(first), clips(last)) {
                    self.clips = [first, last];
                }
            }
            _ => {}
        }
    }
}

/// Words that every property understands.
fn is_global(value: &str) -> bool {
    matches!(value, "inherit" | "initial" | "unset" | "revert" | "revert-layer")
}

/// Whether the value is computed from what is not known here.
fn is_variable(value: &str) -> bool {
    ["var(", "env(", "attr(", "if("].iter().any(|function| value.contains(function))
}

fn is_not_displayed(value: &str) -> Option<bool> {
    const WORDS: &str = "block inline inline-block flex inline-flex grid inline-grid table inline-table table-row \
        table-cell table-row-group table-header-group table-footer-group table-column table-column-group table-caption \
        list-item contents flow flow-root run-in ruby ruby-base ruby-text ruby-base-container ruby-text-container math \
        -webkit-box -webkit-inline-box -webkit-flex -webkit-inline-flex";
    let is_word = |word: &str| WORDS.split_ascii_whitespace().any(|known| known == word);
    // A variable as the display of an element hides that it is `none`: it is taken for that.
    if value == "none" || is_variable(value) {
        Some(true)
    } else {
        (is_global(value) || !value.is_empty() && value.split(' ').all(is_word)).then_some(false)
    }
}

fn visibility(value: &str) -> Option<Visibility> {
    match value {
        "hidden" | "collapse" => Some(Visibility::Hidden),
        "visible" | "initial" => Some(Visibility::Visible),
        _ if is_variable(value) => Some(Visibility::Hidden),
        _ => is_global(value).then_some(Visibility::Inherited),
    }
}

fn font_size(value: &str) -> Option<Size> {
    match value {
        "xx-small" | "x-small" | "small" | "medium" | "large" | "x-large" | "xx-large" | "xxx-large" | "initial"
        | "math" => Some(Size::Pixels(16.0)),
        "smaller" => Some(Size::Times(0.83)),
        "larger" => Some(Size::Times(1.2)),
        _ if is_global(value) => Some(Size::Times(1.0)),
        _ => {
            let length = Length::parse(value).filter(|length| length.pixels() >= 0.0)?;
            Some(length.of_text_around().map_or(Size::Pixels(length.pixels()), Size::Times))
        }
    }
}

/// The size in the shorthand is the first length in it, and a family follows.
fn size_in_font(value: &str) -> Option<Size> {
    if matches!(value, "caption" | "icon" | "menu" | "message-box" | "small-caption" | "status-bar") {
        return Some(Size::Pixels(16.0));
    }
    if is_global(value) {
        return font_size(value);
    }
    let mut words = value.split(' ').map(|word| word.split('/').next().unwrap_or_default());
    let size = words.find_map(font_size)?;
    words.next().map(|_| size)
}

/// The colour that is painted behind the text.
fn background(value: &str) -> Option<Color> {
    if ["url(", "gradient(", "image", "element("].iter().any(|image| value.contains(image)) || is_variable(value) {
        return Some(Color::Unknown);
    }
    if is_global(value) || value == "none" {
        return Some(Color::Transparent);
    }
    const POSITIONS: &str = "none left right top bottom center repeat repeat-x repeat-y no-repeat space round scroll fixed \
        local auto cover contain / border-box padding-box content-box";
    let is_position = |word: &str| {
        let is_known = |word: &str| Length::parse(word).is_some() || POSITIONS.split(' ').any(|known| known == word);
        word.split('/').all(|word| word.is_empty() || is_known(word))
    };
    let (colors, others): (Vec<_>, Vec<_>) = words(value).partition(|word| Color::parse(word).is_some());
    match colors.as_slice() {
        _ if !others.into_iter().all(is_position) => None,
        [] => Some(Color::Transparent),
        [color] => Color::parse(color),
        _ => None,
    }
}

/// The properties that can make a box empty.
const EMPTYING: [&str; 5] = ["width", "height", "max-width", "max-height", "line-height"];

fn is_empty(value: &str) -> Option<bool> {
    if let Some(length) = Length::parse(value) {
        return (length.pixels() >= 0.0).then_some(length.pixels() <= 1.0);
    }
    let words = ["auto", "none", "normal", "min-content", "max-content", "fit-content", "stretch"];
    let is_factor = number(value).is_some_and(|(number, unit)| unit.is_empty() && number > 0.0);
    (is_global(value) || words.contains(&value) || is_factor || value.contains('(')).then_some(false)
}

type Reader = fn(&str) -> Option<bool>;

/// The properties that can take an element out of sight, and how their values are read.
const REMOVING: [(&str, Reader); 15] = [
    ("opacity", is_seen_through),
    ("content-visibility", |value| ["hidden", "visible", "auto"].contains(&value).then_some(value == "hidden")),
    ("text-indent", is_far),
    ("left", is_far),
    ("right", is_far),
    ("top", is_far),
    ("bottom", is_far),
    ("margin-left", is_far),
    ("margin-top", is_far),
    ("translate", |value| any_of(value, is_far)),
    ("scale", |value| any_of(value, is_flat)),
    ("transform", |value| any_function(value, transforms_away)),
    ("filter", |value| any_function(value, filters_out)),
    ("clip-path", |value| any_function(value, clips_all)),
    ("clip", |value| any_function(value, clips_all)),
];

fn is_seen_through(value: &str) -> Option<bool> {
    let (number, unit) = number(value).filter(|(_, unit)| matches!(*unit, "" | "%")).unzip();
    match (number, unit) {
        (Some(number), Some("%")) => Some(number / 100.0 < MIN_OPACITY),
        (Some(number), _) => Some(number < MIN_OPACITY),
        _ => is_global(value).then_some(false),
    }
}

fn is_far(value: &str) -> Option<bool> {
    if let Some(length) = Length::parse(value) {
        return Some(length.pixels() <= -FAR_AWAY_PX || length.pixels() >= FAR_BELOW_PX);
    }
    (is_global(value) || matches!(value, "auto" | "none") || value.contains('(')).then_some(false)
}

fn is_flat(value: &str) -> Option<bool> {
    match number(value) {
        Some((number, "")) => Some(number.abs() < MIN_SCALE),
        Some((number, "%")) => Some(number.abs() / 100.0 < MIN_SCALE),
        _ => (is_global(value) || value == "none").then_some(false),
    }
}

/// Whether one of the words says so; `None` if one is not understood.
fn any_of(value: &str, says: Reader) -> Option<bool> {
    words(value).try_fold(false, |any, word| Some(any | says(word)?))
}

/// Whether one of the functions says so; `None` if the value is not understood.
fn any_function(value: &str, says: fn(&str, &[&str]) -> bool) -> Option<bool> {
    if is_global(value) || matches!(value, "none" | "auto") {
        return Some(false);
    }
    // A box to which a shape is relative.
    let value = value.rsplit_once(") ").filter(|(_, last)| last.ends_with("-box")).map_or(value, |(shape, _)| shape);
    Some(functions(value)?.iter().any(|(name, arguments)| says(name, arguments)))
}

fn transforms_away(name: &str, arguments: &[&str]) -> bool {
    let is_flat_at =
        |at: &[usize]| at.iter().any(|at| arguments.get(*at).is_some_and(|word| is_flat(word) == Some(true)));
    match name {
        "scale" | "scalex" | "scaley" | "scale3d" => is_flat_at(&[0, 1]),
        "matrix" => {
            is_flat_at(&[0, 3]) && is_flat_at(&[1, 2]) || [4, 5].iter().any(|at| is_far_in_pixels(arguments, *at))
        }
        "translate" | "translatex" | "translatey" | "translate3d" => {
            arguments.iter().any(|word| is_far(word) == Some(true))
        }
        _ => false,
    }
}

fn is_far_in_pixels(arguments: &[&str], at: usize) -> bool {
    let pixels = arguments.get(at).and_then(|word| number(word)).map_or(0.0, |(number, _)| number);
    pixels <= -FAR_AWAY_PX || pixels >= FAR_BELOW_PX
}

fn filters_out(name: &str, arguments: &[&str]) -> bool {
    name == "opacity" && arguments.first().is_some_and(|value| is_seen_through(value) == Some(true))
}

/// Whether the shape within which an element is shown is empty.
fn clips_all(name: &str, arguments: &[&str]) -> bool {
    let numbers: Vec<(f64, &str)> = arguments.iter().map_while(|word| number(word)).collect();
    match name {
        "inset" => {
            // One to four sides, as in margins; how much is cut off at each.
            let side = |at: usize| {
                let from = if at < numbers.len() { at } else { at.saturating_sub(2) };
                let (number, unit) = numbers.get(from).or(numbers.first()).copied().unwrap_or_default();
                if unit == "%" { number } else { number / 8.0 }
            };
            side(0) + side(2) >= 100.0 || side(1) + side(3) >= 100.0
        }
        "rect" => {
            // Where the sides are, from the top and from the left.
            let side = |at: usize, auto: f64| {
                arguments.get(at).and_then(|word| number(word)).map_or(auto, |(number, _)| number)
            };
            let far = f64::from(u16::MAX);
            side(2, far) - side(0, 0.0) <= 1.0 || side(1, far) - side(3, 0.0) <= 1.0
        }
        "circle" | "ellipse" => numbers.iter().any(|(number, _)| *number <= 0.0),
        "polygon" => !numbers.is_empty() && numbers.iter().all(|(number, _)| *number == 0.0),
        _ => false,
    }
}
