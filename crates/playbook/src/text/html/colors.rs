//! Colours as styles and attributes write them. Source: <https://www.w3.org/TR/css-color-4/>.

use super::values::{functions, number};

/// Of how many steps out of 255 the colour of a text and of its background have to differ, in red, green or blue. `#f0f0f0`
/// on white cannot be read.
const MIN_CONTRAST: u8 = 16;

/// How opaque a colour is at least that people see.
const MIN_OPACITY: f64 = 0.1;

/// Red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rgb([u8; 3]);

impl Rgb {
    pub(super) const WHITE: Self = Self([255; 3]);

    /// Whether people cannot tell the colours apart.
    pub(super) fn is_near(self, other: Self) -> bool {
        self.0.iter().zip(other.0).all(|(one, other)| one.abs_diff(other) < MIN_CONTRAST)
    }
}

/// What a valid colour is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Color {
    Rgb(Rgb),
    /// One through which others shine.
    Translucent(Rgb),
    /// So transparent that it is not seen.
    Transparent,
    /// That of the element around.
    Inherited,
    /// One that depends on more than is known here.
    Unknown,
}

impl Color {
    /// The colour that a style says; `None`: a browser does not understand it.
    pub(super) fn parse(value: &str) -> Option<Self> {
        if let Some(digits) = value.strip_prefix('#') {
            return hexadecimal(digits);
        }
        match value {
            "transparent" => return Some(Self::Transparent),
            "inherit" | "unset" | "revert" | "revert-layer" | "currentcolor" => return Some(Self::Inherited),
            "canvas" | "window" | "field" => return Some(Self::Rgb(Rgb::WHITE)),
            "initial" | "canvastext" | "windowtext" | "linktext" | "buttontext" | "buttonface" | "fieldtext"
            | "graytext" | "menutext" | "infotext" | "captiontext" => return Some(Self::Unknown),
            _ => {}
        }
        if let Some(rgb) = named(value) {
            return Some(Self::Rgb(rgb));
        }
        let [(name, arguments)] = functions(value)?.try_into().ok()?;
        match name {
            "rgb" | "rgba" => of_channels(&arguments),
            "hsl" | "hsla" | "hwb" | "lab" | "lch" | "oklab" | "oklch" | "color" | "color-mix" | "light-dark"
            | "var" | "device-cmyk" => {
                let alpha = arguments.get(3).filter(|_| name != "color").and_then(|alpha| fraction(alpha, 1.0));
                Some(if alpha.is_some_and(|alpha| alpha < MIN_OPACITY) { Self::Transparent } else { Self::Unknown })
            }
            _ => None,
        }
    }

    /// The colour that an attribute such as `bgcolor` says, where the `#` may be missing.
    pub(super) fn of_attribute(value: &str) -> Self {
        let value = value.trim().to_ascii_lowercase();
        let digits = value.strip_prefix('#').unwrap_or(&value);
        let read = named(&value).map(Self::Rgb).or_else(|| hexadecimal(digits));
        read.unwrap_or(Self::Unknown)
    }
}

fn hexadecimal(digits: &str) -> Option<Color> {
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let width = match digits.len() {
        3 | 4 => 1,
        6 | 8 => 2,
        _ => return None,
    };
    let channels: Option<Vec<u8>> = (0..digits.len() / width)
        .map(|at| {
            let channel = u8::from_str_radix(&digits[at * width..(at + 1) * width], 16).ok()?;
            Some(if width == 1 { channel * 17 } else { channel })
        })
        .collect();
    let channels = channels?;
    let alpha = channels.get(3).map_or(1.0, |alpha| f64::from(*alpha) / 255.0);
    Some(with_opacity([channels[0], channels[1], channels[2]], alpha))
}

fn with_opacity(channels: [u8; 3], alpha: f64) -> Color {
    if alpha < MIN_OPACITY {
        Color::Transparent
    } else if alpha < 1.0 {
        Color::Translucent(Rgb(channels))
    } else {
        Color::Rgb(Rgb(channels))
    }
}

fn of_channels(arguments: &[&str]) -> Option<Color> {
    let channel = |at: usize| -> Option<u8> {
        let value = fraction(arguments.get(at)?, 255.0)?.clamp(0.0, 1.0) * 255.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 255")]
        Some(value.round() as u8)
    };
    if arguments.iter().any(|argument| argument.contains("calc") || argument.contains("var")) {
        return Some(Color::Unknown);
    }
    let channels = [channel(0)?, channel(1)?, channel(2)?];
    let alpha = arguments.get(3).map_or(Some(1.0), |alpha| fraction(alpha, 1.0))?;
    Some(with_opacity(channels, alpha))
}

/// A number of `whole`, or a percentage, as a part of one.
fn fraction(value: &str, whole: f64) -> Option<f64> {
    match number(value)? {
        (number, "%") => Some(number / 100.0),
        (number, "") => Some(number / whole),
        _ => None,
    }
}

fn named(name: &str) -> Option<Rgb> {
    let mut words = NAMED.split_ascii_whitespace();
    while let (Some(known), Some(digits)) = (words.next(), words.next()) {
        if known == name {
            let value = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
            return Some(Rgb([value[1], value[2], value[3]]));
        }
    }
    None
}

