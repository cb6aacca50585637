//! Numbers, lengths and functions in the values of styles. Source: <https://www.w3.org/TR/css-values-4/>.

/// The number at the beginning of a value, and what follows it.
pub(super) fn number(value: &str) -> Option<(f64, &str)> {
    let digits = |from: usize| value[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut end = usize::from(value.starts_with(['+', '-']));
    end += digits(end);
    if value[end..].starts_with('.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    if value[end..].starts_with('e') {
        let exponent = end + 1 + usize::from(value[end + 1..].starts_with(['+', '-']));
        if digits(exponent) > 0 {
            end = exponent + digits(exponent);
        }
    }
    Some((value[..end].parse().ok()?, &value[end..]))
}

/// A length: a number with the name of its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Length<'a> {
    number: f64,
    unit: &'a str,
}

impl<'a> Length<'a> {
    /// `None`: it is no length that a browser understands.
    pub(super) fn parse(value: &'a str) -> Option<Self> {
        let within = value.strip_prefix("calc(").and_then(|value| value.strip_suffix(')'));
        let (number, unit) = number(within.unwrap_or(value).trim())?;
        let is_known = if unit.is_empty() { number == 0.0 } else { pixels_of(unit).is_some() };
        is_known.then_some(Self { number, unit })
    }

    /// How long it is on an ordinary screen.
    pub(super) fn pixels(self) -> f64 {
        self.number * pixels_of(self.unit).unwrap_or(1.0)
    }

    /// How much of the size of the text around it is, if that is what its unit says.
    pub(super) fn of_text_around(self) -> Option<f64> {
        match self.unit {
            "em" => Some(self.number),
            "ex" | "ch" => Some(self.number / 2.0),
            "%" => Some(self.number / 100.0),
            _ => None,
        }
    }
}

/// The size of a unit in pixels, of those that are relative on a screen of 800 by 800.
fn pixels_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "px" => 1.0,
        "pt" => 4.0 / 3.0,
        "em" | "rem" | "pc" | "ic" | "ric" | "lh" | "rlh" => 16.0,
        "ex" | "ch" | "rex" | "rch" | "cap" | "rcap" | "%" => 8.0,
        "in" => 96.0,
        "cm" => 37.8,
        "mm" => 3.78,
        "q" => 0.945,
        _ => {
            let unit = unit.strip_prefix(['s', 'l', 'd', 'c']).filter(|rest| rest.len() > 1).unwrap_or(unit);
            return ["vw", "vh", "vi", "vb", "vmin", "vmax", "qw", "qh", "qi", "qb", "qmin", "qmax"]
                .contains(&unit)
                .then_some(8.0);
        }
    })
}

/// The functions of a value that consists of functions, each with its arguments; `None`: it does not.
pub(super) fn functions(value: &str) -> Option<Vec<(&str, Vec<&str>)>> {
    let mut functions = Vec::new();
    let mut rest = value.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('(')?;
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let name = name.trim_start_matches([',', ' ']);
        let end = end_of_block(after);
        if !is_name(name) {
            return None;
        }
        functions.push((name, after[..end].split([',', ' ', '/']).filter(|word| !word.is_empty()).collect()));
        rest = after[end..].trim_start_matches(')').trim_start();
    }
    Some(functions).filter(|functions| !functions.is_empty())
}

/// The words of a value; a function with its arguments is one.
pub(super) fn words(value: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let is_end = move |character: char| {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ' ' && depth == 0
    };
    value.split(is_end).filter(|word| !word.is_empty())
}

/// Where the parenthesis that is open ends, or the text, which ends it, too.
fn end_of_block(text: &str) -> usize {
    let mut depth = 1_usize;
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::{Length, functions, number};

    #[test]
    fn numbers_and_lengths_are_read_as_a_browser_reads_them() {
        assert_eq!(number("-1.5e2px"), Some((-150.0, "px")));
        assert_eq!(number(".5em"), Some((0.5, "em")));
        assert_eq!(number("1ex"), Some((1.0, "ex")));
        assert_eq!(number("x"), None);
        let pixels = |value| Length::parse(value).map(Length::pixels);
        assert_eq!((pixels("0"), pixels("12px"), pixels("calc(2px)")), (Some(0.0), Some(12.0), Some(2.0)));
        assert_eq!((pixels("5"), pixels("5x"), pixels(""), pixels("-100dvw")), (None, None, None, Some(-800.0)));
    }

    #[test]
    fn functions_are_read_with_their_arguments() {
        assert_eq!(
            functions("scale(0.5, 2) translate( 3px )"),
            Some(vec![("scale", vec!["0.5", "2"]), ("translate", vec!["3px"])])
        );
        assert_eq!(functions("rgb(0 0 0 / 0"), Some(vec![("rgb", vec!["0", "0", "0", "0"])]));
        assert_eq!(functions("none"), None);
        assert_eq!(functions(""), None);
    }
}
