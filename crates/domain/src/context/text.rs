//! From what HubSpot stores (HTML, quoted, padded) to what a model should read.

/// Wide enough that a paragraph stays a line: wrapping would only cost tokens.
const WIDTH: usize = 10_000;

/// Plain text of a body that may hold HTML: tags gone, entities decoded, runs of blank lines folded, characters that
/// no database or model wants (U+0000) removed.
pub fn plain_text(body: &str) -> String {
    let looks_like_html = body.contains('<') && body.contains('>') || body.contains('&') && body.contains(';');
    let text = if looks_like_html {
        html2text::config::plain_no_decorate()
            // Cells become lines: drawn tables would cost tokens and say no more.
            .raw_mode(true)
            .string_from_read(body.as_bytes(), WIDTH)
            // A body that the HTML parser gives up on is still what somebody wrote.
            .unwrap_or_else(|_| body.to_owned())
    } else {
        body.to_owned()
    };
    let mut plain = String::with_capacity(text.len());
    let mut blank = false;
    for line in text.lines().map(str::trim_end) {
        if line.trim().is_empty() {
            blank = !plain.is_empty();
            continue;
        }
        if blank {
            plain.push('\n');
        }
        blank = false;
        plain.extend(line.chars().filter(|character| *character != '\0'));
        plain.push('\n');
    }
    plain.truncate(plain.trim_end().len());
    plain
}

/// The longest head of `text`, cut at a character, that `count` measures as at most `max` (found by halving: token
/// counts grow with length, nearly evenly).
pub(super) fn head(text: &str, max: usize, count: impl Fn(&str) -> usize) -> &str {
    let ends: Vec<usize> = text.char_indices().map(|(start, character)| start + character.len_utf8()).collect();
    let fitting = ends.partition_point(|end| count(&text[..*end]) <= max);
    &text[..fitting.checked_sub(1).map_or(0, |last| ends[last])]
}

#[cfg(test)]
mod tests {
    use super::{head, plain_text};

    #[test]
    fn html_becomes_text() {
        let body = "<div><p>Budget is <b>50k&nbsp;&euro;</b> &amp; rising</p><p></p><p></p><ul><li>Q1</li></ul></div>";
        let text = plain_text(body);
        assert!(text.contains("50k") && text.contains("& rising") && text.contains("Q1"), "{text}");
        assert!(!text.contains('<') && !text.contains("\n\n\n"), "{text}");
    }

    #[test]
    fn plain_text_and_nul_characters() {
        assert_eq!(plain_text("a < b\0 and c"), "a < b and c");
        assert_eq!(plain_text(" \n\n "), "");
        assert_eq!(plain_text("<p> </p><br/>"), "");
    }

    #[test]
    fn a_head_never_splits_a_character() {
        let text = "größer als gedacht";
        for max in 0..=text.chars().count() {
            let head = head(text, max, |part| part.chars().count());
            assert_eq!(head.chars().count(), max);
        }
    }
}