/// The names and their colours.
const NAMED: &str = "aliceblue f0f8ff antiquewhite faebd7 aqua 00ffff aquamarine 7fffd4 azure f0ffff beige f5f5dc \
    bisque ffe4c4 black 000000 blanchedalmond ffebcd blue 0000ff blueviolet 8a2be2 brown a52a2a burlywood deb887 \
    cadetblue 5f9ea0 chartreuse 7fff00 chocolate d2691e coral ff7f50 cornflowerblue 6495ed cornsilk fff8dc crimson dc143c \
    cyan 00ffff darkblue 00008b darkcyan 008b8b darkgoldenrod b8860b darkgray a9a9a9 darkgreen 006400 darkgrey a9a9a9 \
    darkkhaki bdb76b darkmagenta 8b008b darkolivegreen 556b2f darkorange ff8c00 darkorchid 9932cc darkred 8b0000 \
    darksalmon e9967a darkseagreen 8fbc8f darkslateblue 483d8b darkslategray 2f4f4f darkslategrey 2f4f4f \
    darkturquoise 00ced1 darkviolet 9400d3 deeppink ff1493 deepskyblue 00bfff dimgray 696969 dimgrey 696969 \
    dodgerblue 1e90ff firebrick b22222 floralwhite fffaf0 forestgreen 228b22 fuchsia ff00ff gainsboro dcdcdc \
    ghostwhite f8f8ff gold ffd700 goldenrod daa520 gray 808080 green 008000 greenyellow adff2f grey 808080 honeydew f0fff0 \
    hotpink ff69b4 indianred cd5c5c indigo 4b0082 ivory fffff0 khaki f0e68c lavender e6e6fa lavenderblush fff0f5 \
    lawngreen 7cfc00 lemonchiffon fffacd lightblue add8e6 lightcoral f08080 lightcyan e0ffff lightgoldenrodyellow fafad2 \
    lightgray d3d3d3 lightgreen 90ee90 lightgrey d3d3d3 lightpink ffb6c1 lightsalmon ffa07a lightseagreen 20b2aa \
    lightskyblue 87cefa lightslategray 778899 lightslategrey 778899 lightsteelblue b0c4de lightyellow ffffe0 lime 00ff00 \
    limegreen 32cd32 linen faf0e6 magenta ff00ff maroon 800000 mediumaquamarine 66cdaa mediumblue 0000cd \
    mediumorchid ba55d3 mediumpurple 9370db mediumseagreen 3cb371 mediumslateblue 7b68ee mediumspringgreen 00fa9a \
    mediumturquoise 48d1cc mediumvioletred c71585 midnightblue 191970 mintcream f5fffa mistyrose ffe4e1 moccasin ffe4b5 \
    navajowhite ffdead navy 000080 oldlace fdf5e6 olive 808000 olivedrab 6b8e23 orange ffa500 orangered ff4500 \
    orchid da70d6 palegoldenrod eee8aa palegreen 98fb98 paleturquoise afeeee palevioletred db7093 papayawhip ffefd5 \
    peachpuff ffdab9 peru cd853f pink ffc0cb plum dda0dd powderblue b0e0e6 purple 800080 rebeccapurple 663399 red ff0000 \
    rosybrown bc8f8f royalblue 4169e1 saddlebrown 8b4513 salmon fa8072 sandybrown f4a460 seagreen 2e8b57 seashell fff5ee \
    sienna a0522d silver c0c0c0 skyblue 87ceeb slateblue 6a5acd slategray 708090 slategrey 708090 snow fffafa \
    springgreen 00ff7f steelblue 4682b4 tan d2b48c teal 008080 thistle d8bfd8 tomato ff6347 turquoise 40e0d0 violet ee82ee \
    wheat f5deb3 white ffffff whitesmoke f5f5f5 yellow ffff00 yellowgreen 9acd32";

#[cfg(test)]
mod tests {
    use super::{Color, Rgb};

    #[test]
    fn colours_are_read_in_every_common_form() {
        let white = Some(Color::Rgb(Rgb::WHITE));
        for text in ["#fff", "#FFFFFF", "white", "#ffff", "#ffffffff", "rgb(255,255,255)", "rgb(100% 100% 100%)"] {
            assert_eq!(Color::parse(&text.to_lowercase()), white, "{text}");
        }
        for text in ["#0000", "#00000000", "rgba(0,0,0,0)", "rgb(0 0 0 / 0%)", "transparent", "hsla(0,0%,0%,0)"] {
            assert_eq!(Color::parse(text), Some(Color::Transparent), "{text}");
        }
        assert_eq!(Color::parse("rgba(255,255,255,.8)"), Some(Color::Translucent(Rgb::WHITE)));
        for text in ["windowtext", "var(--a)", "hsl(0,0%,50%)"] {
            assert_eq!(Color::parse(text), Some(Color::Unknown), "{text}");
        }
        for text in ["x", "", "#ff", "#ggg", "rgb(1)", "ffffff", "url(white)"] {
            assert_eq!(Color::parse(text), None, "{text}");
        }
        assert_eq!(Color::of_attribute("FFFFFF"), Color::Rgb(Rgb::WHITE));
        assert_eq!(Color::of_attribute("whatever"), Color::Unknown);
    }
}
